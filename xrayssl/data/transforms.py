"""Augmentation of films: albumentations behind one adapter, re-seeded for every film."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version otherwise

import albumentations as A
import cv2
import numpy as np

from xrayssl.errors import UserError

cv2.setNumThreads(0)  # the loader's processes are the parallelism
Transform = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Augment:
    """What happens to a training film before it is cropped to the network's size.

    Args:
        scale: Smallest and largest area of the random crop as a share of the film, 0-1.
        ratio: Smallest and largest aspect ratio of the crop, width / height.
        center_bias: How strongly crops gather about the middle of the film: positions are Beta(1 + b, 1 + b), so
            that 0 is uniform and 4 keeps two thirds of the crops within a sixth of the free play of the middle.
        flip: Probability of a horizontal flip; 0 where the side is a label.
        randaug: Magnitude of RandAugment (Cubuk et al. 2020, arXiv:1909.13719), 0-10; null for none.
    """

    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    center_bias: float = 0.0
    flip: float = 0.5
    randaug: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            problems.append(f"augment.scale must be two shares with 0 < smallest <= largest <= 1, not {self.scale}.")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            problems.append(f"augment.ratio must be two ratios with 0 < smallest <= largest, not {self.ratio}.")
        if not 0 <= self.flip <= 1:
            problems.append(f"augment.flip must be a probability of 0-1, not {self.flip}.")
        if self.center_bias < 0:
            problems.append(f"augment.center_bias must be 0 or more, not {self.center_bias}.")
        if self.randaug is not None and not 0 <= self.randaug <= 10:
            problems.append(f"augment.randaug must be a magnitude of 0-10 or null, not {self.randaug}.")
        if problems:
            raise UserError(*problems)


class CenterBiasedResizedCrop(A.ImageOnlyTransform):
    """A crop of random area and aspect about a point that is more often near the middle, resized.

    Crop sizes follow Szegedy et al. 2015 (arXiv:1409.4842, section 6); the bias is this project's.

    Args:
        size: Height and width of the result in pixels.
        augment: Scale, ratio and bias.
    """

    def __init__(self, size: tuple[int, int], augment: Augment) -> None:
        super().__init__(p=1.0)
        self.size, self.augment = size, augment

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the crop for a film of this shape."""
        return {"box": draw_crop(params["shape"][:2], self.augment, self.random_generator)}

    def apply(self, img: np.ndarray, box: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        """Cuts and resizes."""
        top, left, height, width = box
        return resize(img[top : top + height, left : left + width], self.size)


def draw_crop(shape: tuple[int, int], augment: Augment, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A crop inside a film of this shape: top, left, height, width in pixels."""
    area = rng.uniform(*augment.scale) * shape[0] * shape[1]
    ratio = np.exp(rng.uniform(*np.log(augment.ratio)))
    height = min(shape[0], max(1, round(np.sqrt(area / ratio))))
    width = min(shape[1], max(1, round(np.sqrt(area * ratio))))
    top, left = rng.beta(1 + augment.center_bias, 1 + augment.center_bias, size=2)
    return round(top * (shape[0] - height)), round(left * (shape[1] - width)), height, width


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes to (height, width): by area where it shrinks, else cubic."""
    shrinks = image.shape[0] >= size[0] and image.shape[1] >= size[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def fit_center(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest central cut of the wanted aspect, resized: what validation and test see."""
    height, width = image.shape[:2]
    scale = min(height / size[0], width / size[1])
    cut = max(1, min(height, round(size[0] * scale))), max(1, min(width, round(size[1] * scale)))
    top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
    return resize(image[top : top + cut[0], left : left + cut[1]], size)


def training(size: tuple[int, int], augment: Augment) -> Transform:
    """Crop, flip and RandAugment as a function of (film, seed): uint8 (H, W) in and out."""
    steps: list[Any] = [CenterBiasedResizedCrop(size, augment)]
    if augment.flip:
        steps.append(A.HorizontalFlip(p=augment.flip))
    if augment.randaug is not None:
        steps.append(A.SomeOf(rand_augment(augment.randaug), n=2, replace=True))
    return partial(_augmented, A.Compose(steps))  # a closure would not reach workers that are spawned


def evaluation(size: tuple[int, int]) -> Transform:
    """The central cut, without anything random."""
    return partial(_central, size)


def _augmented(pipeline: A.Compose, image: np.ndarray, seed: int) -> np.ndarray:
    # albumentations keeps one generator per process: workers would draw alike, and again in every epoch
    pipeline.set_random_seed(seed)
    return np.ascontiguousarray(pipeline(image=image)["image"])


def _central(size: tuple[int, int], image: np.ndarray, seed: int) -> np.ndarray:
    return np.ascontiguousarray(fit_center(image, size))


def rand_augment(magnitude: int) -> list[A.BasicTransform]:
    """The operations of RandAugment that make sense on grey films, at a magnitude of 0-10."""
    m, bits = magnitude / 10, 8 - round(0.4 * magnitude)
    shift = {"fill": 0, "border_mode": cv2.BORDER_CONSTANT, "p": 1.0}
    posterize = [A.Posterize(num_bits=bits, p=1.0)] if bits < 8 else []  # it knows no identity
    return [
        A.Affine(rotate=(-30 * m, 30 * m), **shift),
        A.Affine(shear={"x": (-17 * m, 17 * m), "y": (0, 0)}, **shift),
        A.Affine(shear={"x": (0, 0), "y": (-17 * m, 17 * m)}, **shift),
        A.Affine(translate_percent={"x": (-0.45 * m, 0.45 * m), "y": (0, 0)}, **shift),
        A.Affine(translate_percent={"x": (0, 0), "y": (-0.45 * m, 0.45 * m)}, **shift),
        A.RandomBrightnessContrast(brightness_limit=0.9 * m, contrast_limit=0, p=1.0),
        A.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.9 * m, p=1.0),
        A.Sharpen(alpha=(0, 0.9 * m), lightness=(1.0, 1.0), p=1.0),
        *posterize,
        A.Equalize(p=1.0),
        A.AutoContrast(p=1.0),
    ]
