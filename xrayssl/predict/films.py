"""What a classifier says of films that are no corpus's, and pictures of where it looks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xrayssl.classifier import Classifier
from xrayssl.data.viewing import Viewing
from xrayssl.errors import UserError
from xrayssl.explain import cam, overlay
from xrayssl.statistics.calibration import scaled

SIDE = 448
"""Pixels to which a picture's film is brought, at least; the network may see far fewer."""


@dataclass(frozen=True)
class Look:
    """A film as the network sees it, or why it cannot.

    Args:
        path: Of its file.
        view_HW: uint8; None where it cannot be read.
        shown_HW: The same cut in more pixels, for a picture.
        problem: Why there is no view.
    """

    path: Path
    view_HW: np.ndarray | None = None
    shown_HW: np.ndarray | None = None
    problem: str = ""


@dataclass(frozen=True)
class Prediction:
    """What is said of a film.

    Args:
        row: Of the table, by column.
        pictures: That were drawn of it.
    """

    row: dict[str, Any]
    pictures: list[Path] = field(default_factory=list)

    @property
    def told(self) -> str:
        """The probabilities for a terminal, the highest first."""
        found = [(name.partition("/")[2], value) for name, value in self.row.items() if name.startswith("probability/")]
        return "".join(f"{value:.3f}  {name}\n" for name, value in sorted(found, key=lambda pair: -pair[1]))


def looked_at(viewing: Viewing, scale: int, path: Path) -> Look:
    """Reads a film, in any process.

    Args:
        viewing: How the run looked at films.
        scale: Of what is shown; 0 shows nothing.
        path: Of the file.
    """
    try:
        film_HW = viewing.film(path)
    except UserError as error:
        return Look(path, problem=" ".join(error.messages))
    return Look(path, viewing.view(film_HW), viewing.view(film_HW, scale) if scale else None)


class Sheets:
    """The pictures of films, one per class that is asked for.

    Args:
        classifier: That is explained.
        classes: Names; none for the predicted class, or the findings that reach their threshold.
        folder: For the pictures.
    """

    def __init__(self, classifier: Classifier, classes: Sequence[str], folder: Path) -> None:
        self.classifier, self.classes, self.folder = classifier, list(dict.fromkeys(classes)), folder
        self.scale = max(1, -(-SIDE // max(classifier.viewing.size)))
        self._taken: set[str] = set()

    def draw(self, look: Look, probability_K: np.ndarray, row: dict[str, Any]) -> list[Path]:
        """Draws a film's pictures."""
        chosen = [self.classifier.classes.index(name) for name in self.classes] or self._chosen(probability_K, row)
        if not chosen:
            return []
        assert look.view_HW is not None
        method = self.classifier.method
        image_1CHW = torch.from_numpy(look.view_HW).expand(1, method.backbone.in_chans, -1, -1)
        image_1CHW = method.backbone.normalize(image_1CHW.to(method.device))
        map_1Khw, _ = cam.maps(method, method.backbone.grid, image_1CHW, chosen)
        self.folder.mkdir(parents=True, exist_ok=True)
        drawn = zip(chosen, map_1Khw[0].cpu().numpy(), strict=True)
        return [self._drawn(look, map_hw, self.classifier.classes[number], row) for number, map_hw in drawn]

    def _chosen(self, probability_K: np.ndarray, row: dict[str, Any]) -> list[int]:
        if self.classifier.method.task == "multiclass":
            return [int(probability_K.argmax())]
        return [number for number, name in enumerate(self.classifier.classes) if row.get(f"above/{name}") == 1]

    def _drawn(self, look: Look, map_hw: np.ndarray, name: str, row: dict[str, Any]) -> Path:
        assert look.shown_HW is not None
        drawn = overlay.sheet(look.shown_HW, map_hw, look.path.name, [_said(name, row), _meant(map_hw, name)])
        path = self.folder / f"{self._free(f'{look.path.stem}-{_spelled(name)}')}.png"
        try:
            drawn.save(path)
        except OSError as error:
            raise UserError(f"{path}: the picture cannot be written there ({error.strerror}).") from None
        return path

    def _free(self, name: str) -> str:
        """A name that no picture has yet: films of one name lie in different folders."""
        number, free = 2, name
        while free in self._taken:
            number, free = number + 1, f"{name}-{number}"
        self._taken.add(free)
        return free


class Reader:
    """What a classifier says of films, each by itself: without thresholds and temperature that are those of studies.

    Args:
        classifier: Rebuilt from its run.
        sheets: Draws pictures, where they are asked for.
    """

    def __init__(self, classifier: Classifier, sheets: Sheets | None = None) -> None:
        self.classifier, self.sheets = classifier, sheets
        operating = {} if classifier.of_studies else classifier.operating or {}
        self.temperature: float | None = operating.get("temperature")
        self.threshold = classifier.thresholds

    @property
    def columns(self) -> list[str]:
        """Of the table."""
        names = self.classifier.classes
        calibrated = [f"calibrated/{name}" for name in names] if self.temperature else []
        above = [f"above/{name}" for name in names if name in self.threshold]
        return ["film", *(f"probability/{name}" for name in names), *calibrated, *above]

    def predictions(self, looks: Iterable[Look], batch_size: int) -> Iterator[Prediction]:
        """What is said of each film, in order."""
        stream, method = iter(looks), self.classifier.method
        while batch := list(islice(stream, batch_size)):
            view_BHW = np.stack([look.view_HW for look in batch if look.view_HW is not None])
            image_BCHW = torch.from_numpy(view_BHW)[:, None].expand(-1, method.backbone.in_chans, -1, -1)
            yield from map(self._prediction, batch, self.classifier.probabilities(image_BCHW))

    def _prediction(self, look: Look, probability_K: torch.Tensor) -> Prediction:
        said = dict(zip(self.classifier.classes, probability_K.tolist(), strict=True))
        row = {"film": str(look.path), **{f"probability/{name}": value for name, value in said.items()}}
        if self.temperature:
            (scaled_K,) = scaled(probability_K[None].double().numpy(), self.temperature, self.classifier.method.task)
            row |= {f"calibrated/{name}": value for name, value in zip(said, scaled_K.tolist(), strict=True)}
        row |= {f"above/{name}": int(said[name] >= least) for name, least in self.threshold.items() if name in said}
        return Prediction(row, self.sheets.draw(look, probability_K.numpy(), row) if self.sheets else [])


def _said(name: str, row: dict[str, Any]) -> str:
    """The class and its probability in words."""
    words = [f"{name}: probability {row[f'probability/{name}']:.3f}"]
    if f"calibrated/{name}" in row:
        words.append(f"calibrated {row[f'calibrated/{name}']:.3f}")
    if f"above/{name}" in row:
        words.append("at or above the threshold" if row[f"above/{name}"] else "below the threshold")
    return ", ".join(words)


def _meant(map_hw: np.ndarray, name: str) -> str:
    """What the colours mean."""
    if not map_hw.max() > 0:
        return f"Grad-CAM is empty: nothing in this film speaks for {name}."
    cells = " x ".join(map(str, map_hw.shape))
    scaled = f"Grad-CAM on {cells} cells, scaled to its own maximum, a line at half of it"
    return f"{scaled}: what speaks for the class, not its outline."


def _spelled(name: str) -> str:
    """A class as a part of a file's name."""
    return re.sub(r"[^\w-]+", "_", name)
