"""From a film to what the network sees: preparation, random views, and albumentations behind one adapter."""

from __future__ import annotations

import math
import os
import random
from dataclasses import replace
from typing import Any, Protocol

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version otherwise

import albumentations as A
import cv2
import numpy as np

from xrayssl.data.augment import Augment, Small, sides
from xrayssl.data.resizing import fit_center, in_circle, largest_cut, resize
from xrayssl.data.trim import trim_border

__all__ = ["Augment", "Small", "Transform", "evaluation", "fit_center", "prepare", "resize", "training", "views"]

cv2.setNumThreads(0)  # the loader's processes are the parallelism
OPERATIONS = 2  # of RandAugment per film
CLIP, TILES = 2.0, (8, 8)  # of CLAHE
FIXED = 224 / 256  # side of a crop of fixed size, as a share of the largest


class Transform(Protocol):
    """From a film to what the network sees of it."""

    size: tuple[int, int]

    def __call__(self, film: np.ndarray, seed: int, out: np.ndarray | None = None) -> np.ndarray:
        """A view of the film.

        Args:
            film: uint8 (H, W).
            seed: Of all that is random.
            out: Where to write it, of this size; a batch has room for its films, and copying them there takes time.

        Returns:
            uint8 (h, w).
        """


def training(size: tuple[int, int], augment: Augment) -> Transform:
    """A random view."""
    return RandomView(size, augment)


def evaluation(size: tuple[int, int], circle: bool = False) -> Transform:
    """The central cut, without anything random."""
    return CentralView(size, circle)


def views(size: tuple[int, int], augment: Augment) -> list[Transform]:
    """One transform for each random view of a film, the small crops last."""
    large = [training(size, augment)] * augment.views
    if augment.small is None:
        return large
    small = replace(augment, crop="random", scale=augment.small.scale)
    return large + [training(sides(augment.small.size), small)] * augment.small.count


def prepare(augment: Augment, film: np.ndarray) -> np.ndarray:
    """What every view of a film shares: the border trimmed, the contrast evened out, where asked for."""
    if augment.trim:
        film = trim_border(film)
    return cv2.createCLAHE(CLIP, TILES).apply(film) if augment.clahe else film


class RandomView:
    """A crop, flipped or not, RandAugment and other grey values: a function of (film, seed).

    Crop sizes follow Szegedy et al. 2015 (arXiv:1409.4842, section 6); the bias to the middle is this project's.

    Args:
        size: Height and width of the result in pixels.
        augment: What is drawn.
    """

    def __init__(self, size: tuple[int, int], augment: Augment) -> None:
        self.size, self.augment = size, augment
        self.jitters = bool(augment.brightness or augment.contrast or augment.gamma)
        self.operations = [] if augment.randaug is None else rand_augment(augment.randaug)
        self.rng = np.random.Generator(np.random.Philox(key=0))
        self._start: Any = self.rng.bit_generator.state

    def __call__(self, film: np.ndarray, seed: int, out: np.ndarray | None = None) -> np.ndarray:
        """Draws a view; see `Transform`."""
        top, left, height, width = self.box(film.shape, seed)
        image = resize(film[top : top + height, left : left + width], self.size, out)
        if self.augment.flip and self.rng.random() < self.augment.flip:
            image = cv2.flip(image, 1, dst=out)
        if self.operations:
            image = _into(out, self._rand_augmented(image))
        if self.jitters:
            image = cv2.LUT(image, grey_table(self.augment, *self.rng.uniform(-1, 1, size=3).tolist()), dst=out)
        return in_circle(image, out) if self.augment.circle else image

    def box(self, shape: tuple[int, ...], seed: int) -> tuple[int, int, int, int]:
        """The crop of a film of this shape: top, left, height, width in pixels. Every other draw follows this one."""
        # a counter-based generator has a stream per key (Salmon et al. 2011); making one costs more than a crop
        self._start["state"]["key"][:] = seed & (2**64 - 1), seed >> 64
        self.rng.bit_generator.state = self._start
        if self.augment.crop == "random":
            return draw_crop(shape, self.augment, self.rng)
        if self.augment.crop == "fixed":
            return _placed(shape, largest_cut(shape, self.size, FIXED), self.augment.center_bias, self.rng)
        height, width = largest_cut(shape, self.size)
        return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width

    def _rand_augmented(self, image: np.ndarray) -> np.ndarray:
        # albumentations keeps one generator per process: workers would draw alike, and again in every epoch
        for choice in self.rng.integers(len(self.operations), size=OPERATIONS):
            operation = self.operations[choice]
            operation.set_random_state(self.rng, random.Random(int(self.rng.integers(2**63))))
            image = operation(image=image)["image"]
        return image


class CentralView:
    """The central cut, nothing random.

    Args:
        size: Height and width of the result in pixels.
        circle: Blacken what lies outside the circle.
    """

    def __init__(self, size: tuple[int, int], circle: bool = False) -> None:
        self.size, self.circle = size, circle

    def __call__(self, film: np.ndarray, seed: int, out: np.ndarray | None = None) -> np.ndarray:
        """Cuts the view; see `Transform`."""
        image = fit_center(film, self.size, out)
        return in_circle(image, out) if self.circle else image


def draw_crop(shape: tuple[int, ...], augment: Augment, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A crop of random size inside a film of this shape: top, left, height, width in pixels."""
    (least, most), (narrow, wide) = augment.scale, augment.ratio
    share, aspect = rng.random(2).tolist()  # NumPy's own arithmetic on single numbers is ten times slower
    area = (least + share * (most - least)) * shape[0] * shape[1]
    ratio = narrow * (wide / narrow) ** aspect
    height, width = math.sqrt(area / ratio), math.sqrt(area * ratio)
    # the drawn aspect stays: where one side alone is cut short, stretching tells how a film was turned
    fitting = min(1.0, shape[0] / height, shape[1] / width)
    cut = max(1, round(fitting * height)), max(1, round(fitting * width))
    return _placed(shape, cut, augment.center_bias, rng)


def _placed(
    shape: tuple[int, ...], cut: tuple[int, int], bias: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    top, left = rng.beta(1 + bias, 1 + bias, size=2).tolist()
    return round(top * (shape[0] - cut[0])), round(left * (shape[1] - cut[1])), *cut


def grey_table(augment: Augment, brightness: float, contrast: float, gamma: float) -> np.ndarray:
    """What becomes of each grey value x of 0-1: (x ** g - 1/2) * (1 + c) + 1/2 + b, cut off at black and white.

    Args:
        augment: With the three strengths.
        brightness: Where in its range b lies, -1 to 1.
        contrast: Where c lies.
        gamma: Where the logarithm of g lies.

    Returns:
        uint8 (256,).
    """
    curved_N = _GREY ** ((1 + augment.gamma) ** gamma)
    moved_N = (curved_N - 0.5) * (1 + augment.contrast * contrast) + 0.5 + augment.brightness * brightness
    return np.rint(255 * moved_N.clip(0, 1)).astype(np.uint8)


_GREY = np.arange(256) / 255


def _into(out: np.ndarray | None, image: np.ndarray) -> np.ndarray:
    if out is None:
        return np.ascontiguousarray(image)
    out[...] = image
    return out


def rand_augment(magnitude: int) -> list[A.BasicTransform]:
    """The operations of RandAugment that make sense on grey films, at a magnitude of 0-10.

    Cubuk et al. 2020 (arXiv:1909.13719). There the magnitude is the strength; here strengths are drawn evenly up to
    it, so that films are seen all but unchanged, too.
    """
    m, bits = magnitude / 10, 8 - round(0.4 * magnitude)
    shift = {"fill": 0, "border_mode": cv2.BORDER_CONSTANT, "p": 1.0}
    # blends with black and with the mean grey, as the paper's; RandomBrightnessContrast adds, and scales from black
    blend, grey = (1 - 0.9 * m, 1 + 0.9 * m), {"saturation": (1, 1), "hue": (0, 0), "p": 1.0}
    posterize = [A.Posterize(num_bits=bits, p=1.0)] if bits < 8 else []  # it knows no identity
    return [
        A.Affine(rotate=(-30 * m, 30 * m), **shift),
        A.Affine(shear={"x": (-17 * m, 17 * m), "y": (0, 0)}, **shift),
        A.Affine(shear={"x": (0, 0), "y": (-17 * m, 17 * m)}, **shift),
        A.Affine(translate_percent={"x": (-0.45 * m, 0.45 * m), "y": (0, 0)}, **shift),
        A.Affine(translate_percent={"x": (0, 0), "y": (-0.45 * m, 0.45 * m)}, **shift),
        A.ColorJitter(brightness=blend, contrast=(1, 1), **grey),
        A.ColorJitter(brightness=(1, 1), contrast=blend, **grey),
        A.Sharpen(alpha=(0, 0.9 * m), lightness=(1.0, 1.0), p=1.0),
        *posterize,
        A.Equalize(p=1.0),
        A.AutoContrast(p=1.0),
    ]
