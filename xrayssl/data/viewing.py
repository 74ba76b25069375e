"""How a run looks at a film that it measures: read, windowed, prepared and cut, without its corpora."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from xrayssl.data import store
from xrayssl.data.augment import Augment
from xrayssl.data.prepare.reduction import Recipe, reduced
from xrayssl.data.radiograph import Window, read, window
from xrayssl.data.transforms import evaluation, prepare
from xrayssl.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Viewing:
    """From a file to what the network sees of it in validation and test.

    Args:
        size: Height and width of a view in pixels.
        kind: Of the grey window; see `radiograph.window`.
        limits: Percentiles that become black and white, 0-100.
        first_frame: Take the first frame of a DICOM that holds several.
        augment: Of which the preparation (`trim`, `clahe`, `circle`) concerns every film.
        recipe: Of the store that the run's films lay in; None where they were read from their files.
    """

    size: tuple[int, int]
    kind: Window = "voi"
    limits: tuple[float, float] = (0.0, 100.0)
    first_frame: bool = False
    augment: Augment = field(default_factory=Augment)
    recipe: Recipe | None = None

    def film(self, path: str | Path) -> np.ndarray:
        """The whole film, uint8 (H, W), as every view of it starts from.

        Raises:
            UserError: If it cannot be read.
        """
        if self.recipe is not None:
            return prepare(self.augment, _as_stored(self.recipe, path))
        raw = read(path, voi=self.kind == "voi", first_frame=self.first_frame)
        return prepare(self.augment, window(raw, self.kind, self.limits))

    def view(self, film_HW: np.ndarray, scale: int = 1) -> np.ndarray:
        """The cut that the network sees, uint8 (h, w); with a scale, the same cut in more pixels, for eyes."""
        size = self.size[0] * scale, self.size[1] * scale
        return evaluation(size, self.augment.circle)(film_HW, seed=0)


def viewing(data: Mapping[str, Any], size: tuple[int, int]) -> Viewing:
    """How a run looked at films.

    Args:
        data: Arguments of its data module, as its config.yaml has them.
        size: Of the network's films in pixels.
    """
    known = data.get("augment") or {}
    low, high = data.get("limits", (0.0, 100.0))
    return Viewing(
        (size[0], size[1]),
        data.get("window", "voi"),
        (low, high),
        bool(data.get("first_frame")),
        Augment(trim=bool(known.get("trim")), clahe=bool(known.get("clahe")), circle=bool(known.get("circle"))),
        _recipe(data.get("corpora") or {}),
    )


def _recipe(corpora: Mapping[str, Any]) -> Recipe | None:
    """How the films of the run's stores were made, if all its films came from stores made alike."""
    roots = [source if isinstance(source, str) else source.get("root") for source in corpora.values()]
    made = {_made(Path(root)) if store.is_store(root) else None for root in roots}
    if len(made) > 1:
        log.warning("The run's films came from files and stores, or from stores of several kinds: films are read as "
                    "files here, which may move a probability by a little.")  # fmt: skip
        return None
    return made.pop() if made else None


def _made(root: Path) -> Recipe:
    known = store.facts(root)
    low, high = known["limits"]
    values = {name: known[name] for name in ("window", "first_frame", "size", "dtype", "trim")}
    return Recipe(**values, limits=(low, high))


def _as_stored(recipe: Recipe, path: str | Path) -> np.ndarray:
    """The film as `StoredFilms` would give it."""
    made = reduced(recipe, str(path))
    if made.pixels is None:
        raise UserError(made.problem)
    return made.pixels if made.pixels.dtype == np.uint8 else cv2.convertScaleAbs(made.pixels, alpha=1 / 257)
