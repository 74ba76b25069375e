"""The patient's outline: how much soft tissue the beam meets, from slight to heavy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xrayssl.data.phantom.shapes import Frame, Map, blend, ellipsoid, tube
from xrayssl.data.phantom.thorax import Thorax

JOINT = 4.6  # level of the humeral heads below the lung apex, in cm


@dataclass(frozen=True)
class Habitus:
    """Soft-tissue build of one patient, in cm.

    Args:
        wall: Chest wall beside the ribs.
        padding: Chest wall in front of and behind the cavity, together.
        breast: Thickness of the breasts; 0 for none.
        arm: Radius of the upper arm.
        fat: Share of fat in the soft tissue outside the cavity.
    """

    wall: float
    padding: float
    breast: float
    arm: float
    fat: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Habitus:
        """A patient at random, from slight to heavy."""
        stout = rng.beta(1.6, 2.6)
        female = rng.random() < 0.48
        return cls(
            1.6 + 3.6 * stout,
            3.2 + 7 * stout,
            (1.2 + 3.2 * stout + rng.uniform(0, 1)) if female else 0.0,
            3.6 + 2.2 * stout,
            0.15 + 0.4 * stout,
        )


def body(frame: Frame, thorax: Thorax, habitus: Habitus, arms: tuple[float, float]) -> Map:
    """Thickness of the whole patient in cm: trunk, shoulders, neck, arms, breasts."""
    half = thorax.half_width + habitus.wall
    deep = 2 * thorax.half_depth + habitus.padding
    top = np.clip((frame.y + np.float32(5) - np.float32(0.5) * np.abs(frame.x)) / np.float32(9), 0, 1)
    u = np.abs(frame.x) / (np.float32(half) + np.float32(0.8) * np.sin(frame.y * np.float32(0.16)))
    trunk = np.float32(deep) * np.sqrt(np.maximum(1 - (u * u) ** 2, 0) * top * (2 - top))
    joint = thorax.half_width + 4.6
    parts = [trunk, tube(frame, [(0.0, -20.0), (0.3, 1.0)], [5.6, 6.2])]
    for side, swing in ((-1.0, arms[0]), (1.0, arms[1])):
        elbow = (side * (joint + 26 * np.sin(swing)), JOINT + 26 * np.cos(swing))
        parts.append(tube(frame, [(side * joint, JOINT), elbow], [habitus.arm + 1.0, habitus.arm]))
        parts.append(tube(frame, [(side * 2.0, -7.0), (side * 0.5 * joint, 0.4), (side * joint, 3.6)], [4.4, 5.6, 5.6]))
        parts.append(
            tube(
                frame, [(side * joint, JOINT + 1), (side * 0.80 * joint, JOINT + 11)], [habitus.arm, 0.6 * habitus.arm]
            )
        )
    total = blend(*parts)
    if habitus.breast:
        for side in (-1.0, 1.0):
            spot = (side * 0.62 * thorax.half_width, 0.70 * thorax.height + 0.4 * habitus.breast)
            wide = 5.0 + 0.6 * habitus.breast
            total += 0.5 * ellipsoid(frame, spot, (wide, 0.85 * wide, habitus.breast), side * 0.2)
    return total
