"""Maps of a classifier's films: one for each film and class that is explained, with what the network says there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from xrayssl.classifier import Classifier
from xrayssl.data.parallel import Progress
from xrayssl.errors import UserError
from xrayssl.explain.kinds import explain, layer_named
from xrayssl.explained import targets
from xrayssl.explained.regions import Regions
from xrayssl.files import appearing, write_json
from xrayssl.statistics.resampling import Floats

log = logging.getLogger(__name__)
FACTS, FILMS, MAPS = "facts.json", "films.parquet", "maps.npz"


@dataclass(frozen=True)
class How:
    """How films are explained.

    Args:
        kind: Of map; see `explain.kinds.KINDS`.
        layer: Dotted name of a layer in place of the backbone's grid.
        classes: See `targets.checked`.
        split: "test" or "val".
    """

    kind: str = "grad_cam"
    layer: str | None = None
    classes: tuple[str, ...] = (targets.LABEL,)
    split: str = "test"


@dataclass(frozen=True)
class Collection:
    """What was found of a network's films.

    Args:
        table: A row for each film and class: row (of the manifest), film, patient, class, label, probability, right
            (the class is there, and the network says so), predicted (of one class in several the most probable, else
            empty).
        map_Nhw: Raw, 0 or more, a map per row.
        region: Name to region_Nhw, NaN where a film has none: `box`, and those of masks.
        facts: What it was made from.
    """

    table: pd.DataFrame
    map_Nhw: Floats
    region: dict[str, Floats]
    facts: dict[str, Any]

    @property
    def patients(self) -> np.ndarray:
        """Of each map."""
        return self.table["patient"].astype(str).to_numpy()

    def with_maps(self, map_Nhw: Floats) -> Collection:
        """The same films and classes, with other maps."""
        return Collection(self.table, map_Nhw, self.region, self.facts)


def collect(classifier: Classifier, data: Any, how: How, masks: Path | None = None) -> Collection:
    """Explains every film of a split, a progress bar beside it.

    Args:
        classifier: Rebuilt from its run.
        data: A data module whose classes are the network's.
        how: See `How`.
        masks: See `Regions`.

    Raises:
        UserError: If classes, layer or kind do not fit the network, or nothing is to be explained.
    """
    targets.checked(how.classes, classifier.classes)
    found = [*_explained(classifier, data, how)]
    if not found:
        raise UserError(f"None of the {how.split} films has a class to explain by --class {' '.join(how.classes)}.")
    table = pd.DataFrame([row for rows, _ in found for row in rows])
    map_Nhw = np.concatenate([maps for _, maps in found])
    order = np.lexsort((table["class"], table["row"]))
    table, map_Nhw = table.iloc[order].reset_index(drop=True), map_Nhw[order]
    region = _regions(table, Regions(data, masks, (map_Nhw.shape[1], map_Nhw.shape[2])))
    return Collection(table, map_Nhw, region, facts(classifier, data, how, masks))


def facts(classifier: Classifier, data: Any, how: How, masks: Path | None = None) -> dict[str, Any]:
    """What a collection is made from; of equal facts come equal maps."""
    checkpoint = classifier.checkpoint.stat()
    return {
        "version": 1,
        "run": str(classifier.run),
        "checkpoint": [classifier.checkpoint.name, checkpoint.st_size, checkpoint.st_mtime_ns],
        "films": data.manifest.checksum(),
        "kind": how.kind, "layer": how.layer, "classes": list(how.classes), "split": how.split,
        "masks": str(masks) if masks else None,
        "network": classifier.method.backbone.architecture, "names": classifier.classes, "task": classifier.method.task,
    }  # fmt: skip


def _explained(classifier: Classifier, data: Any, how: How) -> Iterator[tuple[list[dict[str, Any]], Floats]]:
    """Rows and maps of each class in each batch."""
    layer = layer_of(classifier, how)
    rows = data.manifest.rows(how.split)
    loader = data.central(rows)
    with closing(Progress(f"{how.kind} of {how.split} films", "film", len(rows), 0)) as progress:
        for batch in loader:
            probability_BK = classifier.probabilities(batch["image"]).numpy()
            label_BK = batch["label"].numpy()
            asked_BK = targets.chosen(how.classes, classifier.classes, classifier.method.task, label_BK,
                                      probability_BK, thresholds(classifier))  # fmt: skip
            for number in np.flatnonzero(asked_BK.any(axis=0)):
                some = np.flatnonzero(asked_BK[:, number])
                described = _rows(classifier, data, batch["index"].numpy()[some], int(number), label_BK[some],
                                  probability_BK[some])  # fmt: skip
                yield described, maps_of(classifier, batch["image"][torch.from_numpy(some)], int(number), how, layer)
            progress.step(len(label_BK))


def thresholds(classifier: Classifier) -> Mapping[str, float]:
    """Of single films, chosen on validation films; empty where there are none."""
    known = {} if classifier.of_studies else (classifier.operating or {}).get("threshold") or {}
    return {name: value for name, value in known.items() if value is not None}


def layer_of(classifier: Classifier, how: How) -> Any:
    """The layer that is named; None for the backbone's grid.

    Raises:
        UserError: If the network has none of that name.
    """
    try:
        return layer_named(classifier.method, how.layer) if how.layer else None
    except ValueError as error:
        raise UserError(f"--layer {how.layer}: {error}") from None


def maps_of(classifier: Classifier, image_BCHW: torch.Tensor, number: int, how: How, layer: Any = None) -> Floats:
    """Raw maps of films, uint8, for one class: (B, h, w).

    Raises:
        UserError: If this kind of map cannot be had of this network.
    """
    method = classifier.method
    normalised_BCHW = method.backbone.normalize(
        image_BCHW.expand(-1, method.backbone.in_chans, -1, -1).to(method.device)
    )
    try:
        map_B1hw, _ = explain(how.kind, method, normalised_BCHW, [number], layer)
    except ValueError as error:
        raise UserError(f"--kind {how.kind}: {error}") from None
    return map_B1hw[:, 0].double().cpu().numpy()  # of float32, as they are saved


def _rows(
    classifier: Classifier, data: Any, rows: np.ndarray, number: int, label_BK: np.ndarray, probability_BK: np.ndarray
) -> list[dict[str, Any]]:
    name, films = classifier.classes[number], data.manifest.table.iloc[rows]
    known = thresholds(classifier)
    sure = classifier.method.task == "multiclass" or name in known
    right_B = (
        targets.right(classifier.classes, classifier.method.task, label_BK, probability_BK, known)[:, number]
        if sure
        else np.zeros(len(rows), bool)
    )
    one_of_several = classifier.method.task == "multiclass"
    predicted = [classifier.classes[place] if one_of_several else "" for place in probability_BK.argmax(axis=1)]
    return [{"row": int(row), "film": film, "patient": str(patient), "class": name, "label": float(label),
             "probability": float(probability), "right": bool(right), "predicted": said}
            for row, film, patient, label, probability, right, said in zip(
                rows, films["path"], films["patient"], label_BK[:, number], probability_BK[:, number], right_B,
                predicted, strict=True)]  # fmt: skip


def _regions(table: pd.DataFrame, regions: Regions) -> dict[str, Floats]:
    """Region by its name, of those that any film has."""
    empty = np.full(regions.grid, np.nan)
    of_row = {row: regions.masks(row) for row in dict.fromkeys(table["row"])}
    names = sorted({name for masks in of_row.values() for name in masks})
    found = {"box": np.stack([regions.box(row, name) for row, name in zip(table["row"], table["class"], strict=True)])}
    found |= {name: np.stack([of_row[row].get(name, empty) for row in table["row"]]) for name in names}
    as_saved = {name: region_Nhw.astype(np.float32).astype(np.float64) for name, region_Nhw in found.items()}
    return {name: region_Nhw for name, region_Nhw in as_saved.items() if not np.isnan(region_Nhw).all()}


def save(collection: Collection, folder: Path) -> None:
    """Writes a collection into a folder, the facts last: where they are, everything is."""
    folder.mkdir(parents=True, exist_ok=True)
    with appearing(folder / FILMS) as partial:
        collection.table.to_parquet(partial, index=False)
    arrays = {"map": collection.map_Nhw.astype(np.float32)}
    arrays |= {f"region/{name}": region_Nhw.astype(np.float32) for name, region_Nhw in collection.region.items()}
    with appearing(folder / MAPS) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_json(folder / FACTS, collection.facts)


def load(folder: Path, wanted: Mapping[str, Any]) -> Collection | None:
    """Reads a collection, if there is one that was made from just this.

    Args:
        folder: Where it was saved.
        wanted: Its facts.
    """
    try:
        found = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        if found != json.loads(json.dumps(wanted)):
            return None
        with np.load(folder / MAPS) as arrays:
            region = {name.removeprefix("region/"): arrays[name].astype(np.float64) for name in arrays.files
                      if name.startswith("region/")}  # fmt: skip
            return Collection(pd.read_parquet(folder / FILMS), arrays["map"].astype(np.float64), region, found)
    except (OSError, ValueError, KeyError):
        return None


def alike(collections: Sequence[Collection]) -> bool:
    """Whether collections are of the same films and classes, in the same order."""
    first = collections[0].table
    return all(
        len(one.table) == len(first)
        and (one.table["row"].to_numpy() == first["row"].to_numpy()).all()
        and (one.table["class"].to_numpy() == first["class"].to_numpy()).all()
        for one in collections[1:]
    )
