"""Path lengths of X-rays through the phantom's organs, in centimetres per pixel.

Ellipsoids and tubes in parallel projection onto a 43 x 43 cm image. Coordinates in centimetres: x
from the midline to the right, where the patient's left is, and y down from the upper edge. The
proportions are a textbook's, not a patient's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]
Centreline = Sequence[tuple[float, float, float]]
"""Points of a tube: (x, y, radius)."""

IMAGE_CM = 43.0
_RIB_PAIRS = 10
"""The eleventh and twelfth are hidden by the abdomen."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelGrid:
    """Coordinates of the pixel centres in centimetres, float64 [size, size] each."""

    x: Map
    y: Map

    @classmethod
    def square(cls, size: int) -> "PixelGrid":
        """A square image of ``size`` pixels a side."""
        centres = (np.arange(size) + 0.5) * (IMAGE_CM / size)
        return cls(*np.meshgrid(centres - IMAGE_CM / 2, centres))

    def empty(self) -> Map:
        """A map of zeros."""
        return np.zeros_like(self.x)

    def ellipsoid(
        self, x: float, y: float, *, wide: float, high: float, deep: float, rotation: float = 0.0
    ) -> Map:
        """Path through an ellipsoid of these half axes, rotated clockwise by degrees."""
        cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
        path = self.empty()
        box = self.box(x, y, x, y, margin=max(wide, high))
        across = ((self.x[box] - x) * cos + (self.y[box] - y) * sin) / wide
        down = (-(self.x[box] - x) * sin + (self.y[box] - y) * cos) / high
        path[box] = 2 * deep * np.sqrt(np.clip(1 - across**2 - down**2, 0, None))
        return path

    def tube(self, points: Centreline) -> Map:
        """Path through a round tube; its segments do not add up where they join."""
        path = self.empty()
        for (x0, y0, r0), (x1, y1, r1) in pairwise(points):
            box = self.box(x0, y0, x1, y1, margin=max(r0, r1))
            x, y = self.x[box], self.y[box]
            length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1e-9)
            along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length, 0, 1)
            distance = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
            radius = r0 + along * (r1 - r0)
            chord = 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
            path[box] = np.maximum(path[box], chord)
        return path

    def box(
        self, x0: float, y0: float, x1: float, y1: float, *, margin: float
    ) -> tuple[slice, slice]:
        """Slices of the grid around a line segment."""
        scale, size = len(self.x) / IMAGE_CM, len(self.x)
        low = [min(y0, y1) - margin, min(x0, x1) - margin + IMAGE_CM / 2]
        high = [max(y0, y1) + margin, max(x0, x1) + margin + IMAGE_CM / 2]
        first = [int(np.clip(v * scale - 1, 0, size)) for v in low]
        last = [int(np.clip(v * scale + 2, 0, size)) for v in high]
        return slice(first[0], last[0]), slice(first[1], last[1])


def soft_step(values: Map, *, width: float) -> Map:
    """Rises from 0 to 1 around zero, over about ``width``."""
    return np.asarray(0.5 * (1 + np.tanh(2 * values / width)))


def profile(positions: Map, knots: Sequence[tuple[float, float]]) -> Map:
    """A piecewise linear curve through knots (position, value), smoothed."""
    knot_positions, values = zip(*knots, strict=True)
    before, centre, after = (
        np.interp(positions + shift, knot_positions, values) for shift in (-0.6, 0.0, 0.6)
    )
    return np.asarray((before + 2 * centre + after) / 4)


def body(image: PixelGrid) -> Map:
    """Soft tissue of the trunk, as if it had no lungs."""
    half = profile(
        image.y,
        [
            *((0, 5.4), (2, 5.8), (4, 8.6), (6.5, 15.5), (9, 22), (13, 23), (16.5, 18.6)),
            *((20, 17.2), (26, 16.8), (34, 16.6), (43, 17.0)),
        ],
    )
    deep = profile(image.y, [(0, 11), (4, 13), (8, 17), (14, 20), (24, 21.5), (34, 21), (43, 20)])
    edge = np.clip(1 - (np.abs(image.x) / half) ** 3.2, 0, None)
    return deep * edge**0.45


def lung(image: PixelGrid, *, left: bool) -> Map:
    """Path through one lung, not yet reduced by heart and vessels."""
    x = image.x if left else -image.x
    dome_top = 30.2 if left else 28.9
    lateral = profile(
        image.y,
        [
            *((4.6, 5.6), (5.6, 7.3), (7.5, 9.2), (11, 11.4), (16, 13.1), (22, 14.1)),
            *((28, 14.6), (33, 14.8), (36, 14.6)),
        ],
    )
    medial = profile(
        image.y, [(4.6, 4.4), (6, 3.0), (9, 2.4), (14, 2.1), (22, 1.9), (30, 1.7), (36, 1.6)]
    )
    centre, half = (lateral + medial) / 2, np.maximum((lateral - medial) / 2, 0.05)
    across = np.clip(1 - np.abs((x - centre) / half) ** 2.6, 0, None) ** 0.5
    deep = profile(image.y, [(4.6, 1), (6, 5), (9, 10), (14, 14), (22, 16), (30, 17), (36, 15)])
    dome = dome_top + 0.026 * (x - 7.2) ** 2 + 0.0016 * np.clip(x - 9.5, 0, None) ** 4
    apex = soft_step(image.y - (5.0 + 0.09 * (x - 5.6) ** 2), width=0.8)
    below = image.y - dome
    # above the dome all is lung; below it only the posterior recess, which tapers off
    recess = 0.16 * np.clip(1 - below / 4.5, 0, 1) ** 1.3
    return deep * across * apex * (recess + (1 - recess) * soft_step(-below, width=0.35))


def heart(image: PixelGrid, *, scale: float = 1.0) -> Map:
    """Heart and great vessels."""
    s = scale
    parts = [
        image.ellipsoid(1.0 + 1.3 * s, 25.9, wide=6.4 * s, high=5.0 * s, deep=4.0, rotation=34),
        # next to the diaphragm
        image.ellipsoid(2.2 * s, 28.6, wide=5.2 * s, high=2.9, deep=3.6, rotation=8),
        image.ellipsoid(-0.8 - 0.5 * (s - 1), 25.0, wide=3.9 * s, high=5.6, deep=3.5, rotation=4),
        image.ellipsoid(1.7, 19.3, wide=2.7, high=2.9, deep=2.3, rotation=24),  # pulmonary trunk
        image.ellipsoid(1.7, 14.5, wide=1.9, high=1.9, deep=2.2),  # aortic knob
        image.tube([(-1.3, 8.5, 1.1), (-1.6, 15, 1.25), (-1.5, 22, 1.6)]),  # superior vena cava
        image.tube([(1.6, 14.6, 1.25), (1.6, 20, 1.2), (1.2, 33, 1.1)]),  # descending aorta
    ]
    return np.asarray(np.maximum.reduce(parts))


def airways(image: PixelGrid) -> Map:
    """Air in trachea, main bronchi and stomach."""
    tree = [
        image.tube([(0.1, 0, 0.88), (0.05, 6, 0.88), (0.2, 13.4, 0.82)]),
        image.tube([(0.2, 13.4, 0.74), (-1.5, 15.8, 0.62), (-3.1, 18.6, 0.42)]),
        image.tube([(0.2, 13.4, 0.68), (2.4, 16.2, 0.54), (4.2, 18.2, 0.36)]),
    ]
    bubble = image.ellipsoid(6.6, 34.6, wide=3.3, high=2.0, deep=2.6, rotation=-10)
    bubble = bubble * soft_step(35.5 - image.y, width=0.12)  # above a fluid level
    return 1.25 * np.asarray(np.maximum.reduce(tree)) + bubble


_HILAR_ARTERIES = {  # outward direction in degrees below horizontal, radius in cm
    False: ((-68, 0.42), (-40, 0.4), (-10, 0.36), (18, 0.34), (46, 0.42), (72, 0.62), (84, 0.44)),
    True: ((-64, 0.42), (-34, 0.42), (-6, 0.36), (22, 0.36), (44, 0.4), (64, 0.6), (80, 0.42)),
}
"""First branches of the right and left (True) pulmonary artery."""


def lung_vessels(image: PixelGrid, rng: np.random.Generator, *, left: bool) -> Map:
    """Pulmonary vessels of one lung: a random tree from the hilum."""
    side = 1.0 if left else -1.0
    x, y = side * 3.0, 17.4 if left else 18.6
    path = image.tube(
        [(x, y - 1.4, 0.8), (x + side * 0.5, y, 0.95), (x + side * 0.6, y + 2.4, 0.7)]
    )
    pending = [
        (x, y, np.radians(angle + rng.uniform(-6, 6)), radius * rng.uniform(1.0, 1.25), 0)
        for angle, radius in _HILAR_ARTERIES[left]
    ]
    while pending:
        x, y, direction, radius, depth = pending.pop()
        points = [(x, y, radius)]
        for _ in range(3):
            direction += rng.normal(0, 0.13)
            length = rng.uniform(0.55, 0.85)
            x, y = x + side * length * np.cos(direction), y + length * np.sin(direction)
            radius *= 0.955
            points.append((x, y, radius))
        path = np.maximum(path, image.tube(points))
        if depth < 5:
            for fork in (-1, 1):
                angle = direction + fork * rng.uniform(0.15, 0.55)
                pending.append((x, y, angle, radius * rng.uniform(0.66, 0.86), depth + 1))
    return path


def _long_bone(image: PixelGrid, points: Centreline, *, wall: float) -> Map:
    """Path through the cortex of a long bone, and a third of that through its marrow."""
    inner = [(x, y, max(radius - wall, 0.01)) for x, y, radius in points]
    return image.tube(points) - 0.68 * image.tube(inner)


def _rib(number: int, *, side: float) -> Centreline:
    """A rib from the spine to its cartilage.

    The posterior part runs down and outwards to the side of the chest, the anterior part down and
    back towards the midline.
    """
    reach = float(np.interp(number, [0, 1, 2, 4, 7, 9], [7.6, 9.9, 11.6, 13.6, 14.9, 14.8]))
    start = 5.4 + 2.42 * number
    turn = start + float(np.interp(number, [0, 2, 5, 9], [1.9, 3.4, 5.4, 7.2]))
    front = turn + float(np.interp(number, [0, 2, 5, 9], [2.6, 4.0, 5.4, 4.6]))
    middle = float(np.interp(number, [0, 2, 5, 7, 9], [3.2, 4.2, 6.4, 9.2, 12.4]))
    radius = float(np.interp(number, [0, 1, 9], [0.62, 0.52, 0.55]))
    points = []
    for angle in np.linspace(-np.pi / 2, 0, 26):  # posterior: a quarter of an ellipse
        x = 0.9 + (reach - 0.9) * np.cos(angle) ** 0.92
        neck = np.interp(x, [0.9, 2.6, 5], [0.45, 0.75, 0.92])
        points.append((side * x, turn + (turn - start) * np.sin(angle), radius * neck))
    for angle in np.linspace(0, np.pi / 2, 22)[1:]:
        x = middle + (reach - middle) * np.cos(angle) ** 0.85
        points.append((side * x, turn + (front - turn) * np.sin(angle) ** 1.25, radius * 0.92))
    return points


def ribs(image: PixelGrid, rng: np.random.Generator) -> Map:
    """All ribs; anterior and posterior parts add up where they cross."""
    total = image.empty()
    for number in range(_RIB_PAIRS):
        shift = rng.normal(0, 0.08)
        for side in (-1.0, 1.0):
            points = [(x, y + shift, r) for x, y, r in _rib(number, side=side)]
            posterior = _long_bone(image, points[:26], wall=0.13)
            # no adding up at the side, where both parts are the same piece of bone
            separate = soft_step(abs(points[25][0]) - 1.5 - np.abs(image.x), width=1.4)
            is_bone = soft_step(np.abs(image.x) - abs(points[-1][0]) - 0.4, width=1.2)
            anterior = _long_bone(image, points[25:], wall=0.13) * is_bone * (1 - 0.3 * separate)
            total += np.maximum(posterior, anterior) + np.minimum(posterior, anterior) * separate
    return total


def spine(image: PixelGrid) -> Map:
    """Vertebrae with end plates, pedicles and spinous processes."""
    total = image.empty()
    top = -0.9
    for number in range(19):
        high = 1.75 + 0.05 * number
        middle = top + high / 2
        half = float(np.interp(middle, [0, 8, 25, 43], [1.35, 1.5, 1.8, 2.2]))
        box = image.box(0, middle, 0, middle, margin=3.0)
        across, down = np.abs(image.x[box]), np.abs(image.y[box] - middle)
        waist = 0.14 * (np.clip(down / (high / 2), 0, 1) ** 2 - 1)
        inside = soft_step(half + waist - across, width=0.3) * soft_step(
            high / 2 - down, width=0.34
        )
        plates = np.exp(-(((down - high / 2 + 0.1) / 0.13) ** 2))
        total[box] += inside * (0.62 + 0.22 * plates)
        for side in (-1, 1):
            pedicle = image.ellipsoid(
                side * half * 0.62, middle - 0.1, wide=0.28, high=0.42, deep=0.4
            )
            total += 0.42 * pedicle - 0.3 * np.minimum(pedicle, 0.5)
        total += 0.4 * image.ellipsoid(0, middle + 0.55, wide=0.2, high=0.6, deep=0.5)
        top += high + 0.36
    return total * np.interp(image.y, [0, 28, 33, 43], [1, 1, 0.6, 0.6])


_CLAVICLE = (
    *((2.0, 9.9, 0.62), (3.2, 9.6, 0.6), (5.2, 9.1, 0.5), (7.4, 8.6, 0.46), (9.6, 7.9, 0.46)),
    *((12.2, 7.0, 0.52), (14.6, 6.4, 0.6), (16.6, 6.4, 0.56)),
)
_SCAPULA_EDGE = (
    *((15.6, 9.4, 0.36), (15.2, 11.5, 0.33), (14.9, 13.5, 0.3), (14.8, 15.5, 0.28)),
    *((14.9, 17.5, 0.26), (15.3, 19.4, 0.24)),
)


def shoulders(image: PixelGrid) -> Map:
    """Clavicles, scapulae and humeral heads."""
    total = image.empty()
    for side in (-1.0, 1.0):
        total += _long_bone(image, [(side * x, y, r) for x, y, r in _CLAVICLE], wall=0.15)
        total += 0.8 * _long_bone(image, [(side * x, y, r) for x, y, r in _SCAPULA_EDGE], wall=0.13)
        scapula = soft_step(np.abs(image.x) - 15.2, width=1.2) * soft_step(
            19.5 - np.abs(image.x), width=2.5
        )
        total += (
            0.16
            * scapula
            * soft_step(image.y - 9, width=2.5)
            * soft_step(19.5 - image.y, width=4.0)
        )
        head = image.ellipsoid(side * 20.4, 10.4, wide=2.5, high=2.6, deep=1.3)
        total += 0.4 * head + 0.3 * np.minimum(head, 0.6)
    return total
