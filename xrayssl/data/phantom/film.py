"""One radiograph of one phantom patient: pose, exposure, collimation and marker around the anatomy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from xrayssl.data.phantom import chest, shoulder
from xrayssl.data.phantom.physics import Exposure, detect, display, line_integral
from xrayssl.data.phantom.scene import Dice, Scene
from xrayssl.data.phantom.shapes import Frame, Map, Mask

RENDERER_VERSION = 3  # raise it with every change of a pixel: cached films of another version are not reused
FINEST = 192  # films with a shorter side are rendered larger and reduced, for thin lines not to break up
FILMS_PER_PATIENT = (1, 2, 3)


@dataclass(frozen=True)
class Film:
    """A rendered radiograph with everything that is true of it.

    Args:
        pixels: Grey values, uint8 (H, W); bone bright, air dark.
        labels: 1 or 0 for every class of the task.
        boxes: Bounding box (x, y, width, height) in pixels of every finding that is there.
        masks: Outline of every finding that is there, and of the anatomy, boolean (H, W).
        patient: Identity shared by the films of a patient.
        study: Identity of this examination.
        view: Projection, such as "PA".
    """

    pixels: NDArray[np.uint8]
    labels: dict[str, int]
    boxes: dict[str, tuple[int, int, int, int]]
    masks: dict[str, Mask]
    patient: str
    study: str
    view: str


def patient_of(seed: int, index: int) -> tuple[int, int]:
    """Number of the patient on film `index`, and which of that patient's films it is.

    Six films in a row belong to three patients with one, two and three films, in random order.
    """
    block, place = divmod(index, sum(FILMS_PER_PATIENT))
    counts = np.random.default_rng([seed, 7, block]).permutation(FILMS_PER_PATIENT)
    ends = np.cumsum(counts)
    which = int(np.searchsorted(ends, place, side="right"))
    return block * len(counts) + which, place - int(ends[which] - counts[which])


def default_task(body: str) -> str:
    """The task of a body part when none is named."""
    return "implant" if body == "shoulder" else "findings"


def classes(body: str, task: str | None = None) -> tuple[str, ...]:
    """Names of the labels of a body part and task ("findings", or "implant" for the shoulder).

    Raises:
        ValueError: If there is no such body part or task.
    """
    known = {
        ("chest", "findings"): chest.FINDINGS,
        ("shoulder", "findings"): shoulder.FINDINGS,
        ("shoulder", "implant"): shoulder.IMPLANTS,
    }
    key = (body, task or default_task(body))
    if key not in known:
        raise ValueError(f"no phantom of the {body!r} for the task {task!r}; there are {sorted(known)}")
    return known[key]


def render(
    body: str, seed: int, index: int, size: int = 256, *, task: str | None = None, without: Collection[str] = ()
) -> Film:
    """Renders film `index` of the phantom corpus `seed`; the same arguments give the same bytes.

    Args:
        body: "chest" or "shoulder".
        seed: Seed of the corpus.
        index: Number of the film, from 0.
        size: Shorter side of the film in pixels.
        task: "findings" or, for the shoulder, "implant" (its default).
        without: Findings left out, everything else of the film the same.

    Returns:
        The film with labels, boxes and masks.
    """
    names = classes(body, task)
    task = task or default_task(body)
    patient, number = patient_of(seed, index)
    dice = Dice(seed, f"{body}/{task}", patient, number)
    factor = -(-FINEST // size)
    if body == "chest":
        pixels, masks, view = _chest(dice, size, factor, without)
    else:
        pixels, masks, view = _shoulder(dice, size, factor, names, without)
    if factor > 1:
        pixels, masks = _reduced(pixels, masks, factor)
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    labels = {name: int(name in masks) for name in names}
    boxes = {name: cv2.boundingRect(masks[name].astype(np.uint8)) for name in names if name in masks}
    identity = f"{body}-{seed}-{patient:05d}"
    grey = np.round(255 * pixels).astype(np.uint8)
    return Film(grey, labels, boxes, masks, identity, f"{identity}-{number}", view)


def _reduced(pixels: Map, masks: dict[str, Mask], factor: int) -> tuple[Map, dict[str, Mask]]:
    """Film and masks averaged over blocks of `factor` x `factor` pixels."""
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor

    def mean(image: Map | Mask) -> Map:
        return np.asarray(image.reshape(height, factor, width, factor).mean((1, 3), dtype=np.float32))

    return mean(pixels), {name: mean(mask) >= 0.5 for name, mask in masks.items()}


def _shape(size: int, factor: int, aspect: float) -> tuple[int, int]:
    """(H, W) `factor` times as large as a film with the given shorter side and width over height."""
    short, long = size * factor, round(size * max(aspect, 1 / aspect)) * factor
    return (short, long) if aspect > 1 else (long, short)


def _chest(dice: Dice, size: int, factor: int, without: Collection[str]) -> tuple[Map, dict[str, Mask], str]:
    rng = dice.of_film("pose")
    view = "AP" if rng.random() < 0.2 else "PA"
    shape = _shape(size, factor, rng.choice([1.0, 1.0, 0.8125, 1.1875]))
    pixel = rng.normal(37.5, 1.6) / shape[1] * max(1.0, shape[1] / shape[0] * 0.9)
    centre = (rng.normal(0, 0.7), 0.5 * pixel * shape[0] - rng.uniform(3.5, 7.0))
    frame = Frame.look(shape, pixel, centre, rng.normal(0, 0.03), mirror=False)
    content = chest.scene(frame, dice, view, without)
    exposure = _exposure(dice, frame, (58.0, 72.0), scatter=(0.35, 0.9), detail=1.0, white=0.8, lift=0.0)
    corner = (0.93, 0.09) if rng.random() < 0.7 else (0.92, 0.3)
    pixels, masks = _developed(content, frame, exposure, dice, "L", corner)
    return pixels, masks, view


def _shoulder(
    dice: Dice, size: int, factor: int, names: Collection[str], without: Collection[str]
) -> tuple[Map, dict[str, Mask], str]:
    rng = dice.of_film("pose")
    left = bool(dice.of_patient("side").random() < 0.5)
    shape = _shape(size, factor, rng.choice([1.0, 0.8125, 0.75, 0.875]))
    pixel = rng.uniform(14.5, 22.0) / shape[1]
    centre = (rng.uniform(0.3, 2.8), rng.uniform(1.0, 4.5) * shape[0] / shape[1])
    frame = Frame.look(shape, pixel, centre, rng.normal(0, 0.08), mirror=left)
    content = shoulder.scene(frame, dice, names, without)
    exposure = _exposure(dice, frame, (46.0, 56.0), scatter=(0.15, 0.5), detail=0.5, white=3.5, lift=0.06)
    corner = (rng.uniform(0.08, 0.25), rng.uniform(0.07, 0.2))
    pixels, masks = _developed(
        content, frame, exposure, dice, "L" if left else "R", (1 - corner[0], corner[1]) if left else corner
    )
    return pixels, masks, "AP"


def _exposure(
    dice: Dice,
    frame: Frame,
    energy: tuple[float, float],
    scatter: tuple[float, float],
    detail: float,
    white: float,
    lift: float,
) -> Exposure:
    rng = dice.of_film("exposure")
    density = float(np.exp(rng.uniform(np.log(4e6), np.log(6e7))))  # quanta per cm^2 at the detector
    return Exposure(
        energy=rng.uniform(*energy),
        quanta=density * frame.pixel**2,
        scatter=rng.uniform(*scatter),
        spread=3.5 / frame.pixel,
        sharpness=rng.uniform(0.3, 0.6),
        latitude=rng.uniform(0.1, 0.55),
        detail=detail * rng.uniform(0.2, 1.0),
        grain=0.45 / frame.pixel,
        white=white,
        contrast=rng.uniform(0.8, 1.8),
        brightness=rng.normal(lift, 0.05),
    )


def _developed(
    content: Scene, frame: Frame, exposure: Exposure, dice: Dice, letter: str, corner: tuple[float, float]
) -> tuple[Map, dict[str, Mask]]:
    """Grey values of the film and the masks that fall inside its collimated field."""
    exponent = line_integral(content.body, content.inside, exposure.energy)
    rng = dice.of_film("frame")
    field, shutter = _field(frame.shape, rng)
    exponent += 6 * marker(frame, letter, corner, rng) + np.where(field, np.float32(0), np.float32(7))
    signal = detect(exponent, exposure, dice.of_film("noise"))
    pixels = display(signal, exposure, field & (content.body > 0.33 * content.body.max()))
    if shutter is not None:
        pixels = np.where(field, pixels, np.float32(shutter))
    return pixels, {name: mask & field for name, mask in content.masks.items()}


def _field(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Mask, float | None]:
    """The collimated field, and the grey that the system paints outside it (None: none, nearly white)."""
    height, width = shape
    inset, kind, turn = rng.uniform(0, 0.05, 4), rng.random(), rng.normal(0, 0.012)
    if kind < 0.5:
        return np.ones(shape, bool), None
    row, column = np.arange(height, dtype=np.float32)[:, None] / height, np.arange(width, dtype=np.float32) / width
    x, y = column + np.float32(turn) * row, row - np.float32(turn) * column
    field = (x > inset[0]) & (x < 1 - inset[1]) & (y > inset[2]) & (y < 1 - inset[3])
    return field, None if kind > 0.9 else float(rng.choice([0.0, 0.02, 0.06]))


def marker(frame: Frame, letter: str, corner: tuple[float, float], rng: np.random.Generator) -> Map:
    """Coverage, 0 to 1, by the lead letter that names the side, about 1.4 cm tall, laid down by hand."""
    height, width = frame.shape
    tall = rng.uniform(1.0, 1.6) / frame.pixel
    canvas = np.zeros(frame.shape, np.uint8)
    place = (int(corner[0] * width - tall / 2), int(corner[1] * height + tall / 2))
    cv2.putText(canvas, letter, place, cv2.FONT_HERSHEY_SIMPLEX, tall / 21, 255, max(1, round(tall / 6)), cv2.LINE_AA)
    centre = (place[0] + tall * 0.4, place[1] - tall / 2)
    if rng.random() < 0.25:
        cv2.circle(
            canvas, (int(centre[0]), int(centre[1])), int(tall * 0.95), 255, max(1, round(tall / 12)), cv2.LINE_AA
        )
    turn = cv2.getRotationMatrix2D(centre, rng.normal(0, 14), 1.0)
    return np.asarray(cv2.warpAffine(canvas, turn, (width, height)), np.float32) / np.float32(255)
