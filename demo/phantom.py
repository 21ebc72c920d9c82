"""A drawn chest X-ray: the example for people without an image, and the image of tests.

No patient was ever in this beam: it says PHANTOM on the image and in its header, and what is on it
was put there by `PhantomFinding`. Not a simulation of physics beyond looking right.
"""

from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo import anatomy
from demo.anatomy import IMAGE_CM, Map, PixelGrid, step

BITS = 12
"""Depth of the DICOM image, as of most detectors."""

QUANTA = 1.2e5
"""X-ray quanta a pixel of air: a noise that is seen when the image is enlarged."""

STEEPNESS, MIDDLE = 4.4, 0.6
"""The image curve: how hard it is, and which share of the density range becomes middle grey."""


class PhantomFinding(StrEnum):
    """What is drawn besides the normal chest."""

    NONE = "none"
    LEFT_PLEURAL_EFFUSION = "left pleural effusion"
    CARDIOMEGALY = "cardiomegaly"


def draw_phantom(
    *, seed: int = 0, finding: PhantomFinding = PhantomFinding.NONE, size: int = 1024
) -> NDArray[np.float32]:
    """Draw a frontal (PA) chest X-ray.

    Args:
        seed: course of vessels and ribs, and noise; the same seed gives the same image.
        finding: what is to be seen on it.
        size: pixels a side of the 43 x 43 cm image.

    Returns:
        float32 [size, size] in [0, 1], white is dense.
    """
    rng = np.random.default_rng(seed)
    image = PixelGrid.of(size)
    exposure = np.exp(-_absorption(image, rng, finding))
    exposure = 0.93 * exposure + 0.07 * _blurred(exposure, sigma=size / 14)  # scatter
    exposure = _blurred(exposure, sigma=size / 1600)  # focal spot and detector
    exposure = rng.poisson(exposure * QUANTA) / QUANTA
    pixels = _rendered(-np.log(np.maximum(exposure, 1e-6)), size)
    _burn(pixels, "PHANTOM", x=0.03, y=0.955)
    _burn(pixels, "L", x=0.93, y=0.05)
    return pixels


def _absorption(image: PixelGrid, rng: np.random.Generator, finding: PhantomFinding) -> Map:
    """Natural logarithm of how much of the beam is taken away."""
    air, vessels = image.empty(), image.empty()
    for left in (False, True):
        lung = anatomy.lung(image, left=left)
        air += lung
        vessels += anatomy.branches(image, rng, left=left) * (lung > 0.5)
    scale = 1.42 if finding is PhantomFinding.CARDIOMEGALY else 1.0
    heart = anatomy.heart(image, scale=scale)
    fluid = image.empty()
    if finding is PhantomFinding.LEFT_PLEURAL_EFFUSION:
        fluid = _effusion(image) * air * (image.x > 0)
    # Lung is a third soft tissue; what lies in it takes the place of air
    air = 0.72 * air * (1 + 0.03 * _texture(image, rng))
    air = np.clip(air - 1.1 * heart - 1.25 * vessels - fluid, 0, None)
    body = anatomy.body(image)
    soft = np.clip(body - air - anatomy.airways(image) * (body > 3), 0, None)
    soft *= 1 + 0.02 * _cloud(image, rng)
    bone = anatomy.ribs(image, rng) + anatomy.spine(image) + anatomy.shoulders(image)
    return 0.185 * soft + 0.33 * np.clip(bone, 0, None) * np.clip(body / 6, 0, 1)


def _effusion(image: PixelGrid) -> Map:
    """Share of the left lung's depth that is fluid: a meniscus that climbs at the side."""
    level = 30.0 - 6.6 * np.clip((image.x - 3.0) / 11.6, 0, 1) ** 2.6
    return step(image.y - level, width=2.4)


def _cloud(image: PixelGrid, rng: np.random.Generator) -> Map:
    """Slow unevenness of soft tissue, about -1 to 1."""
    at = (np.arange(len(image.x)) + 0.5) / len(image.x) * 8
    return _enlarged(rng.normal(size=(9, 9)), at)


def _texture(image: PixelGrid, rng: np.random.Generator) -> Map:
    """Fine unevenness of lung, about -1 to 1: vessels too small to be drawn one by one."""
    total = image.empty()
    for cells in (60, 110, 190):
        at = np.linspace(0, cells - 1, len(image.x))
        total += _enlarged(rng.normal(size=(cells, cells)), at)
    return total / 3


def _enlarged(grid: Map, at: Map) -> Map:
    """Values between the points of a square grid, at places along both of its axes."""
    points = np.arange(len(grid))
    rows = np.array([np.interp(at, points, line) for line in grid])
    return np.array([np.interp(at, points, line) for line in rows.T]).T


def _rendered(density: Map, size: int) -> NDArray[np.float32]:
    """What a digital system does to logarithmic values: detail up, an image-like curve."""
    detail = density - _blurred(density, sigma=size / 90)
    shown = density + 0.55 * detail
    low, high = np.percentile(shown, (1.0, 99.9))
    grey = np.clip((shown - low) / (high - low), 0, 1)
    curve = 1 / (1 + np.exp(-STEEPNESS * (grey - MIDDLE)))
    ends = 1 / (1 + np.exp(STEEPNESS * np.array([MIDDLE, MIDDLE - 1])))
    pixels: NDArray[np.float32] = ((curve - ends[0]) / (ends[1] - ends[0])).astype(np.float32)
    return pixels


def _blurred(values: Map, *, sigma: float) -> Map:
    """Gaussian blur with mirrored edges, by way of frequencies."""
    padded = np.pad(values, len(values) // 4, mode="symmetric")
    across = np.fft.rfftfreq(padded.shape[1])
    down = np.fft.fftfreq(padded.shape[0])[:, None]
    kernel = np.exp(-2 * (np.pi * sigma) ** 2 * (across**2 + down**2))
    whole = np.fft.irfft2(np.fft.rfft2(padded) * kernel, s=padded.shape)
    edge = len(values) // 4
    return np.asarray(whole[edge:-edge, edge:-edge])


_LETTERS = {  # 5 x 7, a row of bits a line
    "A": (14, 17, 17, 31, 17, 17, 17),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "T": (31, 4, 4, 4, 4, 4, 4),
}


def _burn(pixels: NDArray[np.float32], text: str, *, x: float, y: float) -> None:
    """Write white letters on a black edge, in place, at a share of the image's side."""
    dot = max(len(pixels) // 256, 1)
    bits = [[(row >> place) & 1 for place in (4, 3, 2, 1, 0)] + [0] for row in range(32)]
    lines = [[bit for letter in text for bit in bits[_LETTERS[letter][row]]] for row in range(7)]
    stencil = np.kron(np.array(lines, dtype=bool), np.ones((dot, dot), dtype=bool))
    top, left = int(y * len(pixels)), int(x * len(pixels))
    pixels[top : top + stencil.shape[0], left : left + stencil.shape[1]][stencil] = 1.0


def write_phantom_dicom(
    path: Path, *, seed: int = 0, finding: PhantomFinding = PhantomFinding.NONE, size: int = 1024
) -> None:
    """Draw a phantom and write it as a DICOM file (DX, MONOCHROME2, 12 bits).

    Args:
        path: the file; replaced if it exists. The same arguments write the same bytes.
        seed: as for `draw_phantom`.
        finding: as for `draw_phantom`.
        size: as for `draw_phantom`.
    """
    from encoders.dicom.write import write_dx  # noqa: PLC0415 - pydicom

    pixels = draw_phantom(seed=seed, finding=finding, size=size)
    top = (1 << BITS) - 1
    write_dx(
        path,
        np.rint(pixels * top).astype(np.uint16),
        bits=BITS,
        spacing_mm=10 * IMAGE_CM / len(pixels),
        patient_name=f"PHANTOM^{finding.name}",
        patient_id=f"PHANTOM-{finding.name}-{seed}",
        description=f"Drawn phantom, no patient: {finding.value}",
    )
