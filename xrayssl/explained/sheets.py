"""Overlay sheets: film, raw map and both in one, with boxes, the label and what the network says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from xrayssl.data.transforms import evaluation
from xrayssl.explain import overlay
from xrayssl.explained.collection import Collection
from xrayssl.explained.regions import Regions

SIDE = 320
"""Pixels to which a film is brought, at least."""
GROUPS = ("Right, and sure", "Missed", "Drawn at random")


@dataclass(frozen=True)
class Shown:
    """A map that is drawn.

    Args:
        place: In the collection.
        group: Why it was chosen.
    """

    place: int
    group: str


def choose(collection: Collection, count: int, seed: int = 0) -> list[Shown]:
    """Maps to look at: of classes that the network says rightly and surely, of those it misses, and drawn ones.

    A film is shown once; a patient, too, as long as there are others.

    Args:
        collection: Of maps.
        count: How many, in all.
        seed: Of the drawn ones.
    """
    table = collection.table
    probability, right, there = (table[name].to_numpy(float) for name in ("probability", "right", "label"))
    hits, missed = np.flatnonzero(right == 1), np.flatnonzero((right == 0) & (there == 1))
    orders = {
        GROUPS[0]: hits[np.argsort(-probability[hits], kind="stable")],
        GROUPS[1]: missed[np.argsort(probability[missed], kind="stable")],
        GROUPS[2]: np.random.default_rng(seed).permutation(len(table)),
    }
    found: list[Shown] = []
    for number, (group, order) in enumerate(orders.items()):
        share = -(-(count - len(found)) // (len(orders) - number))
        shown = {one.place for one in found}
        found += [Shown(place, group) for place in collection.patients_first(order.tolist(), shown)[:share]]
    return found


class Films:
    """Films as a network sees them, in as many pixels as eyes want.

    Args:
        data: A data module.
        grid: Of the maps.
        masks: See `Regions`.
    """

    def __init__(self, data: Any, grid: tuple[int, int], masks: Path | None = None) -> None:
        self.data, self.regions = data, Regions(data, masks, grid)
        height, width = self.regions.size
        self.scale = max(1, -(-SIDE // max(height, width)))
        self.view = evaluation((height * self.scale, width * self.scale), data.augment.circle)

    def film(self, row: int) -> np.ndarray:
        """The view of a film of the manifest, uint8 (H, W)."""
        return self.view(self.regions.films.film(row), seed=0)

    def boxes(self, row: int, name: str) -> np.ndarray:
        """Boxes of a class in pixels of that view: left, top, width, height (B, 4)."""
        return self.regions.corners(row, name, self.scale)


def sheet(films: Films, collection: Collection, place: int) -> Image.Image:
    """One map with its film."""
    entry, map_hw = collection.table.iloc[place], collection.map_Nhw[place]
    row, name = int(entry["row"]), str(entry["class"])
    title = f"{Path(str(entry['film'])).name}, patient {entry['patient']}"
    return overlay.sheet(films.film(row), map_hw, title, [said(entry), meant(map_hw, collection.facts["kind"])],
                         films.boxes(row, name))  # fmt: skip


def said(entry: Mapping[str, Any] | Any) -> str:
    """The class, whether it is there, and what the network says of it."""
    there = {1.0: "there", 0.0: "not there"}.get(float(entry["label"]), "not known")
    other = f", predicted is {entry['predicted']}" if entry["predicted"] else ""
    verdict = ", predicted" if entry["right"] == 1 else other
    return f"{entry['class']} ({there}): probability {entry['probability']:.3f}{verdict}"


def meant(map_hw: np.ndarray, kind: str) -> str:
    """What the colours mean."""
    words = kind.replace("_", " ")
    if not map_hw.max() > 0:
        return f"The map ({words}) is empty: nothing in this film speaks for the class."
    return f"{words} on {map_hw.shape[0]} x {map_hw.shape[1]} cells, scaled to its own maximum, a line at half of it"


def save(films: Films, collection: Collection, shown: Sequence[Shown], folder: Path) -> list[Path]:
    """Draws sheets into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, one in enumerate(shown, 1):
        name = re.sub(r"[^\w-]+", "_", str(collection.table["class"].iat[one.place]))
        paths.append(folder / f"{number:02d}-{name}.png")
        sheet(films, collection, one.place).save(paths[-1])
    return paths
