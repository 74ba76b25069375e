"""The shoulder girdle in the axes of one shoulder: origin in the humeral head, x towards the midline, y down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xrayssl.data.phantom.shapes import Frame, Map, Mask, Point, blur, ellipsoid, polygon, smooth_curve, tube

NECK = np.pi / 4  # the head looks up and inwards, 135 degrees from the shaft


@dataclass(frozen=True)
class Girdle:
    """Build of one patient's shoulder.

    Args:
        size: Relative to an average adult.
        mineral: Bone density relative to a young adult.
        cortex: Thickness of the shaft's cortex in cm.
        slope: How steeply the clavicle rises outwards, in cm over its length.
        blade: Turn of the scapula in radians.
    """

    size: float
    mineral: float
    cortex: float
    slope: float
    blade: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Girdle:
        """A patient at random."""
        return cls(
            float(np.clip(rng.normal(1, 0.06), 0.86, 1.14)),
            rng.uniform(0.75, 1.15),
            rng.uniform(0.32, 0.5),
            rng.normal(2.2, 0.9),
            rng.normal(0, 0.08),
        )


@dataclass(frozen=True)
class Fracture:
    """A break through the upper humerus.

    Args:
        level: Where it crosses the shaft's axis, in cm below the head's centre.
        slant: Its tilt in radians.
        shift: Sideways displacement of the lower fragment in cm.
        bend: Angulation of the lower fragment in radians.
        gap: Width of the gap in cm.
        phase: Shape of its jagged edge.
    """

    level: float
    slant: float
    shift: float
    bend: float
    gap: float
    phase: float

    def depth(self, arm: Frame) -> Map:
        """Distance below the jagged line, in cm."""
        jag = 0.17 * np.sin(arm.x * 3.7 + self.phase) + 0.06 * np.sin(arm.x * 10.3 + 2 * self.phase)
        return arm.y - np.float32(self.level) - np.float32(np.tan(self.slant)) * arm.x + jag


def _shaft(arm: Frame, size: float, shrink: Map | float) -> Map:
    """Squared half chord of the tapering shaft: wide under the head, then a long cylinder."""
    t = np.clip((arm.y / np.float32(size) + 0.3) / 6.5, 0, 1)
    radius = np.float32(size) * (1.12 + 1.05 * (1 - t) ** 2 * (1 + t)) - shrink
    radius = radius - np.float32(0.4) * np.maximum(np.float32(1.4) - arm.y, 0) ** 2  # rounds the tubercle
    square = radius * radius - (arm.x + np.float32(0.45 * size)) ** 2
    return np.where(arm.y > np.float32(-0.2 * size), np.where(radius > 0, square, 0), 0)


def humerus_solid(arm: Frame, size: float, shrink: Map | float = 0.0) -> Map:
    """Chord through head, greater tubercle and shaft in cm, each `shrink` cm smaller."""
    less = float(np.min(shrink))
    head = ellipsoid(arm, (0.0, 0.0), (2.35 * size - less,) * 3)
    bump = ellipsoid(arm, (-1.55 * size, 0.15 * size), (0.95 * size - less, 1.7 * size - less, 1.1 * size))
    shaft = 2 * np.sqrt(np.maximum(_shaft(arm, size, shrink), 0))
    return np.maximum(np.maximum(head, bump), shaft)


def humerus(arm: Frame, girdle: Girdle, grain: Map) -> tuple[Map, Map]:
    """Bone of the humerus along the beam, and the chord through it filled, both in cm.

    The cortex is thin over the head and thickens down the shaft; the head is filled with trabecular bone, the shaft
    with marrow.
    """
    size = girdle.size
    down = np.clip(arm.y / np.float32(7 * size), 0, 1)
    outer = humerus_solid(arm, size)
    inner = np.minimum(humerus_solid(arm, size, 0.13 + np.float32(girdle.cortex - 0.1) * down), outer)
    trabecular = inner * (np.float32(0.17) * (1 - down) + np.float32(0.015)) * (1 + np.float32(0.11) * grain)
    return np.float32(girdle.mineral) * (outer - inner + trabecular), outer


def broken(arm: Frame, fracture: Fracture) -> tuple[Frame, Map, Mask]:
    """The arm's axes with the lower fragment displaced, the share of bone left, and where the line runs."""
    depth = fracture.depth(arm)
    hinge = (-0.4, fracture.level)
    lower = arm.seen_from(hinge).turned(fracture.bend)
    below = depth > 0
    x = np.where(below, lower.x + np.float32(hinge[0] + fracture.shift), arm.x)
    y = np.where(below, lower.y + np.float32(hinge[1]), arm.y)
    left = np.minimum(np.abs(depth) / np.float32(0.5 * fracture.gap), np.float32(1))
    return Frame(x, y, arm.pixel, arm.to_pixel), left, np.abs(depth) < np.float32(0.5 * fracture.gap + 0.35)


def _plate(frame: Frame, outline: list[Point], body: float, rim: float, width: float) -> Map:
    """A flat bone: `body` cm along the beam, `rim` cm more towards its edge, over a border `width` cm wide."""
    curve = smooth_curve(outline, closed=True)
    window = frame.window(*_corners(curve), 2.5 * width)
    area, plate = polygon(frame.crop(window), curve), frame.empty()
    if not area.size:  # outside the film
        return plate
    soft = blur(area, width / frame.pixel)
    plate[window] = area * (np.float32(body) + np.float32(rim) * np.clip(2 - 2 * soft, 0, 1))
    return plate


def _corners(curve: NDArray[np.float64]) -> tuple[Point, Point]:
    low, high = curve.min(0).tolist(), curve.max(0).tolist()
    return (low[0], low[1]), (high[0], high[1])


def scapula(frame: Frame, girdle: Girdle) -> Map:
    """Bone of the scapula along the beam in cm: blade, glenoid, spine with acromion, coracoid."""
    s = girdle.size
    local = frame.turned(girdle.blade)
    blade = _plate(local, _scaled(BLADE, s), 0.10, 0.42, 0.30)
    glenoid = _plate(local, _scaled(GLENOID, s), 0.35, 0.60, 0.22)
    acromion = _plate(local, _scaled(ACROMION, s), 0.28, 0.42, 0.25)
    coracoid = _plate(local, _scaled(CORACOID, s), 0.30, 0.55, 0.22)
    neck = ellipsoid(local, (4.3 * s, 0.1 * s), (1.5 * s, 1.6 * s, 0.35), 0.2)
    border = tube(local, _scaled([(3.4, 2.2), (4.6, 5.5), (6.3, 10.6)], s), [0.55, 0.42, 0.3])
    flat = blade + np.float32(0.5) * neck + np.float32(0.35) * border
    return np.float32(girdle.mineral) * (flat + glenoid + acromion + coracoid)


def clavicle(frame: Frame, girdle: Girdle, length: float) -> Map:
    """Bone of the S-shaped clavicle along the beam in cm, from the acromion `length` cm inwards."""
    s, rise = girdle.size, girdle.slope
    knots = [
        (1.3 * s, -4.0 * s),
        (0.25 * length, -4.3 * s),
        (0.48 * length, -3.8 * s - 0.1 * rise),
        (0.72 * length, -2.9 * s + 0.45 * rise),
        (length, -2.4 * s + rise),
    ]
    line = [(float(x), float(y)) for x, y in smooth_curve(knots, steps=2)]
    wide = np.interp(np.linspace(0, 1, len(line)), [0, 0.2, 0.55, 0.85, 1], [0.6, 0.62, 0.5, 0.58, 0.8]) * s
    outer, inner = tube(frame, line, list(wide)), tube(frame, line, list(wide - 0.17))
    return np.float32(0.85 * girdle.mineral) * (outer - np.float32(0.82) * inner)


def _scaled(points: list[Point], size: float) -> list[Point]:
    return [(x * size, y * size) for x, y in points]


BLADE: list[Point] = [
    (3.2, -1.2),
    (5.0, -2.2),
    (8.2, -3.6),
    (9.0, -1.0),
    (8.9, 3.0),
    (8.0, 8.0),
    (6.9, 11.8),
    (6.0, 11.2),
    (4.9, 7.0),
    (3.9, 3.8),
    (3.1, 2.0),
]
GLENOID: list[Point] = [(2.6, -1.7), (3.4, -1.5), (3.9, 0.2), (3.6, 2.0), (2.8, 2.2), (2.35, 1.2), (2.3, -0.6)]
ACROMION: list[Point] = [
    (-1.8, -2.8),
    (-1.2, -3.6),
    (0.6, -4.1),
    (2.4, -3.3),
    (4.4, -2.2),
    (7.2, -0.9),
    (9.0, -0.4),
    (8.9, 0.4),
    (6.8, 0.0),
    (4.2, -1.1),
    (2.0, -2.4),
    (0.4, -3.1),
    (-1.2, -2.7),
]
CORACOID: list[Point] = [
    (4.4, -2.3),
    (3.6, -2.4),
    (2.7, -1.9),
    (1.9, -0.9),
    (1.9, -0.3),
    (2.5, -0.4),
    (3.2, -1.0),
    (4.2, -1.2),
]
