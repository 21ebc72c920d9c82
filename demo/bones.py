"""Bones of the drawn chest: path lengths of X-rays through ribs, spine, clavicles, shoulders.

Owns the skeleton of `demo.phantom`; coordinates as in `demo.anatomy`.
"""

from collections.abc import Sequence

import numpy as np

from demo.anatomy import Map, PixelGrid, step

RIBS = 10
"""Pairs that are drawn; the eleventh and twelfth hide behind the abdomen."""


def shell(image: PixelGrid, points: Sequence[tuple[float, float, float]], *, wall: float) -> Map:
    """Path through a long bone: its cortex, and a third of the marrow inside."""
    inner = [(x, y, max(radius - wall, 0.01)) for x, y, radius in points]
    return image.tube(points) - 0.68 * image.tube(inner)


def rib_course(number: int, *, side: float) -> list[tuple[float, float, float]]:
    """Midline of a rib, from the spine round the side to its cartilage: (x, y, radius).

    The hind part runs down and out, the turn is at the side of the chest, the fore part runs
    down and back to the middle.
    """
    reach = float(np.interp(number, [0, 1, 2, 4, 7, 9], [7.6, 9.9, 11.6, 13.6, 14.9, 14.8]))
    start = 5.4 + 2.42 * number
    turn = start + float(np.interp(number, [0, 2, 5, 9], [1.9, 3.4, 5.4, 7.2]))
    front = turn + float(np.interp(number, [0, 2, 5, 9], [2.6, 4.0, 5.4, 4.6]))
    middle = float(np.interp(number, [0, 2, 5, 7, 9], [3.2, 4.2, 6.4, 9.2, 12.4]))
    radius = float(np.interp(number, [0, 1, 9], [0.62, 0.52, 0.55]))
    course = []
    for angle in np.linspace(-np.pi / 2, 0, 26):  # hind part: a quarter of an ellipse
        x = 0.9 + (reach - 0.9) * np.cos(angle) ** 0.92
        neck = np.interp(x, [0.9, 2.6, 5], [0.45, 0.75, 0.92])
        course.append((side * x, turn + (turn - start) * np.sin(angle), radius * neck))
    for angle in np.linspace(0, np.pi / 2, 22)[1:]:
        x = middle + (reach - middle) * np.cos(angle) ** 0.85
        course.append((side * x, turn + (front - turn) * np.sin(angle) ** 1.25, radius * 0.92))
    return course


def ribs(image: PixelGrid, rng: np.random.Generator) -> Map:
    """All ribs of both sides. Hind and fore parts cross, so they add up."""
    total = image.empty()
    for number in range(RIBS):
        shift = rng.normal(0, 0.08)
        for side in (-1.0, 1.0):
            course = [(x, y + shift, r) for x, y, r in rib_course(number, side=side)]
            hind, fore = course[:26], course[25:]
            behind = shell(image, hind, wall=0.13)
            # They cross and add up, but are one bone where the rib turns at the side
            apart = step(abs(fore[0][0]) - 1.5 - np.abs(image.x), width=1.4)
            front = shell(image, fore, wall=0.13) * _cartilage(image, fore) * (1 - 0.3 * apart)
            total += np.maximum(behind, front) + np.minimum(behind, front) * apart
    return total


def _cartilage(image: PixelGrid, fore: Sequence[tuple[float, float, float]]) -> Map:
    """1 in bone, 0 in the cartilage that the fore end of a rib turns into."""
    x, _, _ = fore[-1]
    return step(np.abs(image.x) - abs(x) - 0.4, width=1.2)


def spine(image: PixelGrid) -> Map:
    """Vertebrae with their end plates, pedicles and spinous processes."""
    total = image.empty()
    top = -0.9
    for number in range(19):
        high = 1.75 + 0.05 * number
        middle = top + high / 2
        half = float(np.interp(middle, [0, 8, 25, 43], [1.35, 1.5, 1.8, 2.2]))
        box = image.box(0, middle, 0, middle, margin=3.0)
        across, down = np.abs(image.x[box]), np.abs(image.y[box] - middle)
        waist = 0.14 * (np.clip(down / (high / 2), 0, 1) ** 2 - 1)
        inside = step(half + waist - across, width=0.3) * step(high / 2 - down, width=0.34)
        plates = np.exp(-(((down - high / 2 + 0.1) / 0.13) ** 2))
        total[box] += inside * (0.62 + 0.22 * plates)
        for side in (-1, 1):
            eye = image.ellipsoid(side * half * 0.62, middle - 0.1, wide=0.28, high=0.42, deep=0.4)
            total += 0.42 * eye - 0.3 * np.minimum(eye, 0.5)
        total += 0.4 * image.ellipsoid(0, middle + 0.55, wide=0.2, high=0.6, deep=0.5)
        top += high + 0.36
    return total * np.interp(image.y, [0, 28, 33, 43], [1, 1, 0.6, 0.6])


_CLAVICLE = (
    *((2.0, 9.9, 0.62), (3.2, 9.6, 0.6), (5.2, 9.1, 0.5), (7.4, 8.6, 0.46), (9.6, 7.9, 0.46)),
    *((12.2, 7.0, 0.52), (14.6, 6.4, 0.6), (16.6, 6.4, 0.56)),
)
_BLADE_EDGE = (
    *((15.6, 9.4, 0.36), (15.2, 11.5, 0.33), (14.9, 13.5, 0.3), (14.8, 15.5, 0.28)),
    *((14.9, 17.5, 0.26), (15.3, 19.4, 0.24)),
)


def shoulders(image: PixelGrid) -> Map:
    """Clavicles, shoulder blades and heads of the humerus."""
    total = image.empty()
    for side in (-1.0, 1.0):
        total += shell(image, [(side * x, y, r) for x, y, r in _CLAVICLE], wall=0.15)
        total += 0.8 * shell(image, [(side * x, y, r) for x, y, r in _BLADE_EDGE], wall=0.13)
        blade = step(np.abs(image.x) - 15.2, width=1.2) * step(19.5 - np.abs(image.x), width=2.5)
        total += 0.16 * blade * step(image.y - 9, width=2.5) * step(19.5 - image.y, width=4.0)
        head = image.ellipsoid(side * 20.4, 10.4, wide=2.5, high=2.6, deep=1.3)
        total += 0.4 * head + 0.3 * np.minimum(head, 0.6)
    return total
