"""What a run was made from: its configuration, and the name of its recipe along its parents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from xrayssl.errors import UserError


def configuration(run: Path) -> dict[str, Any]:
    """The run's config.yaml.

    Raises:
        UserError: If it is not there, or no YAML.
    """
    try:
        content = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{run / 'config.yaml'} cannot be read ({str(error).splitlines()[0]}).") from None
    return content if isinstance(content, dict) else {}


def shares(settings: dict[str, Any]) -> tuple[Literal["fraction", "shots"], float]:
    """How many labels a run learned from: films per class, or a share of its patients, 1 unless said.

    Args:
        settings: See `configuration`.
    """
    data = _arguments(settings, "data")
    return ("shots", float(data["shots"])) if data.get("shots") else ("fraction", float(data.get("fraction") or 1.0))


def recipe(run: Path) -> str:
    """Configurations from the first stage to this one, such as `mae_chest > finetune_shoulder`."""
    return " > ".join(reversed(list(_stages(run, set()))))


def _stages(run: Path, seen: set[Path]) -> Iterator[str]:
    """Names of the stages, the last one first."""
    seen.add(run.resolve())
    yield str(json.loads((run / "run.json").read_text(encoding="utf-8")).get("config") or run.name)
    start = _arguments(configuration(run), "model").get("init_from")
    if not start:
        return
    parent = next((one for one in (Path(start), *Path(start).parents) if (one / "run.json").is_file()), None)
    if parent is None or parent.resolve() in seen:
        yield Path(str(start)).stem
    else:
        yield from _stages(parent, seen)


def _arguments(settings: dict[str, Any], part: str) -> dict[str, Any]:
    """Arguments of the configuration's `model` or `data`."""
    found = settings.get(part) or {}
    return dict(found.get("init_args") or found) if isinstance(found, dict) else {}
