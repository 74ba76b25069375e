"""How films are explained, and what maps are made from: of equal facts come equal maps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import xrayssl
from xrayssl.classifier import Classifier
from xrayssl.data.augment import sides
from xrayssl.data.viewing import stores_of
from xrayssl.explained import targets


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


def facts(classifier: Classifier, data: Any, how: How, masks: Path | None = None) -> dict[str, Any]:
    """What a collection is made from; of equal facts come equal maps."""
    checkpoint = classifier.checkpoint.stat()
    films = data.manifest.keep((data.manifest.table["split"] == how.split).to_numpy())
    return {
        "version": 1,
        "run": str(classifier.run),
        "checkpoint": [classifier.checkpoint.name, checkpoint.st_size, checkpoint.st_mtime_ns],
        "program": xrayssl.__version__,
        "films": films.checksum(), "boxes": _digest(films.boxes), "seen": _seen(data),
        "kind": how.kind, "layer": how.layer, "classes": list(how.classes), "split": how.split,
        "masks": [str(masks), _files(masks)] if masks else None,
        "network": classifier.method.backbone.architecture, "names": classifier.classes, "task": classifier.method.task,
    }  # fmt: skip


def _seen(data: Any) -> dict[str, Any]:
    """How films are looked at."""
    augment = data.augment
    return {"img_size": list(sides(data.img_size)), "window": data.window, "limits": list(data.limits),
            "trim": augment.trim, "clahe": augment.clahe, "circle": augment.circle,
            "stores": stores_of(data.corpora)}  # fmt: skip


def _digest(boxes: pd.DataFrame | None) -> str | None:
    return None if boxes is None else hashlib.sha256(boxes.drop(columns="path").to_csv().encode()).hexdigest()


def _files(folder: Path) -> str:
    """Of the masks in a folder: names, sizes, and when they were written."""
    told = [(str(path), (found := path.stat()).st_size, found.st_mtime_ns) for path in sorted(folder.rglob("*.png"))]
    return hashlib.sha256(repr(told).encode()).hexdigest()
