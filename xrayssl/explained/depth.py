"""What costs many passes, on some of the films: whether the network needs what a map points to, and learned it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xrayssl.classifier import Classifier
from xrayssl.comparison.inference import adjust
from xrayssl.data.parallel import Progress
from xrayssl.explain import faithfulness, nulls, sanity
from xrayssl.explained.collection import Collection, layer_of, maps_of
from xrayssl.explained.facts import How
from xrayssl.statistics.resampling import Floats

BATCH = 16
MOST_FIRST, LEAST_FIRST = "road_most_first", "road_least_first"


def some(collection: Collection, count: int, seed: int = 0) -> np.ndarray:
    """Rows of so many maps that are not empty, of as many patients as can be, drawn; in their order."""
    drawn = np.random.default_rng(seed).permutation(np.flatnonzero(collection.full))
    return np.sort(np.array(collection.patients_first(drawn.tolist())[:count], dtype=int))


def images(data: Any, collection: Collection, rows: np.ndarray) -> Tensor:
    """What the network saw behind some maps, uint8 (B, 1, H, W)."""
    wanted = collection.table["row"].to_numpy()[rows]
    films = np.unique(wanted)
    seen = torch.cat([batch["image"] for batch in data.central(films)])
    return seen[torch.from_numpy(np.searchsorted(films, wanted))]


def faithful(classifier: Classifier, data: Any, collection: Collection, count: int) -> dict[str, Any]:
    """Areas under insertion and deletion by the map's order, a random one and a centred Gaussian's; and ROAD.

    Args:
        classifier: Whose maps they are.
        data: Its data module.
        collection: Of maps.
        count: Films.

    Returns:
        "films"; and "insertion", "deletion" and "road" to the difference of the map to each other order, see
        `nulls.compare`. In ROAD that is what is left when the least important cells go first, less what is left when
        the most important go first.
    """
    rows = some(collection, count)
    parts = []
    with closing(Progress("Insertion, deletion, ROAD", "film", len(rows), 0)) as progress:
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            parts.append(_areas(classifier, data, collection, batch, start))
            progress.step(len(batch))
    patient = collection.patients[rows]
    value = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}
    told = {way: {other: nulls.compare(value["map", way], value[other, way], patient)
                  for other in ("random", "centred_gaussian")} for way in ("insertion", "deletion")}  # fmt: skip
    told["road"] = {"least_first_less_most_first": nulls.compare(value["map", LEAST_FIRST], value["map", MOST_FIRST],
                                                                 patient)}  # fmt: skip
    adjust([one for ways in told.values() for one in ways.values()])
    return {"films": len(rows), **told}


def _areas(
    classifier: Classifier, data: Any, collection: Collection, rows: np.ndarray, seed: int
) -> dict[tuple[str, str], Floats]:
    method = classifier.placed()
    image_BCHW = images(data, collection, rows).expand(-1, method.backbone.in_chans, -1, -1)
    number_B = torch.tensor([classifier.classes.index(name) for name in collection.table["class"].to_numpy()[rows]])

    def score(view_BCHW: Tensor) -> Tensor:
        probability_BK = method.probabilities(method(view_BCHW)).cpu()
        return probability_BK[torch.arange(len(view_BCHW)), number_B]

    seen_BCHW, map_Bhw = method.backbone.normalize(image_BCHW.to(method.device)), collection.map_Nhw[rows]
    with torch.no_grad():
        found = faithfulness.faithfulness(score, seen_BCHW, map_Bhw, seed=seed)
        road = {name: faithfulness.road(score, seen_BCHW, map_Bhw, seed=seed, least_first=least)
                for name, least in ((MOST_FIRST, False), (LEAST_FIRST, True))}  # fmt: skip
    areas = {(order, way): value for order, ways in found.items() for way, value in ways.items()}
    return areas | {("map", name): curve[1].mean(axis=1) for name, curve in road.items()}


def cascade(classifier: Classifier, data: Any, collection: Collection, count: int, how: How) -> list[dict[str, Any]]:
    """How alike the maps stay as weights are lost from the head downwards, on some films.

    Args:
        classifier: Whose maps they are.
        data: Its data module.
        collection: Of maps.
        count: Films.
        how: They were made.

    Returns:
        A row per stage: "lost", "similarity" (mean Spearman's, None where all maps are constant), "empty" (the share
        of empty maps), and "other_patients": how alike the network's maps of different patients are, which is what a
        map that tells nothing of its film has.
    """
    rows = some(collection, count)
    if not len(rows):
        return []
    seen, own = images(data, collection, rows), collection.map_Nhw[rows]
    names = collection.table["class"].to_numpy()[rows]
    among = np.isin(np.arange(len(collection.table)), rows)
    others = _mean(sanity.spearman(own, collection.swapped(collection.others(among))[rows]))
    stages = []
    for lost, model in sanity.cascading(classifier.method):
        copy = Classifier(classifier.checkpoint, model, classifier.config)
        found = by_class(copy, seen, names, how)
        stages.append({"lost": lost, "similarity": _mean(sanity.spearman(own, found)),
                       "empty": float((found.max(axis=(1, 2)) == 0).mean()), "other_patients": others})  # fmt: skip
    return stages


def random_weights(classifier: Classifier, data: Any, collection: Collection, networks: int, how: How) -> list[Floats]:
    """Maps of the same films and classes by networks with random weights, each (N, h, w)."""
    rows, names = np.arange(len(collection.table)), collection.table["class"].to_numpy()
    found = []
    with closing(Progress("Networks with random weights", "network", networks, 0)) as progress:
        for seed in range(networks):
            model = sanity.randomised(classifier.method, seed)
            copy = Classifier(classifier.checkpoint, model, classifier.config)
            parts = [by_class(copy, images(data, collection, some), names[some], how)
                     for some in np.array_split(rows, max(1, len(rows) // 128))]  # fmt: skip
            found.append(np.concatenate(parts))
            progress.step()
    return found


def by_class(classifier: Classifier, image_BCHW: Tensor, names: Sequence[str] | np.ndarray, how: How) -> Floats:
    """Maps of films, each for a class of its own: (B, h, w)."""
    layer, parts = layer_of(classifier, how), []
    for name in dict.fromkeys(names):
        rows = np.flatnonzero(np.asarray(names) == name)
        for some in np.array_split(rows, -(-len(rows) // BATCH)):
            number = classifier.classes.index(name)
            parts.append((some, maps_of(classifier, image_BCHW[torch.from_numpy(some)], number, how, layer)))
    found = np.empty((len(image_BCHW), *parts[0][1].shape[1:]))
    for some, map_Bhw in parts:
        found[some] = map_Bhw
    return found


def _mean(value_N: Floats) -> float | None:
    known = value_N[~np.isnan(value_N)]
    return float(known.mean()) if len(known) else None
