"""Path lengths of a parallel beam through simple bodies, on the pixel grid of one film.

Everything is in centimetres. The beam runs along z, so a body becomes a map of chord lengths (H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Point = tuple[float, float]

SHIFT = 4  # fractional bits of OpenCV's polygon coordinates: a sixteenth of a pixel


@dataclass(frozen=True)
class Frame:
    """Where the pixels of a film lie in the plane of the patient.

    Args:
        x: Horizontal position of every pixel centre in cm, (H, W).
        y: Vertical position (downwards) of every pixel centre in cm, (H, W).
        pixel: Pixel pitch in cm.
        to_pixel: 2 x 3 matrix from cm to (column, row).
    """

    x: Map
    y: Map
    pixel: float
    to_pixel: NDArray[np.float64]

    @classmethod
    def look(cls, shape: tuple[int, int], pixel: float, centre: Point, angle: float, mirror: bool) -> Frame:
        """Points the film of `shape` (H, W) at `centre` (cm), turned by `angle` (radians), perhaps mirrored."""
        height, width = shape
        cosine, sine = pixel * np.cos(angle), pixel * np.sin(angle)
        sign = -1.0 if mirror else 1.0
        turn = np.array([[sign * cosine, -sign * sine], [sine, cosine]])
        origin = np.asarray(centre) - turn @ np.array([(width - 1) / 2, (height - 1) / 2])
        column, row = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        x, y = (t[0] * column + t[1] * row + o for t, o in zip(turn, origin, strict=True))
        back = np.linalg.inv(turn)
        return cls(x.astype(np.float32), y.astype(np.float32), pixel, np.column_stack([back, -back @ origin]))

    def seen_from(self, origin: Point, mirror: bool = False) -> Frame:
        """The same film in the coordinates of a body part at `origin`; mirrored for the patient's other side."""
        sign = -1.0 if mirror else 1.0
        forth = self.to_pixel[:, :2]
        back = np.column_stack([forth * [sign, 1.0], forth @ np.asarray(origin) + self.to_pixel[:, 2]])
        return Frame(
            np.float32(sign) * (self.x - np.float32(origin[0])), self.y - np.float32(origin[1]), self.pixel, back
        )

    def turned(self, angle: float) -> Frame:
        """The same film in axes turned by `angle` (radians) about the origin."""
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = np.array([[cosine, sine], [-sine, cosine]])
        x, y = (np.float32(t[0]) * self.x + np.float32(t[1]) * self.y for t in turn)
        return Frame(x, y, self.pixel, np.column_stack([self.to_pixel[:, :2] @ turn.T, self.to_pixel[:, 2]]))

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.x.shape
        return height, width

    def pixels(self, points: ArrayLike) -> NDArray[np.float64]:
        """Points (..., 2) in cm as (column, row)."""
        return np.asarray(points, dtype=np.float64) @ self.to_pixel[:, :2].T + self.to_pixel[:, 2]

    def window(self, start: Point, end: Point, reach: float) -> tuple[slice, slice]:
        """The part of the film within `reach` cm of the box between two corners, as (rows, columns)."""
        margin, spans = reach / self.pixel + 1, []
        for (a, b, c), length in zip(self.to_pixel.tolist()[::-1], self.shape, strict=True):
            ends = [a * x + b * y + c for x in (start[0], end[0]) for y in (start[1], end[1])]
            low, high = min(ends), max(ends)
            spans.append(slice(min(max(int(low - margin), 0), length), min(max(int(high + margin) + 2, 0), length)))
        return spans[0], spans[1]

    def column(self, reach: float) -> tuple[slice, slice]:
        """The part of the film within `reach` cm of the line x = 0, from top to bottom."""
        return self.window((-reach, -99.0), (reach, 99.0), 0.0)

    def crop(self, window: tuple[slice, slice]) -> Frame:
        """A part of the film."""
        to_pixel = self.to_pixel - np.array([[0, 0, window[1].start], [0, 0, window[0].start]])
        return Frame(self.x[window], self.y[window], self.pixel, to_pixel)

    def coarse(self) -> Frame:
        """The same film at half the resolution, for what has no fine detail; `fine` brings its maps back."""
        return Frame(self.x[::2, ::2], self.y[::2, ::2], 2 * self.pixel, self.to_pixel / 2)

    def fine(self, image: Map) -> Map:
        """A map on `coarse` enlarged to this film."""
        return cv2.resize(image, self.shape[::-1], interpolation=cv2.INTER_LINEAR)

    def empty(self) -> Map:
        """A map of zeros."""
        return np.zeros(self.shape, np.float32)


def ellipsoid(frame: Frame, centre: Point, axes: tuple[float, float, float], angle: float = 0.0) -> Map:
    """Chord 2c sqrt(1 - u^2/a^2 - v^2/b^2) through an ellipsoid with half axes (a, b, c), turned by `angle`."""
    a, b, c = axes
    chord, window = frame.empty(), frame.window(centre, centre, max(a, b))
    x, y = frame.x[window] - np.float32(centre[0]), frame.y[window] - np.float32(centre[1])
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u, v = (cosine * x + sine * y) / np.float32(a), (cosine * y - sine * x) / np.float32(b)
    chord[window] = np.float32(2 * c) * np.sqrt(np.maximum(1 - u * u - v * v, 0))
    return chord


def cap(frame: Frame, centre: Point, radius: float, axis: tuple[float, float, float], cut: float) -> Map:
    """Chord through the part of a ball beyond the plane at distance `cut` along the unit vector `axis`."""
    chord, window = frame.empty(), frame.window(centre, centre, radius)
    x, y = frame.x[window] - np.float32(centre[0]), frame.y[window] - np.float32(centre[1])
    half = np.sqrt(np.maximum(np.float32(radius * radius) - x * x - y * y, 0))
    plane = (np.float32(cut) - np.float32(axis[0]) * x - np.float32(axis[1]) * y) / np.float32(axis[2])
    chord[window] = half - np.clip(plane, -half, half)
    return chord


def tube(frame: Frame, points: Sequence[Point], radii: Sequence[float] | float) -> Map:
    """Chord through a round tube along a polyline, its radius linear between the points and its ends round."""
    radius = [float(value) for value in np.broadcast_to(np.asarray(radii), len(points))]
    square = frame.empty()
    for start, end, first, last in zip(points[:-1], points[1:], radius[:-1], radius[1:], strict=True):
        window = frame.window(start, end, max(first, last))
        along, across = end[0] - start[0], end[1] - start[1]  # Python numbers keep the maps in float32
        scale = 1 / (along**2 + across**2 + 1e-9)
        x, y = frame.x[window] - start[0], frame.y[window] - start[1]
        t = np.minimum(np.maximum(x * (along * scale) + y * (across * scale), 0), 1)
        near = first + (last - first) * t
        chord = near * near - (x - t * along) ** 2 - (y - t * across) ** 2
        np.maximum(square[window], chord, out=square[window])
    return 2 * np.sqrt(square)


def polygon(frame: Frame, points: ArrayLike) -> Map:
    """Coverage, 0 to 1, of every pixel by a closed outline."""
    canvas = np.zeros(frame.shape, np.uint8)
    if not canvas.size:
        return frame.empty()
    corners = np.round(frame.pixels(points) * 2**SHIFT).astype(np.int32)
    cv2.fillPoly(canvas, [corners], 255, cv2.LINE_AA, SHIFT)
    return canvas.astype(np.float32) / np.float32(255)


def strokes(frame: Frame, lines: NDArray[np.float64], width: float) -> Map:
    """Coverage, 0 to 1, by thin lines (N, points, 2) `width` cm wide; below a pixel they fade."""
    canvas, pixels = np.zeros(frame.shape, np.uint8), width / frame.pixel
    corners = list(np.round(frame.pixels(lines) * 2**SHIFT).astype(np.int32))
    shade = int(255 * min(1.0, pixels))
    cv2.polylines(canvas, corners, False, shade, max(1, round(pixels)), cv2.LINE_AA, SHIFT)
    return canvas.astype(np.float32) / np.float32(255)


def smooth_curve(points: Sequence[Point], closed: bool = False, steps: int = 6) -> NDArray[np.float64]:
    """A Catmull-Rom spline through `points`, `steps` samples per span, as (N, 2)."""
    knots = np.asarray(points, np.float64)
    ends = (knots[-1:], knots[:2]) if closed else (2 * knots[:1] - knots[1:2], 2 * knots[-1:] - knots[-2:-1])
    p = np.concatenate([ends[0], knots, ends[1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    spans = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = spans.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def blend(*chords: Map) -> Map:
    """The union of bodies with rounded seams: the 4-norm of their chords."""
    total = np.zeros_like(chords[0])
    for chord in chords:
        square = chord * chord
        total += square * square
    return np.sqrt(np.sqrt(total))


def blur(image: Map, sigma: float) -> Map:
    """Gaussian blur, `sigma` in pixels; wide ones on a reduced copy, for speed."""
    if sigma <= 4:
        return image if sigma < 0.15 else cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    height, width = image.shape
    factor = int(max(1, min(sigma / 2, min(height, width) / 4)))
    small = cv2.resize(image, (max(1, width // factor), max(1, height // factor)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def clouds(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Map:
    """Smooth random texture of unit variance whose grain is `sigma` pixels."""
    factor = max(1.0, sigma / 1.5)
    small = (int(shape[0] / factor) + 3, int(shape[1] / factor) + 3)
    noise = rng.standard_normal(small, dtype=np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), max(sigma / factor, 0.3))
    noise = cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return (noise - noise.mean()) / np.float32(noise.std() + 1e-6)
