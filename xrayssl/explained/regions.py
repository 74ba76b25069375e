"""Where findings and anatomy lie in what a network saw of its films: boxes of the corpus, masks of a folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from xrayssl.data.augment import Augment
from xrayssl.data.corpora import phantom
from xrayssl.data.manifest import SIDES
from xrayssl.data.radiograph import SUFFIXES
from xrayssl.data.trim import border
from xrayssl.data.viewing import stores_of
from xrayssl.errors import UserError, refuse
from xrayssl.explain import regions
from xrayssl.statistics.resampling import Floats


class Regions:
    """Regions of the films of a data module, on the grid of a network.

    Args:
        data: Its manifest has the boxes.
        folder: Of masks: a PNG with a film's name, bright where the region is, or folders of such, each a region's
            name. None: films that are phantoms have theirs, others have none.
        grid: Rows and columns of cells.

    Raises:
        UserError: If there is no such folder.
    """

    def __init__(self, data: Any, folder: Path | None, grid: tuple[int, int]) -> None:
        self.data, self.grid, self.folder = data, grid, folder
        self.films = data.central(np.arange(0)).dataset
        self.size = self.films.views[0].size
        boxes = data.manifest.boxes
        self.boxes: dict[str, pd.DataFrame] = dict(iter(boxes.groupby("path"))) if boxes is not None else {}
        self._shapes: dict[int, Any] = {}
        if folder is not None:
            self._check(folder)

    def _check(self, folder: Path) -> None:
        """Sees whether masks can be told apart, and laid on the films.

        Raises:
            UserError: If not.
        """
        bare = self.data.manifest.table["path"].map(_bare)
        twice = bare[bare.duplicated()]
        trimmed = [name for name, made in stores_of(self.data.corpora).items() if made and made["trim"]]
        wrong = {
            f"--masks {folder}: there is no such folder.": not folder.is_dir(),
            f"--masks {folder}: films share names, such as {next(iter(twice), '')}, so that a mask does not tell whose "
            "it is; give such films names of their own.": len(twice) > 0,
            f"--masks {folder}: the films of {', '.join(trimmed)} lie in a store that cut their borders off, of which "
            "masks know nothing; take the original films.": bool(trimmed),
        }  # fmt: skip
        refuse([sentence for sentence, holds in wrong.items() if holds])

    @cached_property
    def names(self) -> list[str]:
        """Folders of masks, of which those with a class's name are of that finding; none where films have no masks."""
        if self.folder is None:
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir()) or ["mask"]

    def box(self, row: int, name: str) -> Floats:
        """Share of each cell that boxes of a class cover, region_hw; NaN where the film has none."""
        drawn_B4 = self.corners(row, name)
        return regions.of_boxes(drawn_B4, self.size, self.grid) if len(drawn_B4) else np.full(self.grid, np.nan)

    def corners(self, row: int, name: str, scale: int = 1) -> Floats:
        """Boxes of a class in pixels of a view shown `scale` times as large: left, top, width, height (B, 4)."""
        own = self.boxes.get(self.data.manifest.table["path"].iat[row])
        if own is None or not (there := own["label"] == name).any():
            return np.empty((0, 4))
        shape, crop = self._shape(row)
        return scale * regions.in_view(own.loc[there, SIDES].to_numpy(float), shape, self.size, crop)

    def masks(self, row: int) -> dict[str, Floats]:
        """Share of each cell that a mask covers, by its name; those that the film has."""
        path = str(self.data.manifest.table["path"].iat[row])
        found = self._read(_bare(path)) if self.folder else phantom.outlines(path) if phantom.rendered(path) else {}
        return {name: self._covered(row, mask_HW) for name, mask_HW in found.items()}

    def _covered(self, row: int, mask_HW: np.ndarray) -> Floats:
        shape, crop = self._shape(row)
        share_HW = mask_HW.astype(np.float32)
        if mask_HW.shape != shape:
            share_HW = cv2.resize(share_HW, shape[::-1], interpolation=cv2.INTER_AREA)
        top, left, height, width = regions.seen(shape, self.size, crop)
        return regions.of_mask(share_HW[top : top + height, left : left + width], self.grid)

    def _read(self, film: str) -> dict[str, np.ndarray]:
        assert self.folder is not None
        found = {}
        for name in self.names:
            path = (self.folder if name == "mask" else self.folder / name) / f"{film}.png"
            if path.is_file():
                grey_HW = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
                if grey_HW is None:
                    raise UserError(f"{path}: this mask cannot be read; it should be a PNG, bright inside.")
                found[name] = grey_HW > grey_HW.max() / 2
        return found

    def _shape(self, row: int) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
        """Size of the whole film, and what trimming left of it."""
        if row not in self._shapes:
            self._shapes[row] = self._measured(row)
        found: tuple[tuple[int, int], tuple[int, int, int, int] | None] = self._shapes[row]
        return found

    def _measured(self, row: int) -> tuple[tuple[int, int], tuple[int, int, int, int] | None]:
        augment: Augment = self.data.augment
        film = self.films.stored.pixels(row)
        if film is None or augment.trim:
            film = whole(self.films, row)
        shape = int(film.shape[0]), int(film.shape[1])
        return shape, border(film) if augment.trim else None


def whole(films: Any, row: int) -> np.ndarray:
    """A film before anything is cut off."""
    prepare, films.prepare = films.prepare, None
    try:
        return np.asarray(films.film(row))
    finally:
        films.prepare = prepare


def _bare(path: str) -> str:
    """Name of a film without its suffix; a UID keeps its last number."""
    name = Path(path)
    return name.stem if name.suffix.lower() in SUFFIXES else name.name
