"""Heart, great vessels and mediastinum, seen from the front; x to the patient's left."""

from __future__ import annotations

import numpy as np

from xrayssl.data.phantom.shapes import Frame, Map, blend, ellipsoid, tube
from xrayssl.data.phantom.thorax import Breath, Thorax


def heart(frame: Frame, thorax: Thorax, breath: Breath, ratio: float, axis: float) -> tuple[Map, Map]:
    """Chords in cm through the heart, and through its trunk above and what it rests on below.

    The heart's width is exactly `ratio` of the chest's inner width.

    Args:
        frame: Pixels of the film.
        thorax: Build of the chest.
        breath: Level of the diaphragm, on which the heart rests.
        ratio: Cardiothoracic ratio; above a half the heart is enlarged.
        axis: Tilt of the long axis below the horizontal in radians; a tall patient's heart stands steep.
    """
    width = 2 * ratio * (thorax.half_width - 0.35)
    depth = 0.62 * thorax.half_depth
    long, short = 0.47 * width, 0.40 * width
    reach = float(np.hypot(long * np.cos(axis), short * np.sin(axis)))
    level = breath.dome + 0.9 - 0.30 * width
    left = (0.67 * width - reach, level + 0.02 * width)
    ventricles = ellipsoid(frame, left, (long, short, depth), axis)
    atrium = ellipsoid(
        frame, (-0.33 * width + 0.24 * width, level - 0.02 * width), (0.24 * width, 0.32 * width, 0.8 * depth)
    )
    root, base = (1.6, min(0.40 * thorax.height, level - 0.30 * width)), (0.18 * width, level - 0.16 * width)
    outflow = np.minimum(tube(frame, [base, left], [0.24 * width, 0.30 * width]), np.float32(2 * depth))
    trunk = np.minimum(tube(frame, [root, base], [1.9, 0.24 * width]), np.float32(2 * depth))
    # the left border falls in one line from the pulmonary trunk to the apex
    waist = (0.16 * width, min(0.27 * thorax.height + 4.5, level - 0.42 * width))
    border = np.minimum(tube(frame, [waist, left], [0.14 * width, 0.36 * width]), np.float32(1.6 * depth))
    sac = tube(frame, [(-0.12 * width, level), (0.40 * width, level + 0.10 * width)], [0.19 * width, 0.20 * width])
    floor = ellipsoid(frame, (0.15 * width, breath.dome + 4.0), (0.34 * width, 5.5, depth))
    return blend(ventricles, atrium, outflow, sac), np.maximum(blend(trunk, border), floor)


def great_vessels(frame: Frame, thorax: Thorax) -> Map:
    """Chord through aorta, vena cava, pulmonary trunk and the soft mediastinum in cm."""
    top, bulge = 0.27 * thorax.height, thorax.unfolding
    knob = ellipsoid(frame, (1.7 + 0.4 * bulge, top), (1.7 * bulge, 1.9 * bulge, 3.6))
    descending = tube(
        frame,
        [(2.0 + 0.5 * bulge, top + 0.5), (2.1, 0.6 * thorax.height), (1.2, 1.1 * thorax.height)],
        [1.25, 1.2, 1.1],
    )
    trunk = ellipsoid(frame, (2.2, top + 4.0), (2.0, 2.6, 3.2), -0.2)
    cava = tube(frame, [(-2.2, 1.5), (-2.2, 0.36 * thorax.height), (-2.0, 0.6 * thorax.height)], [0.9, 1.3, 1.6])
    return blend(knob, descending, trunk, cava, _middle(frame, thorax))


def _middle(frame: Frame, thorax: Thorax) -> Map:
    flare = 2.0 * np.exp(-np.maximum(frame.y + 0.6, 0) / np.float32(1.0))
    half = np.float32(3.0) + flare
    return np.float32(1.6 * thorax.half_depth) * np.maximum(1 - (frame.x / half) ** 2, 0)
