"""How a run looks at a film that it measures: read, windowed, prepared and cut, without its corpora."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from xrayssl.data import store
from xrayssl.data.augment import Augment
from xrayssl.data.prepare.reduction import Recipe, reduced
from xrayssl.data.radiograph import Window, read, window
from xrayssl.data.transforms import evaluation, prepare
from xrayssl.errors import UserError, refuse

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


def viewing(data: Mapping[str, Any], size: tuple[int, int], stores: Mapping[str, Any] | None = None) -> Viewing:
    """How a run looked at films.

    Args:
        data: Arguments of its data module, as its config.yaml has them.
        size: Of the network's films in pixels.
        stores: What its run.json says of the stores that its corpora lay in; see `stores_of`. None: it is of a time
            when that was not kept, and the stores themselves are asked.

    Raises:
        UserError: If such a store has been made anew with another grey window.
    """
    known = data.get("augment") or {}
    low, high = data.get("limits", (0.0, 100.0))
    return Viewing(
        (size[0], size[1]),
        data.get("window", "voi"),
        (low, high),
        bool(data.get("first_frame")),
        Augment(trim=bool(known.get("trim")), clahe=bool(known.get("clahe")), circle=bool(known.get("circle"))),
        _recipe(data, stores),
    )


def stores_of(corpora: Mapping[str, Any]) -> dict[str, Any]:
    """Name of each corpus to how its store was made, or to None where its films are read from their files.

    Args:
        corpora: Name to root, or to a mapping with root, as the data module takes them.
    """
    return {
        name: asdict(_made(Path(root))) if root and store.is_store(root) else None for name, root in _roots(corpora)
    }


def _roots(corpora: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    pairs = corpora.items()
    return [(name, source if isinstance(source, str) else (source or {}).get("root")) for name, source in pairs]


def _recipe(data: Mapping[str, Any], stores: Mapping[str, Any] | None) -> Recipe | None:
    """How the films of the run's stores were made, if all its films came from stores made alike."""
    if stores is None:
        stores = stores_of(data.get("corpora") or {})
        _tell_of_changes(data, stores)
    made = {recipe and Recipe(**{**recipe, "limits": tuple(recipe["limits"])}) for recipe in stores.values()}
    if len(made) > 1:
        log.warning("The run's films came from files and stores, or from stores of several kinds: films are read as "
                    "files here, which may move a probability by a little.")  # fmt: skip
        return None
    return made.pop() if made else None


def _tell_of_changes(data: Mapping[str, Any], stores: Mapping[str, Any]) -> None:
    """Says what the run's folders, as they are now, leave in doubt.

    Raises:
        UserError: If a store has been made anew with another grey window.
    """
    roots, ours = dict(_roots(data.get("corpora") or {})), (data.get("window", "voi"), [*data.get("limits", (0, 100))])
    now = {name: (recipe["window"], [*recipe["limits"]]) for name, recipe in stores.items() if recipe}
    refuse([f"{roots[name]}: the run's films were read with --data.window {ours[0]} --data.limits {ours[1]}, and this "
            f"store has since been made anew with {how[0]} {how[1]}; put the run's own back."
            for name, how in now.items() if how != ours])  # fmt: skip
    for root in (root for root in roots.values() if root and not Path(root).expanduser().exists()):
        log.warning("%s: the run learned from this folder, which is not there any more, and does not say whether it "
                    "was a store. Films are read from their files; if it was one, put it back, or they are seen "
                    "otherwise than in training.", root)  # fmt: skip


def _made(root: Path) -> Recipe:
    root = root.expanduser()
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
