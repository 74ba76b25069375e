"""`xrayssl dashboard`: a workspace of Weights & Biases that compares the recipes of a study."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xrayssl.data_request import Options
from xrayssl.errors import UserError, refuse
from xrayssl.files import write_json
from xrayssl.request import split_equals
from xrayssl.study.record import read_json
from xrayssl.train import speak

USAGE = "[STUDY] --wandb [options]"
TEXT = """Creates a workspace in Weights & Biases, or updates the one it has created before: test AUROC by recipe and by
class, ROC and precision-recall curves, training curves by stage, and the table of runs, grouped by recipe and stage.
It shows runs that have been uploaded; `wandb sync` uploads those that were kept offline.

  STUDY                           folder of a study (`xrayssl chain`), or its comparison.json (`xrayssl compare`);
                                  without it the workspace shows every group of runs
  --wandb                         yes, go online: it needs a login (`wandb login`) and wandb-workspaces
  --project xrayssl               project of the runs
  --entity NAME                   team or user (default: that of the login)
  --classes NAME ...              classes that get panels (default: those of the comparison)
  --new                           another workspace in place of an update, which draws all its panels anew
"""
STUDY, COMPARISON, SAVED = "study.json", "comparison.json", "dashboard.json"


def dashboard_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl dashboard`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Whatever the user can mend: no study, no library, no login.
    """
    own = _options().parse_args(split_equals(argv))
    from xrayssl.dashboards import workspace

    study, comparison = _read(own.study) if own.study else ({}, {})
    refuse(_wrong(own))
    workspace.library()
    speak()
    place = _place(own.study)
    earlier = None if own.new else workspace.earlier(place)
    entity = own.entity or _entity()
    built = workspace.build(shown(study, comparison, own.classes), entity, own.project)
    url = workspace.save(built, earlier)
    write_json(place, {"version": 1, "workspace": url, "entity": entity, "project": own.project})
    sys.stdout.write(f"{url}\n")
    return 0


def _options() -> Options:
    options = Options("dashboard", USAGE, TEXT)
    options.add_argument("study", nargs="?", type=Path)
    options.add_argument("--wandb", action="store_true")
    options.add_argument("--project", default="xrayssl")
    options.add_argument("--entity")
    options.add_argument("--classes", nargs="+", default=[])
    options.add_argument("--new", action="store_true")
    return options


def _wrong(own: Namespace) -> list[str]:
    from xrayssl.loggers import logged_in

    if not own.wandb:
        return ["A dashboard is a workspace of Weights & Biases, which lies online: add --wandb if it may. The page of "
                "`xrayssl compare` is the same without a line."]  # fmt: skip
    return [] if logged_in() else ["Nobody is logged in to Weights & Biases on this machine: run `wandb login`, or set "
                                   "WANDB_API_KEY, then type this again."]  # fmt: skip


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """study.json and comparison.json, either of which may be missing.

    Raises:
        UserError: If both are, or one is broken.
    """
    folder = path if path.is_dir() else path.parent
    files = {STUDY: folder / STUDY, COMPARISON: folder / COMPARISON if path.is_dir() else path}
    if not any(file.is_file() for file in files.values()):
        raise UserError(f"{path}: there is neither a {STUDY} nor a {COMPARISON}; name the folder of a study.")
    study, comparison = (read_json(file) if file.is_file() else {} for file in files.values())
    return study, comparison


def _place(study: Path | None) -> Path:
    """Where the address of the workspace is kept, to be updated."""
    folder = Path("runs") if study is None else study if study.is_dir() else study.parent
    return folder / SAVED


def shown(study: Mapping[str, Any], comparison: Mapping[str, Any], classes: Sequence[str]) -> Any:
    """What a workspace of a study shows.

    Args:
        study: Content of study.json, or nothing.
        comparison: Content of comparison.json, or nothing.
        classes: That are asked for; none: those of the comparison.
    """
    from xrayssl.dashboards.workspace import Shown

    rows = comparison.get("recipes") or study.get("runs") or []
    metrics = comparison.get("metrics") or ()
    known = [metric.removeprefix("auroc/") for metric in metrics if metric.startswith("auroc/")]
    title = str(study.get("title") or comparison.get("title") or "xrayssl: test AUROC by recipe")
    return Shown(
        title, list(dict.fromkeys(row["recipe"] for row in rows)), list(classes) or known, markdown(comparison)
    )


def markdown(comparison: Mapping[str, Any]) -> str:
    """The comparison's headline as a table, and its notes."""
    from xrayssl.dashboards.summary import estimate

    if not comparison.get("recipes"):
        return ""
    metric = comparison["metrics"][0]
    lines = [f"| recipe | network | labels | seeds | {metric} | interval |", "|---|---|---|---|---|---|"]
    for row in comparison["recipes"]:
        entry = estimate(row, metric)
        value, low, high = (_spelled(entry.get(end)) for end in ("value", "low", "high"))
        about = f"{row['recipe']} | {row.get('network')} | {row.get('fraction')} | {len(row['seeds'])}"
        lines.append(f"| {about} | {value} | {low} to {high} |")
    return "\n".join([*lines, "", *(f"* {note}" for note in comparison.get("notes") or ())])


def _spelled(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _entity() -> str:
    """The login's own team or user.

    Raises:
        UserError: If Weights & Biases cannot be asked.
    """
    import wandb

    try:
        name = wandb.Api().default_entity
    except (wandb.errors.Error, ValueError, OSError) as error:
        words = " ".join(str(error).split())
        raise UserError(
            f"Weights & Biases does not say who is logged in ({words.rstrip('.')}); name --entity."
        ) from None
    if not name:
        raise UserError("The login has no team or user of its own; name one with --entity.")
    return str(name)
