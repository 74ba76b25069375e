"""A comparison of recipes as one run of Weights & Biases: its tables, curves, figures and page."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xrayssl.errors import UserError
from xrayssl.loggers import Wandb, resolve
from xrayssl.tracking import curves
from xrayssl.tracking.privacy import SETTINGS, Pseudonyms

JOB = "comparison"
PAGE = "comparison.html"
TABLES = {
    "recipes": ("recipe", "network", "fraction", "seeds"),
    "differences": ("recipe", "reference", "network", "fraction", "metric", "value", "low", "high", "t", "df", "p",
                    "p_holm", "effect"),
}  # fmt: skip
ENDS = ("value", "low", "high", "sd")
KINDS = {"roc": curves.ROC, "pr": curves.PRECISION}
"""Names of the curves in comparison.json, and here."""


def log(comparison: Mapping[str, Any], folder: Path, options: Wandb) -> None:
    """Logs a comparison as a run of its own.

    Args:
        comparison: Content of comparison.json.
        folder: Where it lies; the run is kept there, and the page is taken from there if it is.
        options: What the user allows.

    Raises:
        UserError: If Weights & Biases is disabled, not installed, or does not answer.
    """
    run = _begun(comparison, folder, options)
    try:
        private, page = options.privacy, folder / PAGE
        run.log({f"comparison/{name}": table(*content, private) for name, content in tables(comparison).items()})
        if page.is_file() and not private:  # it names folders of runs
            run.log({"comparison/page": _page(page)})
        curves.log(run, list(rows(comparison)))
        run.summary.update(dict(figures(comparison)))
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _begun(comparison: Mapping[str, Any], folder: Path, options: Wandb) -> Any:
    mode = resolve(options.mode)
    if mode == "disabled":
        raise UserError("Weights & Biases is disabled (--wandb.mode, WANDB_MODE), or not installed; the comparison is "
                        f"in {folder}.")  # fmt: skip
    import wandb

    title, pseudonyms = str(comparison.get("title") or folder.name), Pseudonyms(options.project)
    told = {name: value for name, value in comparison.items() if name not in ("curves", "recipes", "differences")}
    try:
        return wandb.init(
            project=options.project,
            entity=options.entity,
            group=options.group or title,
            job_type=JOB,
            name=f"{title}/{JOB}",
            tags=list(dict.fromkeys([JOB, *options.tags])),
            config=pseudonyms.hidden(told) if options.privacy else told,
            dir=folder,
            reinit="create_new",
            settings=wandb.Settings(mode=mode, silent=True, **(SETTINGS if options.privacy else {})),
        )
    except wandb.errors.Error as error:
        words = " ".join(str(error).split())
        raise UserError(f"Weights & Biases: {words} Or keep it here for `wandb sync`: --wandb.mode offline.") from None


def tables(comparison: Mapping[str, Any]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Columns and rows of the tables: recipes with every metric, and differences."""
    metrics = [f"{metric}_{end}".removesuffix("_value") for metric in comparison["metrics"] for end in ENDS]
    known = {"recipes": [_flat(row, comparison["metrics"]) for row in comparison["recipes"]],
             "differences": list(comparison["differences"])}  # fmt: skip
    names = {"recipes": [*TABLES["recipes"], *metrics], "differences": [*TABLES["differences"]]}
    found = {
        name: (names[name], [[_plain(row.get(key)) for key in names[name]] for row in known[name]]) for name in known
    }
    return {name: content for name, content in found.items() if content[1]}


def _flat(row: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    ends = {(metric, end): estimate(row, metric).get(end) for metric in metrics for end in ENDS}
    return {**row, **{f"{metric}_{end}".removesuffix("_value"): value for (metric, end), value in ends.items()}}


def estimate(row: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """A recipe's metric with its interval: value, low, high, sd; empty where it has none."""
    return dict((row.get("metrics") or row).get(metric) or {})


def _plain(value: Any) -> Any:
    """A cell: a number, or text."""
    return value if value is None or isinstance(value, int | float | str) else ", ".join(map(str, value))


def table(columns: Sequence[str], content: Sequence[Sequence[Any]], private: bool) -> Any:
    """A table as Weights & Biases shows it; where privacy is asked for, as HTML: their own names the user's home."""
    import wandb

    if not private:
        return wandb.Table(columns=list(columns), data=[list(row) for row in content], allow_mixed_types=True)
    cells = [[html.escape(f"{cell:.4g}" if isinstance(cell, float) else str(cell)) for cell in row]
             for row in (columns, *content)]  # fmt: skip
    lines = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in cells)
    return wandb.Html(f"<table>{lines}</table>", inject=False)


def _page(path: Path) -> Any:
    import wandb

    return wandb.Html(path.read_text(encoding="utf-8"), inject=False)


def rows(comparison: Mapping[str, Any]) -> Iterator[curves.Row]:
    """Mean curves over the seeds of each recipe, for every class: rows as `curves.log` takes them."""
    from xrayssl.comparison.curves import GRID, mean_curve

    for kind, name in KINDS.items():
        axis = f"comparison_{name}/{curves.AXES[name]}"
        found = {axis: GRID}
        for label, of_class in (comparison.get("curves") or {}).items():
            for recipe, seeds in _by_recipe(comparison, of_class).items():
                found[f"comparison_{name}/{label}, {recipe}"] = mean_curve(seeds, kind)[1]
        for values in zip(*found.values(), strict=True) if len(found) > 1 else ():
            yield axis, dict(zip(found, map(float, values), strict=True))


def _by_recipe(comparison: Mapping[str, Any], of_class: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for seed in of_class:
        found.setdefault(label(comparison, seed), []).append(seed)
    return found


def figures(comparison: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Every recipe's metrics with both ends of their intervals, for bars, such as `auroc_macro/chest_mae`."""
    for row in comparison["recipes"]:
        for metric in comparison["metrics"]:
            entry = estimate(row, metric)
            for end in ENDS:
                if entry.get(end) is not None:
                    yield f"{metric}{'' if end == 'value' else f'_{end}'}/{label(comparison, row)}", float(entry[end])


def label(comparison: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Name of a recipe, with its network and share of labels where the comparison has several."""
    parts = [(str(row.get(key)), {one.get(key) for one in comparison["recipes"]}) for key in ("network", "fraction")]
    return ", ".join([str(row["recipe"]), *(name for name, several in parts if len(several) > 1)])
