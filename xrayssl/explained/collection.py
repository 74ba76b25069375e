"""Maps of a classifier's films: one for each film and class that is explained, with what the network says there."""

from __future__ import annotations

import logging
from collections.abc import Collection as Container
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from xrayssl.classifier import Classifier
from xrayssl.data.augment import sides
from xrayssl.data.parallel import Progress
from xrayssl.errors import UserError
from xrayssl.explain import nulls
from xrayssl.explain.kinds import explain, layer_named
from xrayssl.explained import targets
from xrayssl.explained.facts import How, facts
from xrayssl.explained.regions import Regions
from xrayssl.statistics.resampling import Floats

log = logging.getLogger(__name__)
SEED = 0


@dataclass(frozen=True)
class Collection:
    """What was found of a network's films.

    Args:
        table: A row for each film and class: row (of the manifest), film, patient, class, label, probability, right (1:
            the class is there, and the network says so; NaN: no threshold says what it says), predicted (of one class
            in several the most probable, else empty).
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

    def others(self, among_N: np.ndarray | None = None) -> np.ndarray:
        """For every map the place of one of another patient's for the same class; -1 where there is none.

        Args:
            among_N: Maps that take part, bool; None: all.
        """
        among = np.arange(len(self.table)) if among_N is None else np.flatnonzero(among_N)
        classes = self.table["class"].astype(str).to_numpy()
        drawn = nulls.other_patients(self.patients[among], SEED, classes[among])
        found = np.full(len(self.table), -1)
        found[among] = np.where(drawn < 0, -1, among[drawn])
        return found

    def patients_first(self, order: Sequence[int], shown: Container[int] = ()) -> list[int]:
        """The maps of `order` that are not shown yet; before any other those of patients of whom none is, one each."""
        patients = self.patients
        seen, first, more = {patients[place] for place in shown}, list[int](), list[int]()
        for place in order:
            if place not in shown:
                (more if patients[place] in seen else first).append(place)
                seen.add(patients[place])
        return [*first, *more]

    def swapped(self, order_N: np.ndarray) -> Floats:
        """The maps at these places, empty where there is none."""
        return np.where((order_N >= 0)[:, None, None], self.map_Nhw[order_N], 0.0)

    def names(self, among_N: np.ndarray | None = None) -> list[tuple[str, str]]:
        """Film and class of each map, or of some of them."""
        table = self.table if among_N is None else self.table[among_N]
        return list(zip(films_of(table), table["class"].astype(str), strict=True))

    @property
    def full(self) -> np.ndarray:
        """Which maps are not empty, bool (N,)."""
        return np.asarray(self.map_Nhw.max(axis=(1, 2)) > 0)


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
    _check(classifier, data, how)
    found = [*_explained(classifier, data, how)]
    if not found:
        raise UserError(f"None of the {how.split} films has a class to explain by --class {' '.join(how.classes)}.")
    table = pd.DataFrame([row for rows, _ in found for row in rows])
    map_Nhw = np.concatenate([maps for _, maps in found])
    order = np.lexsort((table["class"], table["row"]))
    table, map_Nhw = table.iloc[order].reset_index(drop=True), map_Nhw[order]
    region = _regions(table, Regions(data, masks, (map_Nhw.shape[1], map_Nhw.shape[2])))
    return Collection(table, map_Nhw, region, facts(classifier, data, how, masks))


def _check(classifier: Classifier, data: Any, how: How) -> None:
    """Sees whether films and network go together, and tells of findings that are never predicted.

    Raises:
        UserError: If not.
    """
    size = tuple(classifier.method.backbone.img_size)
    if sides(data.img_size) != size:
        raise UserError(f"--data.img_size {data.img_size}: the network was trained on films of {size[0]} x {size[1]} "
                        "pixels, and is explained on such.")  # fmt: skip
    missing = [name for name in classifier.classes if name not in classifier.thresholds]
    if targets.PREDICTION in how.classes and classifier.method.task == "multilabel" and missing:
        if classifier.of_studies:
            raise UserError("The run scores studies, so that no threshold says which findings a film is predicted to "
                            "have; name findings, or label, with --class.")  # fmt: skip
        if len(missing) < len(classifier.classes):
            log.warning("Without a threshold, and therefore never predicted: %s.", ", ".join(missing))


def _explained(classifier: Classifier, data: Any, how: How) -> Iterator[tuple[list[dict[str, Any]], Floats]]:
    """Rows and maps of each class in each batch."""
    layer = layer_of(classifier, how)
    rows, label_NK = data.manifest.rows(how.split), labels_of(data, classifier)
    loader = data.central(rows)
    with closing(Progress(f"{how.kind} of {how.split} films", "film", len(rows), 0)) as progress:
        for batch in loader:
            probability_BK = classifier.probabilities(batch["image"]).numpy()
            label_BK = label_NK[batch["index"].numpy()]
            asked_BK = targets.chosen(how.classes, classifier.classes, classifier.method.task, label_BK,
                                      probability_BK, classifier.thresholds)  # fmt: skip
            for number in np.flatnonzero(asked_BK.any(axis=0)):
                some = np.flatnonzero(asked_BK[:, number])
                described = _rows(classifier, data, batch["index"].numpy()[some], int(number), label_BK[some],
                                  probability_BK[some])  # fmt: skip
                yield described, maps_of(classifier, batch["image"][torch.from_numpy(some)], int(number), how, layer)
            progress.step(len(label_BK))


def labels_of(data: Any, classifier: Classifier) -> np.ndarray:
    """Labels of all films for the network's classes, by name, (N, K); NaN where the films' table does not know."""
    found = np.full((len(data.manifest), len(classifier.classes)), np.nan, dtype=np.float32)
    known = data.manifest.labels()
    for place, name in enumerate(classifier.classes):
        if name in data.classes:
            found[:, place] = known[:, data.classes.index(name)]
    return found


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
    method = classifier.placed()
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
    known = classifier.thresholds
    sure = classifier.method.task == "multiclass" or name in known
    right_B = (
        targets.right(classifier.classes, classifier.method.task, label_BK, probability_BK, known)[:, number]
        if sure
        else np.full(len(rows), np.nan)
    )
    one_of_several = classifier.method.task == "multiclass"
    predicted = [classifier.classes[place] if one_of_several else "" for place in probability_BK.argmax(axis=1)]
    return [{"row": int(row), "film": film, "patient": str(patient), "class": name, "label": float(label),
             "probability": float(probability), "right": float(right), "predicted": said}
            for row, film, patient, label, probability, right, said in zip(
                rows, films["path"], films["patient"], label_BK[:, number], probability_BK[:, number], right_B,
                predicted, strict=True)]  # fmt: skip


def _regions(table: pd.DataFrame, regions: Regions) -> dict[str, Floats]:
    """Region by its name, of those that any film has."""
    empty, pairs = np.full(regions.grid, np.nan), list(zip(table["row"], table["class"], strict=True))
    of_row = {row: regions.masks(row) for row in dict.fromkeys(table["row"])}
    classes = {*regions.data.classes}
    names = sorted({name for masks in of_row.values() for name in masks} - classes)
    found = {"box": np.stack([regions.box(row, name) for row, name in pairs])}
    found["finding"] = np.stack([of_row[row].get(name, empty) for row, name in pairs])
    found |= {name: np.stack([of_row[row].get(name, empty) for row, _ in pairs]) for name in names}
    as_saved = {name: region_Nhw.astype(np.float32).astype(np.float64) for name, region_Nhw in found.items()}
    return {name: region_Nhw for name, region_Nhw in as_saved.items() if not np.isnan(region_Nhw).all()}


def alike(collections: Sequence[Collection]) -> bool:
    """Whether collections are of the same films and classes, in the same order."""
    return all(one.names() == collections[0].names() for one in collections[1:])


def films_of(table: pd.DataFrame) -> list[str]:
    """Films by the last two parts of their paths, which stay when a corpus moves."""
    return ["/".join(str(path).split("/")[-2:]) for path in table["film"]]
