"""The JSON files of a run directory. Light to import: a list of runs reads hundreds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xrayssl.errors import UserError

SERIES = "series.json"  # of trainings that belong together
VERSION, FIGURES = 1, 2  # of run.json, and of metrics.json, which version 1 of it is a part of


def mapping(record: dict[str, Any], key: str) -> dict[str, Any]:
    """A part of a record that should be an object; empty where it is none."""
    value = record.get(key) or {}
    return value if isinstance(value, dict) else {}


def read_json(path: Path, newest: int = VERSION) -> dict[str, Any]:
    """Reads a versioned JSON object.

    Args:
        path: Of the file.
        newest: Version that is understood.

    Raises:
        UserError: If it is no such object, or newer.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}); the run may have been interrupted.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} should hold a JSON object and does not; was it edited by hand?")
    if content.get("version", VERSION) not in range(1, newest + 1):
        known = f"at most {newest} is understood: update xrayssl"
        raise UserError(f"{path} is of version {content['version']}, and {known}.")
    return content


def read_figures(path: Path) -> dict[str, Any] | None:
    """Reads metrics.json; None where there is none.

    Raises:
        UserError: If it is broken.
    """
    if not path.is_file():
        return None
    content = read_json(path, FIGURES)
    entries = content.get("metrics")
    if not isinstance(entries, dict) or not all(_is_figure(entry) for entry in entries.values()):
        raise UserError(f"{path} holds no table of metrics with value, low and high; test the run again.")
    if not isinstance(content.get("interval", {}), dict):
        raise UserError(f"{path} does not say how its intervals were made; test the run again.")
    return content


def has_intervals(figures: dict[str, Any]) -> bool:
    """Whether any of the figures has an interval."""
    return "interval" in figures and any(entry["low"] is not None for entry in figures["metrics"].values())


def _is_figure(entry: Any) -> bool:
    keys = ("value", "low", "high")
    return isinstance(entry, dict) and all(isinstance(entry.get(key), float | int | None) for key in keys)
