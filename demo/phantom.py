"""Draws a chest X-ray of nobody, for the demo and for tests.

It is marked PHANTOM in the pixels and in the header, and shows what `PhantomFinding` says. The
physics is simulated only as far as needed to look right.
"""

from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo import anatomy
from demo.anatomy import IMAGE_CM, Map, PixelGrid, soft_step

BITS = 12
"""Of the DICOM image, as of most detectors."""

QUANTA = 1.2e5
"""X-ray quanta per pixel of air; their noise is visible at full resolution."""

CONTRAST, MIDDLE = 4.4, 0.6
"""Of the sigmoid grey curve: its slope, and the fraction of the density range that is mid-grey."""


class PhantomFinding(StrEnum):
    """What is drawn in an otherwise normal chest."""

    NONE = "none"
    LEFT_PLEURAL_EFFUSION = "left pleural effusion"
    CARDIOMEGALY = "cardiomegaly"


def draw_phantom(
    *, seed: int = 0, finding: PhantomFinding = PhantomFinding.NONE, size: int = 1024
) -> NDArray[np.float32]:
    """Draw a frontal (PA) chest X-ray.

    Args:
        seed: of vessels, ribs and noise.
        finding: what the image shows.
        size: pixels per side of the 43 x 43 cm image.

    Returns:
        float32 [size, size] in [0, 1], white is dense.
    """
    rng = np.random.default_rng(seed)
    image = PixelGrid.square(size)
    exposure = np.exp(-_absorption(image, rng, finding))
    exposure = 0.93 * exposure + 0.07 * _blur(exposure, sigma=size / 14)  # scatter
    exposure = _blur(exposure, sigma=size / 1600)  # focal spot and detector
    exposure = rng.poisson(exposure * QUANTA) / QUANTA
    pixels = _render(-np.log(np.maximum(exposure, 1e-6)), size)
    _burn_in(pixels, "PHANTOM", x=0.03, y=0.955)
    _burn_in(pixels, "L", x=0.93, y=0.05)
    return pixels


def _absorption(image: PixelGrid, rng: np.random.Generator, finding: PhantomFinding) -> Map:
    """Natural logarithm of the beam's attenuation."""
    air, vessels = image.empty(), image.empty()
    for left in (False, True):
        lung = anatomy.lung(image, left=left)
        air += lung
        vessels += anatomy.lung_vessels(image, rng, left=left) * (lung > 0.5)
    scale = 1.42 if finding is PhantomFinding.CARDIOMEGALY else 1.0
    heart = anatomy.heart(image, scale=scale)
    fluid = image.empty()
    if finding is PhantomFinding.LEFT_PLEURAL_EFFUSION:
        fluid = _effusion(image) * air * (image.x > 0)
    # lung is about a third soft tissue; heart, vessels and fluid displace air
    air = 0.72 * air * (1 + 0.03 * _lung_texture(image, rng))
    air = np.clip(air - 1.1 * heart - 1.25 * vessels - fluid, 0, None)
    body = anatomy.body(image)
    soft = np.clip(body - air - anatomy.airways(image) * (body > 3), 0, None)
    soft *= 1 + 0.02 * _tissue_texture(image, rng)
    bone = anatomy.ribs(image, rng) + anatomy.spine(image) + anatomy.shoulders(image)
    return 0.185 * soft + 0.33 * np.clip(bone, 0, None) * np.clip(body / 6, 0, 1)


def _effusion(image: PixelGrid) -> Map:
    """Fraction of the left lung's depth that is fluid, with a meniscus rising laterally."""
    level = 30.0 - 6.6 * np.clip((image.x - 3.0) / 11.6, 0, 1) ** 2.6
    return soft_step(image.y - level, width=2.4)


def _tissue_texture(image: PixelGrid, rng: np.random.Generator) -> Map:
    """Coarse noise of soft tissue, about -1 to 1."""
    positions = (np.arange(len(image.x)) + 0.5) / len(image.x) * 8
    return _interpolate(rng.normal(size=(9, 9)), positions)


def _lung_texture(image: PixelGrid, rng: np.random.Generator) -> Map:
    """Fine noise of lung, about -1 to 1, for the vessels too small to draw."""
    total = image.empty()
    for cells in (60, 110, 190):
        positions = np.linspace(0, cells - 1, len(image.x))
        total += _interpolate(rng.normal(size=(cells, cells)), positions)
    return total / 3


def _interpolate(grid: Map, positions: Map) -> Map:
    """Bilinear interpolation of a square grid at the same positions along both axes."""
    points = np.arange(len(grid))
    rows = np.array([np.interp(positions, points, row) for row in grid])
    return np.array([np.interp(positions, points, column) for column in rows.T]).T


def _render(density: Map, size: int) -> NDArray[np.float32]:
    """Enhance detail and apply the grey curve, as a digital X-ray system does."""
    detail = density - _blur(density, sigma=size / 90)
    enhanced = density + 0.55 * detail
    low, high = np.percentile(enhanced, (1.0, 99.9))
    grey = np.clip((enhanced - low) / (high - low), 0, 1)
    curve = 1 / (1 + np.exp(-CONTRAST * (grey - MIDDLE)))
    ends = 1 / (1 + np.exp(CONTRAST * np.array([MIDDLE, MIDDLE - 1])))
    pixels: NDArray[np.float32] = ((curve - ends[0]) / (ends[1] - ends[0])).astype(np.float32)
    return pixels


def _blur(values: Map, *, sigma: float) -> Map:
    """Gaussian blur with mirrored edges, in the frequency domain."""
    padded = np.pad(values, len(values) // 4, mode="symmetric")
    across = np.fft.rfftfreq(padded.shape[1])
    down = np.fft.fftfreq(padded.shape[0])[:, None]
    kernel = np.exp(-2 * (np.pi * sigma) ** 2 * (across**2 + down**2))
    blurred = np.fft.irfft2(np.fft.rfft2(padded) * kernel, s=padded.shape)
    edge = len(values) // 4
    return np.asarray(blurred[edge:-edge, edge:-edge])


_LETTERS = {  # 5 x 7 pixels, the bits of each row
    "A": (14, 17, 17, 31, 17, 17, 17),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "T": (31, 4, 4, 4, 4, 4, 4),
}


def _burn_in(pixels: NDArray[np.float32], text: str, *, x: float, y: float) -> None:
    """Write white letters in place; x and y are fractions of the image's side."""
    dot = max(len(pixels) // 256, 1)
    bits = [[(row >> bit) & 1 for bit in (4, 3, 2, 1, 0)] + [0] for row in range(32)]
    rows = [[bit for letter in text for bit in bits[_LETTERS[letter][row]]] for row in range(7)]
    stencil = np.kron(np.array(rows, dtype=bool), np.ones((dot, dot), dtype=bool))
    top, left = int(y * len(pixels)), int(x * len(pixels))
    pixels[top : top + stencil.shape[0], left : left + stencil.shape[1]][stencil] = 1.0


def write_phantom_dicom(
    path: Path, *, seed: int = 0, finding: PhantomFinding = PhantomFinding.NONE, size: int = 1024
) -> None:
    """Draw a phantom and write it as a DICOM file (DX, MONOCHROME2, 12 bits).

    The same arguments, as for `draw_phantom`, write the same bytes.
    """
    from encoders.dicom.write import write_dx  # noqa: PLC0415 - pydicom

    pixels = draw_phantom(seed=seed, finding=finding, size=size)
    max_value = (1 << BITS) - 1
    write_dx(
        path,
        np.rint(pixels * max_value).astype(np.uint16),
        bits=BITS,
        spacing_mm=10 * IMAGE_CM / len(pixels),
        patient_name=f"PHANTOM^{finding.name}",
        patient_id=f"PHANTOM-{finding.name}-{seed}",
        description=f"Drawn phantom, no patient: {finding.value}",
    )
