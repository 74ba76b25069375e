"""Features of films as a table: what each film is, its labels, its vector, and where it lies on a plane."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
from torch import Tensor

from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError
from xrayssl.files import appearing
from xrayssl.frozen.projection import Projection
from xrayssl.frozen.scatter import Colouring

VERSION = 1
COLUMNS = ("corpus", "patient", "study", "view", "split")
FURTHER = ("sex", "age")
"""Columns of some corpora."""
KINDS = ("label", "corpus", "split", "view")
SEVERAL, NONE, UNKNOWN = "several", "none", "unknown"


def write(
    path: Path, manifest: Manifest, rows: np.ndarray, feature_ND: Tensor, planes: Sequence[Projection], about: Any
) -> None:
    """Writes a parquet file with a row per film.

    Columns: index (the manifest's row), film, corpus, patient, study, view, split, sex and age where they are known,
    label/<class> (NaN: unknown), pca/1 and pca/2 and so on, and feature, a list of D float32. Its schema says what the
    features are under the key `xrayssl`.

    Args:
        path: Of the file.
        manifest: The films.
        rows: Of them, those that have features.
        feature_ND: A row each.
        planes: Where each film lies.
        about: Of the features, as JSON takes it.

    Raises:
        UserError: If it cannot be written.
    """
    films = manifest.table.iloc[rows]
    further = [name for name in FURTHER if name in films]
    columns: dict[str, Any] = {"index": rows, "film": films["path"].map(os.path.abspath).to_numpy(object)}
    columns |= {name: films[name].to_numpy() for name in (*COLUMNS, *further)}
    columns |= {f"label/{name}": films[name].to_numpy(np.float32) for name in manifest.classes}
    for plane in planes:
        columns |= {f"{plane.name.lower()}/{axis + 1}": plane.point_N2[:, axis].numpy() for axis in (0, 1)}
    table = pyarrow.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    flat = pyarrow.array(feature_ND.numpy().reshape(-1))
    table = table.append_column("feature", pyarrow.FixedSizeListArray.from_arrays(flat, feature_ND.shape[1]))
    header = {"version": VERSION, "task": manifest.task, "classes": manifest.classes, **about}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"xrayssl": json.dumps(header).encode()})
    try:
        with appearing(path) as partial:
            pyarrow.parquet.write_table(table, partial)
    except OSError as error:
        raise UserError(f"{path}: the table cannot be written there ({error.strerror or error}).") from None


def colourings(manifest: Manifest, rows: np.ndarray, wanted: Sequence[str] | None) -> list[Colouring]:
    """What films can be coloured by.

    Args:
        manifest: The films.
        rows: Of them, those that are drawn.
        wanted: "label", "corpus", "split", "view" or a class, in this order; None takes those of the first three that
            differ from film to film.

    Raises:
        UserError: If a name is none of these, or there are no labels.
    """
    known = [*KINDS, *manifest.classes]
    problems = [f"--by {name}: films are coloured by {', '.join(known)}." for name in wanted or [] if name not in known]
    if "label" in (wanted or []) and not manifest.classes:
        problems.append("--by label: these films have no labels.")
    if problems:
        raise UserError(*problems)
    if wanted is not None:
        return [_colouring(manifest, rows, name) for name in wanted]
    kinds = [name for name in KINDS[:3] if name != "label" or manifest.classes]
    found = [_colouring(manifest, rows, name) for name in kinds]
    return [each for each in found if len(np.unique(each.group_N.astype(str))) > 1] or found[-1:]


def _colouring(manifest: Manifest, rows: np.ndarray, name: str) -> Colouring:
    films, label_NK = manifest.table.iloc[rows], manifest.labels()[rows]
    if name == "label":
        return Colouring("label", _labels(label_NK, manifest.classes))
    if name in manifest.classes:
        label_N = label_NK[:, manifest.classes.index(name)]
        words = np.where(label_N == 1, name, "absent").astype(object)
        return Colouring(name, np.where(np.isnan(label_N), UNKNOWN, words))
    values = films[name].fillna("").astype(str).to_numpy(object)
    return Colouring(name, np.where(values == "", UNKNOWN, values))


def _labels(label_NK: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """The one class or finding of each film; in a word where it has none, several, or nothing is known."""
    count_N = (label_NK == 1).sum(axis=1)
    one_N = np.array(classes, object)[(label_NK == 1).argmax(axis=1)]
    unknown_N = np.isnan(label_NK).all(axis=1)
    return np.select([count_N == 1, count_N > 1, unknown_N], [one_N, SEVERAL, UNKNOWN], NONE)
