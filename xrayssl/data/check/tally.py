"""What a corpus holds, counted, and set out for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from xrayssl.data.manifest import SPLITS

LISTED = 3
"""Most different values that are listed one by one."""


def tally(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Counts the films of one corpus.

    Args:
        table: As `survey` makes it.
        classes: Of the corpus.

    Returns:
        Plain values for JSON. What is counted per split maps its name, and "all", to the number.
    """
    labels = table[list(classes)]
    known = labels.notna().any(axis=1)
    counts = {name: _per_split(table[labels[name] == 1]) for name in classes}
    if len(classes):
        counts["none of them"] = _per_split(table[known & ~(labels == 1).any(axis=1)])
        counts["not known"] = _per_split(table[labels.isna().any(axis=1)])
    readable = table[table["problem"] == ""]
    return {
        "films": _per_split(table),
        "patients": _per_split(table, "patient"),
        "studies": _per_split(table, "study"),
        "labels": {name: count for name, count in counts.items() if name in classes or count["all"]},
        "views": _counted(table["view"].replace("", "not said")),
        "sizes": _counted(readable["film_width"].astype(str) + " x " + readable["film_height"].astype(str)),
        "width": _range(readable["film_width"]),
        "height": _range(readable["film_height"]),
        "bits": _counted(readable["bits"]),
        "mm_per_pixel": _range(readable["spacing"].dropna()),
        "with_pixel_size": int(readable["spacing"].notna().sum()),
        "unreadable": int((table["problem"] != "").sum()),
    }


def _per_split(table: pd.DataFrame, column: str | None = None) -> dict[str, int]:
    """Films, or different values of a column, in each split and in all."""
    parts = {name: table[table["split"] == name] for name in SPLITS} | {"all": table}
    return {name: len(part) if column is None else int(part[column].nunique()) for name, part in parts.items()}


def _counted(values: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().items()}


def _range(values: pd.Series) -> dict[str, float] | None:
    if not len(values):
        return None
    low, middle, high = np.percentile(values, [0, 50, 100]).tolist()
    return {"least": low, "median": middle, "most": high}


def set_out(name: str, root: str, found: Mapping[str, Any]) -> str:
    """Sets a tally out in columns.

    Args:
        name: Of the corpus.
        root: Where it lies.
        found: As `tally` counts it.
    """
    rows = {key: found[key] for key in ("films", "patients", "studies")} | found["labels"]
    wide = max(len(key) for key in rows) + 2
    head = f"{'':{wide}}" + "".join(f"{split:>9}" for split in (*SPLITS, "all"))
    lines = [f"{key:{wide}}" + "".join(f"{row[split]:>9,}" for split in (*SPLITS, "all")) for key, row in rows.items()]
    facts = {"views": _listed(found["views"]), "size": _sizes(found), "depth": _depths(found["bits"])}
    if found["with_pixel_size"]:
        span = found["mm_per_pixel"]
        facts["pixels"] = f"{span['least']:.3g}-{span['most']:.3g} mm, told by {found['with_pixel_size']:,} films"
    below = [f"{key:{wide}}{text}" for key, text in facts.items() if text]
    return "\n".join([f"{name}  {root}".rstrip(), head, *lines, "", *below]) + "\n"


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{value} {count:,}" for value, count in list(counts.items())[:8]]
    rest = sum(list(counts.values())[8:])
    return ", ".join([*shown, *([f"others {rest:,}"] if rest else [])])


def _sizes(found: Mapping[str, Any]) -> str:
    if not found["sizes"]:
        return ""
    if len(found["sizes"]) <= LISTED:
        return _listed(found["sizes"])
    width, height = found["width"], found["height"]
    return (
        f"{width['median']:.0f} x {height['median']:.0f} in the middle, {width['least']:.0f}-{width['most']:.0f} wide, "
        f"{height['least']:.0f}-{height['most']:.0f} high, {len(found['sizes']):,} different"
    )


def _depths(bits: Mapping[str, int]) -> str:
    return ", ".join(f"{depth} bit {count:,}" for depth, count in sorted(bits.items(), key=lambda item: int(item[0])))
