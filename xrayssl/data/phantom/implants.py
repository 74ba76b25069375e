"""Shoulder prostheses of four designs, as metal along the beam.

In the axes of the arm (y down the shaft, x towards the midline) the cut surface of the humerus looks up and inwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xrayssl.data.phantom.shapes import Frame, Map, Point, cap, ellipsoid, polygon, tube

Metal = tuple[Map, Map]  # titanium and cobalt-chromium along the beam in cm


@dataclass(frozen=True)
class Fit:
    """Size and seat of one patient's prosthesis.

    Args:
        size: Of the humerus relative to an average adult.
        radius: Of the articular ball in cm.
        height: Of the articular cap in cm.
        stem: Length of the stem in cm.
        girth: Half width of the stem's tip in cm.
        neck: Angle between the shaft's axis and the cut surface's normal, from below, in radians.
        turn: How far the cap looks out of the film's plane in radians.
        holes: Number of suture holes in the fin.
        screws: Number of glenoid screws.
    """

    size: float
    radius: float
    height: float
    stem: float
    girth: float
    neck: float
    turn: float
    holes: int
    screws: int

    @classmethod
    def draw(cls, size: float, patient: np.random.Generator, film: np.random.Generator) -> Fit:
        """A prosthesis at random; only its turn differs between films."""
        return cls(
            size,
            size * patient.uniform(2.2, 2.6),
            size * patient.uniform(1.5, 2.0),
            size * patient.uniform(6.0, 13.0),
            patient.uniform(0.42, 0.62),
            np.radians(patient.uniform(128, 142)),
            film.uniform(0.1, 0.6),
            int(patient.integers(0, 4)),
            int(patient.integers(2, 5)),
        )

    @property
    def normal(self) -> tuple[float, float, float]:
        """Unit vector along which the cap looks, in the arm's axes."""
        flat, angle = np.cos(self.turn), np.pi - self.neck
        return float(flat * np.sin(angle)), float(-flat * np.cos(angle)), float(np.sin(self.turn))

    def along(self, distance: float, across: float = 0.0) -> Point:
        """The point `distance` cm out along the normal and `across` cm beside it (upwards and outwards)."""
        angle = np.pi - self.neck
        out, side = (np.sin(angle), -np.cos(angle)), (-np.cos(angle), -np.sin(angle))
        return float(out[0] * distance + side[0] * across), float(out[1] * distance + side[1] * across)


def stem(arm: Frame, fit: Fit) -> Map:
    """Titanium stem: a broad body under the cut, a lateral fin with suture holes, a long taper, a round tip."""
    s, axis = fit.size, -0.45 * fit.size
    shaft = tube(
        arm, [(axis + 0.15, 0.4 * s), (axis, 3.6 * s), (axis, fit.stem)], [1.05 * s, fit.girth + 0.22, fit.girth]
    )
    shoulder = tube(arm, [fit.along(-0.2), (axis, 2.2 * s)], [1.15 * s, 0.85 * s])
    fin = polygon(
        arm,
        [
            (axis - 1.45 * s, -0.9 * s),
            (axis + 0.2, -0.9 * s),
            (axis + 0.1, 3.4 * s),
            (axis - 0.6 * s, 3.2 * s),
            (axis - 1.3 * s, 0.8 * s),
        ],
    )
    fin = np.float32(0.5) * fin
    for number in range(fit.holes):
        hole = (axis - (1.15 - 0.1 * number) * s, (-0.4 + 0.75 * number) * s)
        fin *= ellipsoid(arm, hole, (0.17, 0.17, 0.5)) == 0
    return np.maximum(np.maximum(shaft, shoulder), fin)


def ball(arm: Frame, fit: Fit) -> Map:
    """Cobalt-chromium head: a cap of a ball on the cut surface."""
    seat = 0.35 * fit.size
    return cap(arm, fit.along(seat + fit.height - fit.radius), fit.radius, fit.normal, fit.radius - fit.height)


def stemmed(arm: Frame, joint: Frame, fit: Fit) -> Metal:
    """Anatomic prosthesis: a cap on a long stem."""
    collar = tube(arm, [fit.along(-0.2), fit.along(0.45 * fit.size)], [0.75, 0.6])
    return np.maximum(stem(arm, fit), collar), ball(arm, fit)


def stemless(arm: Frame, joint: Frame, fit: Fit) -> Metal:
    """A cap held by a short finned anchor in the metaphysis."""
    s, deep = fit.size, -0.16 * fit.stem
    base = polygon(
        arm,
        [
            fit.along(0.35 * s, 1.5 * s),
            fit.along(0.35 * s, -1.5 * s),
            fit.along(0.1 * s, -1.5 * s),
            fit.along(0.1 * s, 1.5 * s),
        ],
    )
    core = tube(arm, [fit.along(0.1), fit.along(deep)], [0.5, 0.32])
    fins = polygon(
        arm,
        [
            fit.along(0.1, 1.35 * s),
            fit.along(deep * 0.75, 0.75 * s),
            fit.along(deep, 0.25),
            fit.along(deep, -0.25),
            fit.along(deep * 0.75, -0.75 * s),
            fit.along(0.1, -1.35 * s),
        ],
    )
    return np.maximum(np.maximum(core, 1.2 * base), 0.28 * fins), ball(arm, fit)


def reverse(arm: Frame, joint: Frame, fit: Fit) -> Metal:
    """A ball on the glenoid, a cup on the humerus: the joint turned round."""
    s, radius = fit.size, 0.86 * fit.radius
    looks = (-float(np.cos(fit.turn)), 0.0, float(np.sin(fit.turn)))
    sphere = cap(joint, (3.0 * s, 0.9 * s), radius, looks, -0.1 * radius)
    plate = tube(joint, [(3.15 * s, -0.4 * s), (3.15 * s, 2.2 * s)], 0.26)
    metal = np.maximum(plate, tube(joint, [(3.2 * s, 0.9 * s), (4.9 * s, 0.75 * s)], [0.42, 0.3]))
    for number, rise in enumerate((-0.42, 0.30, -0.15, 0.12)[: fit.screws]):
        start = (3.2 * s, (0.0, 1.8, 0.4, 1.3)[number] * s)
        end = (start[0] + 2.9 * s, start[1] + 2.9 * s * rise)
        metal = np.maximum(metal, tube(joint, [start, end], [0.24, 0.17]))
    tray = polygon(
        arm,
        [
            fit.along(0.55 * s, 1.75 * s),
            fit.along(0.55 * s, -1.75 * s),
            fit.along(0.15 * s, -1.6 * s),
            fit.along(-0.9 * s, -0.75 * s),
            fit.along(-0.9 * s, 0.75 * s),
            fit.along(0.15 * s, 1.6 * s),
        ],
    )
    return np.maximum(np.maximum(metal, stem(arm, fit)), 2.2 * tray), sphere


def resurfacing(arm: Frame, joint: Frame, fit: Fit) -> Metal:
    """A thin shell over the patient's own head, with a short central peg."""
    centre, radius = fit.along(0.1), 2.45 * fit.size
    cut = 0.15 * radius
    shell = cap(arm, centre, radius, fit.normal, cut) - cap(arm, centre, radius - 0.28, fit.normal, cut)
    peg = tube(arm, [fit.along(0.1 + 0.8 * radius), fit.along(-0.3), fit.along(-0.14 * fit.stem)], [0.5, 0.42, 0.3])
    return peg, shell


DESIGNS: dict[str, Callable[[Frame, Frame, Fit], Metal]] = {
    "Stemmed": stemmed,
    "Stemless": stemless,
    "Reverse": reverse,
    "Resurfacing": resurfacing,
}


def resected(arm: Frame, fit: Fit, keep: bool) -> Map:
    """Share of the humerus left by the saw: all of it when the head is kept, else what lies below the cut."""
    if keep:
        return np.ones(arm.shape, np.float32)
    out = fit.along(1.0)
    height = np.float32(out[0]) * arm.x + np.float32(out[1]) * arm.y
    return np.clip((np.float32(0.2 * fit.size) - height) / np.float32(1.5 * arm.pixel), 0, 1)
