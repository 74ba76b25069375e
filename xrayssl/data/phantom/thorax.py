"""The chest cavity: rib cage, spine, lungs with their vessels, diaphragm, airways. Origin: midline at the lung apex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xrayssl.data.phantom.shapes import Frame, Map, blur, clouds, ellipsoid, strokes, tube


@dataclass(frozen=True)
class Thorax:
    """Build of one patient's chest, in cm.

    Args:
        half_width: Largest half width of the rib cage.
        height: From the lung apex to the right dome of the diaphragm in full inspiration.
        half_depth: Half the front-to-back depth of the cavity.
        spacing: Distance between ribs at the spine.
        tilt: How much the ribs slope, about 1.
        mineral: Bone density relative to a young adult.
        vessels: Calibre of the vessels, about 1.
        unfolding: How far the aorta bulges, about 1; more with age.
        curve: Sideways bend of the spine.
    """

    half_width: float
    height: float
    half_depth: float
    spacing: float
    tilt: float
    mineral: float
    vessels: float
    unfolding: float
    curve: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Thorax:
        """A patient at random."""
        width = float(np.clip(rng.normal(13.3, 0.8), 11.6, 15.2))
        height = float(np.clip(rng.normal(22.5, 1.6) * (width / 13.3) ** 0.5, 18.5, 26))
        return cls(
            width,
            height,
            rng.uniform(0.60, 0.70) * width,
            0.112 * height * rng.uniform(0.95, 1.05),
            rng.uniform(0.75, 1.2),
            rng.uniform(0.7, 1.15),
            rng.uniform(0.8, 1.25),
            rng.uniform(0.7, 1.35),
            rng.normal(0, 0.5),
        )


@dataclass(frozen=True)
class Breath:
    """How the chest stood for one film.

    Args:
        dome: Level of the right dome of the diaphragm in cm.
        lift: How much lower the left dome stands in cm.
        turn: Shift of front against back, from a patient standing slightly oblique, in cm.
    """

    dome: float
    lift: float
    turn: float


def cage(frame: Frame, thorax: Thorax) -> Map:
    """Half width of the rib cage at the level of every pixel, in cm: a dome that widens downwards."""
    t = 1 - np.clip((frame.y + np.float32(1.0)) / np.float32(0.85 * thorax.height), 0.004, 1)
    return np.float32(thorax.half_width) * np.sqrt(1 - t * t * t * np.sqrt(t))


def midline(frame: Frame, thorax: Thorax) -> Map:
    """Horizontal distance to the spine, which may bend sideways."""
    bend = np.float32(thorax.curve) * np.sin(frame.y * np.float32(np.pi / (1.3 * thorax.height)))
    return frame.x - bend


def abdomen(frame: Frame, thorax: Thorax, breath: Breath) -> Map:
    """Share of the cavity's depth taken by the abdomen: sharp at the domes, full where the sulcus ends."""
    outward = np.abs(frame.x) - np.float32(0.5 * thorax.half_width)
    fall = np.where(outward > 0, np.float32(3.4), np.float32(1.3)) * (outward / np.float32(6.5)) ** 2
    level = np.float32(breath.dome) + np.float32(breath.lift) * np.clip(frame.x / 4 + np.float32(0.5), 0, 1) + fall
    behind = 0.9 + 0.24 * np.abs(frame.x)  # the sulcus reaches lower at the sides
    t = np.clip((frame.y - level) / behind, 0, 1)
    return np.sqrt(t * (2 - t))


def cavity(frame: Frame, thorax: Thorax) -> Map:
    """Depth of the chest cavity along the beam in cm."""
    half = cage(frame, thorax) - np.float32(0.35)
    u = frame.x / np.maximum(half, 0.3)
    depth = np.float32(2 * thorax.half_depth) * (0.35 + 0.65 * half / np.float32(thorax.half_width))
    return depth * np.sqrt(np.maximum(1 - u * u, 0))


def _hollow(v: Map, half_height: float, half_depth: float, mineral: float) -> Map:
    """Bone along the beam through a hollow elliptic rib, `v` cm from its axis: cortex, then a little marrow."""
    wall = 0.15
    outer = np.float32(2 * half_depth) * np.sqrt(np.maximum(1 - (v / np.float32(half_height)) ** 2, 0))
    inner = np.float32(2 * (half_depth - wall)) * np.sqrt(np.maximum(1 - (v / np.float32(half_height - wall)) ** 2, 0))
    return np.float32(mineral) * (outer - np.float32(0.72) * inner)


def _family(frame: Frame, level: Map, spacing: Map, last: float) -> tuple[Map, Map]:
    """Distance in cm to the nearest of a family of parallel ribs, and that rib's number from 0."""
    number = np.clip(np.round(level), 0, last)
    return np.abs(level - number) * spacing, number


def ribs(frame: Frame, thorax: Thorax, breath: Breath) -> Map:
    """Bone of the twelve pairs of ribs along the beam, in cm.

    A rib is an ellipse tilted forwards: seen from behind it falls away sideways as sqrt(1 - u^2) of the relative
    distance u from the spine, turns at the wall, and returns in front, lower. Towards the wall the beam runs along
    the rib, hence the factor 1 / sqrt(1 - u^2).
    """
    half, gap, slope = cage(frame, thorax), thorax.spacing, thorax.tilt
    total, middle = frame.empty(), midline(frame, thorax)
    for front, shift in ((False, -0.5 * breath.turn), (True, 0.5 * breath.turn)):
        x = np.abs(middle - np.float32(shift))
        u = np.minimum(x / half, 1)
        bow = np.sqrt(1 - u * u)
        drop = (3.0 * slope, 0.35 * slope)
        if front:
            bend = 0.45 * bow + 0.65 * (1 - u)
            spacing = np.float32(gap + drop[1]) + np.float32(0.8 * slope) * bend
            level = (frame.y - np.float32(-1.6 + drop[0]) - np.float32(2.0 * slope) * bend) / spacing
        else:
            spacing = np.float32(gap + drop[1]) - np.float32(drop[1]) * bow
            level = (frame.y - np.float32(-1.6 + drop[0]) + np.float32(drop[0]) * bow) / spacing
        distance, number = _family(frame, level, spacing, 9 if front else 11)
        bone = _hollow(distance, 0.70 if front else 0.62, 0.34, thorax.mineral)
        bone /= np.sqrt(1 - u * u + np.float32(0.13))
        start = (3.6 + 1.05 * number) if front else np.float32(1.6)
        bone *= np.clip((x - start) / np.float32(0.9), 0, 1) * np.sqrt(np.clip((half - x) / np.float32(0.5), 0, 1))
        total += bone * np.float32(0.75 if front else 1.1)
    return total


def spine(frame: Frame, thorax: Thorax) -> Map:
    """Bone of the vertebrae along the beam in cm: bodies, end plates, pedicles, spinous processes."""
    x, gap = midline(frame, thorax), thorax.spacing
    level = (frame.y + np.float32(1.9)) / np.float32(gap)
    phase = np.abs(level - np.round(level)) * 2  # 0 in mid-body, 1 in mid-disc
    width = 1.45 + np.clip((frame.y + 3) / 30, 0, 1) * 0.75 + 0.22 * phase * phase
    u = np.minimum(np.abs(x) / width, 1)
    body = np.sqrt(1 - u * u) * (0.55 + 0.45 * np.clip((0.86 - phase) * 8, 0, 1))
    plate = np.clip(1 - np.abs(phase - 0.82) * 9, 0, 1) * (u < 0.98)
    wall = np.clip(1 - np.abs(u - 0.93) * 12, 0, 1) * (phase < 0.85)
    x_pedicle, y_pedicle = (np.abs(x) - 0.68 * width) / 0.42, (phase * np.float32(gap / 2) - 0.25) / 0.65
    ring = np.clip(1 - np.abs(x_pedicle**2 + y_pedicle**2 - 0.8) * 1.6, 0, 1)
    process = np.clip(1.25 - (x / 0.38) ** 2 - ((phase - 0.75) / 0.5) ** 2, 0, 1)
    return np.float32(thorax.mineral) * (0.62 * body + 0.12 * plate + 0.16 * wall + 0.26 * ring + 0.3 * process)


def _branches(start: tuple[float, float], side: float, thorax: Thorax, rng: np.random.Generator) -> list[np.ndarray]:
    """The vessel tree of one lung as generations of short curved lines, starting at the hilum."""
    heading = np.array([-1.35, -0.85, -0.4, 0.0, 0.35, 0.65, 0.95, 1.25]) + rng.normal(0, 0.1, 8)
    root = np.tile(start, (8, 1)) + rng.normal(0, 0.35, (8, 2))
    length = np.where(heading > 0.3, 3.6, 2.8) * thorax.height / 22.5
    generations = []
    for depth in range(6):
        bend = rng.normal(0, 0.18, len(heading))
        steps = np.linspace(0, 1, 4)[None, :, None] * length[:, None, None]
        angle = heading[:, None] + bend[:, None] * np.linspace(0, 1, 4)
        line = root[:, None] + steps * np.stack([side * np.cos(angle), np.sin(angle)], -1)
        generations.append(line)
        fork = rng.uniform(0.15, 0.55, len(heading)) * (1 if depth else 0.6)
        root = np.concatenate([line[:, -1], line[:, -1 if depth % 2 else -2]])
        heading = np.concatenate([angle[:, -1] - fork, angle[:, -1] + fork * rng.uniform(0.5, 1, len(heading))])
        length = np.tile(length, 2) * rng.uniform(0.55, 0.9, 2 * len(length))
    return generations


def vessels(frame: Frame, thorax: Thorax, rng: np.random.Generator, sides: Sequence[float] = (-1.0, 1.0)) -> Map:
    """Blood along the beam in the lungs' vessels and hila, in cm."""
    total, width = frame.empty(), 0.52 * thorax.vessels
    hila = [(side * 2.9, (0.45 - 0.02 * side) * thorax.height) for side in sides]
    trees = [_branches(hilum, side, thorax, rng) for hilum, side in zip(hila, sides, strict=True)]
    for generation in zip(*trees, strict=True):
        total += np.float32(2.0 * width) * strokes(frame, np.concatenate(generation), width)
        width *= 0.76
    for (x, y), side in zip(hila, sides, strict=True):
        for _ in range(3):
            spot = (x + side * rng.uniform(-0.4, 0.9), y + rng.normal(0, 0.9))
            radius = rng.uniform(0.5, 0.9) * thorax.vessels
            window = frame.window(spot, spot, 1.2)
            total[window] += 0.6 * ellipsoid(frame.crop(window), spot, (radius * 0.75, radius, radius * 0.8))
    return total


def airways(frame: Frame, thorax: Thorax) -> Map:
    """Air along the beam in the trachea and main bronchi, in cm."""
    carina = 0.34 * thorax.height
    trachea = tube(frame, [(0.0, -12.0), (-0.2, 0.0), (-0.35, carina - 1)], [0.85, 0.85, 0.8])
    right = tube(frame, [(-0.35, carina - 1), (-2.3, carina + 2.2), (-3.4, carina + 4.0)], [0.8, 0.6, 0.4])
    left = tube(frame, [(-0.35, carina - 1), (2.8, carina + 2.2), (4.2, carina + 3.4)], [0.75, 0.5, 0.35])
    return np.maximum(trachea, np.float32(0.8) * np.maximum(right, left))


def parenchyma(frame: Frame, rng: np.random.Generator) -> Map:
    """Relative density of the lung, about 1: the fine net of vessels too small to draw, denser at the bases."""
    fine = clouds(frame.shape, 0.16 / frame.pixel, rng)
    coarse = clouds(frame.shape, 0.7 / frame.pixel, rng)
    return 1 + np.float32(0.06) * fine + np.float32(0.035) * coarse


def interstitium(frame: Frame, vessel: Map) -> Map:
    """Soft haze around the vessels, from the branches beside and behind the ones drawn."""
    return vessel + np.float32(0.2) * blur(vessel, 0.6 / frame.pixel)
