"""A workspace of Weights & Biases that compares recipes: built here without a line, saved by `save`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from xrayssl.errors import UserError
from xrayssl.tracking.curves import AXES, PRECISION, ROC

MISSING = (
    "The workspace is made by Weights & Biases' own library, which is not installed: `pip install wandb-workspaces`, "
    "or `pip install 'xrayssl[dashboards]'`."
)
NAMES = {ROC: "ROC", PRECISION: "Precision and recall"}
METRIC = "test/auroc_macro"
ROWS = 24  # of panels that are as many as classes


@dataclass(frozen=True)
class Shown:
    """What a workspace shows.

    Args:
        title: Its name.
        recipes: Groups of runs to be shown; none shows every group.
        classes: Of the classifiers, each with a bar of its own.
        table: Of the comparison, in Markdown; empty for none.
    """

    title: str
    recipes: Sequence[str] = ()
    classes: Sequence[str] = ()
    table: str = ""
    columns: Sequence[str] = field(default=(METRIC, "test_low/auroc_macro", "test_high/auroc_macro"))


def build(shown: Shown, entity: str, project: str) -> Any:
    """Makes a workspace; nothing is asked of the network.

    Args:
        shown: What is in it.
        entity: Team or user.
        project: Of its runs.

    Returns:
        A `wandb_workspaces.workspaces.Workspace`.

    Raises:
        UserError: If the library is not installed.
    """
    workspaces, panels = library()
    told = [_section(workspaces, "What the comparison says", [panels.MarkdownPanel(markdown=shown.table)])]
    return workspaces.Workspace(
        name=shown.title,
        entity=entity,
        project=project,
        sections=[*(told if shown.table else []), *_sections(workspaces, panels, shown)],
        runset_settings=_runs(workspaces, shown),
    )


def _sections(workspaces: ModuleType, panels: ModuleType, shown: Shown) -> list[Any]:
    def bars(name: str, metric: str) -> Any:
        return panels.BarPlot(title=name, metrics=[metric], groupby=panels.Metric("Group"), groupby_aggfunc="mean",
                              groupby_rangefunc="minmax", range_x=(0, 1))  # fmt: skip

    def lines(name: str, y: str, x: str, key: str) -> Any:
        return panels.LinePlot(title=name, x=x, y=[y], groupby=panels.Metric(key), groupby_aggfunc="mean",
                               groupby_rangefunc="minmax")  # fmt: skip

    step, classes = "trainer/global_step", list(shown.classes)[:ROWS]
    curves = [lines(f"{NAMES[curve]}, {name}", f"test_{curve}/{name}", f"test_{curve}/{axis}", "Group")
              for name in classes for curve, axis in AXES.items()]  # fmt: skip
    made = {
        "Test AUROC by recipe: mean, least and most of the seeds": [bars("AUROC, mean of the classes", METRIC)],
        "Test AUROC by class": [bars(name, f"test/auroc/{name}") for name in classes],
        "Curves of the test": curves,
        "Training, by stage": [lines("Validation AUROC", "val/auroc", step, "JobType"),
                               lines("Validation loss", "val/loss", step, "JobType"),
                               lines("Training loss", "train/loss", step, "JobType")],
        "Runs": [panels.RunComparer(diff_only=True)],
    }  # fmt: skip
    return [_section(workspaces, name, found) for name, found in made.items() if found]


def _section(workspaces: ModuleType, name: str, panels: Sequence[Any]) -> Any:
    return workspaces.Section(name=name, panels=list(panels), is_open=True)


def _runs(workspaces: ModuleType, shown: Shown) -> Any:
    """The table of runs: those of the recipes, grouped by recipe and stage, with their figures in front."""
    from wandb_workspaces import expr

    return workspaces.RunsetSettings(
        filters=f'Metric("Group") in {json.dumps(list(shown.recipes))}' if shown.recipes else "",
        groupby=[expr.Metric("Group"), expr.Metric("JobType")],
        order=[expr.Ordering(expr.Summary(METRIC), ascending=False)],
        pinned_columns=["run:displayName", *(f"summary:{name}" for name in shown.columns)],
    )


def save(workspace: Any, url: str | None = None) -> str:
    """Saves a workspace online, in place of the one at an address where that is given.

    Args:
        workspace: As `build` makes it.
        url: Of an earlier one.

    Returns:
        Its address.

    Raises:
        UserError: If Weights & Biases cannot be reached, or refuses.
    """
    import wandb

    try:
        if url is not None:
            _take_the_place_of(workspace, type(workspace).from_url(url))
        return str(workspace.save().url)
    except (wandb.errors.Error, ValueError, OSError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"Weights & Biases did not save the workspace: {words.rstrip('.')}.") from None


def _take_the_place_of(workspace: Any, earlier: Any) -> None:
    for name in ("_internal_name", "_internal_id", "_internal_runset_id"):
        setattr(workspace, name, getattr(earlier, name))


def library() -> tuple[ModuleType, ModuleType]:
    """The library's modules of workspaces and of panels.

    Raises:
        UserError: If it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pydantic, whose old words the library still uses
        try:
            import wandb_workspaces.reports.v2 as panels
            import wandb_workspaces.workspaces as workspaces
        except ImportError:
            raise UserError(MISSING) from None
    return workspaces, panels


def earlier(file: Path) -> str | None:
    """Address of the workspace that was saved from a folder before."""
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["workspace"])
    except (OSError, ValueError, KeyError):
        return None
