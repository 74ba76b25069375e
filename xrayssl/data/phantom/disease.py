"""Findings of the chest as matter: each puts soft tissue or fluid where air-filled lung was.

Every function returns the thickness filled in cm and the finding's outline, both (H, W).
"""

from __future__ import annotations

import numpy as np

from xrayssl.data.phantom.shapes import Frame, Map, Mask, clouds, ellipsoid
from xrayssl.data.phantom.thorax import Breath, Thorax, cage


def _spot(thorax: Thorax, breath: Breath, rng: np.random.Generator, margin: float) -> tuple[float, float]:
    """A place in the lung fields, at least about `margin` cm from wall, heart and diaphragm."""
    side = rng.choice([-1.0, 1.0])
    y = rng.uniform(0.16, 0.80) * breath.dome
    t = 1 - min((y + 1) / (0.85 * thorax.height), 1)
    wall = thorax.half_width * (1 - t**3.5) ** 0.5 - margin
    inner = 3.6 + (3.2 * y / breath.dome if side > 0 else 0.8) + 0.5 * margin
    return float(side * rng.uniform(min(inner, wall - 0.3), wall)), float(y)


def nodules(
    frame: Frame, thorax: Thorax, breath: Breath, lung: Map, severity: float, rng: np.random.Generator
) -> tuple[Map, Mask]:
    """One to three solid round nodules, 1.7 to 4.8 cm across."""
    fill, outline = frame.empty(), np.zeros(frame.shape, bool)
    for _ in range(rng.choice([1, 1, 2, 3])):
        radius = (1.0 + 1.1 * severity) * rng.uniform(0.85, 1.15)
        squash = rng.uniform(0.85, 1.0)
        ball = ellipsoid(
            frame, _spot(thorax, breath, rng, radius), (radius, radius * squash, radius), rng.uniform(0, np.pi)
        )
        fill = np.maximum(fill, np.minimum(ball, lung))
        outline |= (ball > 0) & (lung > 0.5)
    return fill, outline


def effusion(
    frame: Frame, thorax: Thorax, breath: Breath, lung: Map, severity: float, rng: np.random.Generator
) -> tuple[Map, Mask]:
    """Fluid in the pleural space of one side: it blunts the angle and climbs the wall as a meniscus."""
    side = rng.choice([-1.0, 1.0])
    level = breath.dome + 1.8 - (1.4 + 6.5 * severity) * rng.uniform(0.85, 1.15)
    outward = np.clip((np.float32(side) * frame.x - 3) / (cage(frame, thorax) - 3), 0, 1)
    surface = np.float32(level) - np.float32(rng.uniform(3.0, 5.5)) * outward**3
    t = np.clip((frame.y - surface) / np.float32(3.5), 0, 1)
    share = np.sqrt(t) * np.clip(np.float32(0.4 * side) * frame.x, 0, 1)
    fill = share * lung
    return fill, fill > 0.8


def consolidation(
    frame: Frame, thorax: Thorax, breath: Breath, lung: Map, severity: float, rng: np.random.Generator
) -> tuple[Map, Mask]:
    """Air spaces filled with exudate: a cloudy patch with ragged edges, lobar when severe."""
    size = 2.8 + 2.6 * severity
    spot = _spot(thorax, breath, rng, 0.5 * size)
    patch = ellipsoid(frame, spot, (size * rng.uniform(0.9, 1.3), size, size * 1.1), rng.uniform(0, np.pi))
    ragged = 0.6 * clouds(frame.shape, 0.5 / frame.pixel, rng) + clouds(frame.shape, 1.4 / frame.pixel, rng)
    side = np.float32(np.sign(spot[0])) * frame.x > 0
    edge = np.clip(0.5 * patch / np.float32(size) - np.float32(0.30) + np.float32(0.22) * ragged, 0, 1)
    fill = np.float32(0.6 + 0.35 * severity) * np.minimum(edge * patch, lung) * side
    return fill, fill > 0.5
