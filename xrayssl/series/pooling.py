"""A cross-validation's folds put together: every film is tested once, by the model that has not learned from it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xrayssl import results
from xrayssl.errors import UserError
from xrayssl.files import write_json
from xrayssl.metrics import Gathered, evaluate
from xrayssl.statistics.calibration import scaled

DECIDED = ("sensitivity", "specificity", "ppv", "npv", "f1")
DECIDED_ALONE = ("accuracy", "balanced_accuracy", "kappa")
"""Of findings; those of classes are of the most probable one, whatever its threshold."""
NOTHING: dict[str, Any] = {"metrics": {}, "macro_without": {}, "interval": {"left_out": {}, "exact": []}}
NOTE = (
    "AUROC, AUPRC and Brier score of the pool compare probabilities of different models, each at home in another fold; "
    "`mean` is that of the folds' own figures, and `sd` their standard deviation. It is no standard error: the folds "
    "share training films (Bengio and Grandvalet 2004, JMLR 5:1089). Decisions and scaled probabilities are made fold "
    "by fold, with the threshold and the temperature that its own validation films gave."
)


@dataclass(frozen=True)
class Tested:
    """What the test of one fold left.

    Args:
        run: Folder of its run.
        predictions: predictions.parquet.
        figures: metrics.json.
    """

    run: Path
    predictions: pd.DataFrame
    figures: dict[str, Any]


def after_test(run: Path) -> Tested:
    """Reads what the test of a run left."""
    folder = run / "test"
    figures = json.loads((folder / results.METRICS).read_text(encoding="utf-8"))
    return Tested(run, pd.read_parquet(folder / results.PREDICTIONS), figures)


def pool(folder: Path, folds: Sequence[Tested], table: pd.DataFrame) -> dict[str, Any]:
    """Writes predictions.parquet and metrics.json of all folds together.

    Args:
        folder: Where to.
        folds: Each one's test, in order.
        table: Of the manifest of all films; the split does not matter.

    Returns:
        The content of metrics.json: that of one test, and `folds`: count, note, figures of each, mean and sd.

    Raises:
        UserError: If a film was tested twice, or is none of the manifest.
    """
    first = folds[0].figures
    task, classes, unit = first["task"], first["classes"], first["unit"]
    films, fold = _joined(folds, table, classes)
    chosen: results.Chosen = "test" if any(one.figures.get("selected_on") == "test" for one in folds) else "val"
    whole = table.assign(split="test")
    figures = results.write(folder, whole, films, task, classes, "test", unit, selected_on=chosen)
    units = films if unit == "film" else results.by_study(films, whole, task)
    number = fold[np.searchsorted(films.index, units.index)]
    patient = whole["patient"].to_numpy()[units.index]
    operating = [one.figures.get("operating") or {} for one in folds]
    _add(figures, _decided(units, patient, number, operating, task, classes))
    _add(figures, _calibrated(units, patient, number, operating, task, classes))
    figures["folds"] = {"count": len(folds), "note": NOTE, "without_threshold": _thresholdless(operating, classes),
                        "figures": [_told(one) for one in folds], **_mean(folds)}  # fmt: skip
    write_json(folder / results.METRICS, figures)
    return figures


def _joined(folds: Sequence[Tested], table: pd.DataFrame, classes: Sequence[str]) -> tuple[Gathered, np.ndarray]:
    """Every film once by ascending row of the manifest, and the number of its fold from 0."""
    every = pd.concat([one.predictions.assign(fold=number) for number, one in enumerate(folds)], ignore_index=True)
    row = pd.Series(np.arange(len(table)), pd.Index(table["path"].map(lambda path: str(Path(path).absolute()))))
    place = every["film"].map(row)
    twice = every["film"][every["film"].duplicated()]
    if len(twice) or place.isna().any():
        film = twice.iloc[0] if len(twice) else every["film"][place.isna()].iloc[0]
        how = "was tested in two folds" if len(twice) else "is none of these corpora any more"
        raise UserError(f"{film} {how}: the corpora or their split changed between the folds; start anew.")
    order = np.argsort(place.to_numpy())
    every, index = every.iloc[order], place.to_numpy(np.int64)[order]
    probability, label = (every[[f"{kind}/{name}" for name in classes]].to_numpy(np.float32)
                          for kind in ("probability", "label"))  # fmt: skip
    return Gathered(index, probability, label), every["fold"].to_numpy()


def _add(figures: dict[str, Any], found: dict[str, Any]) -> None:
    """Puts further figures into the pool's, with what `evaluate` says of their means and intervals."""
    for part in ("metrics", "macro_without"):
        figures[part] = figures.get(part, {}) | found[part]
    for part in ("left_out", "exact"):
        known, further = figures["interval"][part], found["interval"][part]
        figures["interval"][part] = {**known, **further} if isinstance(known, dict) else [*known, *further]


def _kept(found: dict[str, Any], wanted: Sequence[str], called: str = "") -> dict[str, Any]:
    """The figures of `evaluate` that are of these kinds, and what it says of them; under another name if given."""

    def named(name: str) -> str:
        return name.replace(_kind(name), called or _kind(name), 1)

    parts = {part: {named(name): one for name, one in found[part].items() if _kind(name) in wanted}
             for part in ("metrics", "macro_without")}  # fmt: skip
    how = found["interval"]
    left_out = {named(name): count for name, count in how["left_out"].items() if _kind(name) in wanted}
    exact = [named(name) for name in how["exact"] if _kind(name) in wanted]
    return {**parts, "interval": {"left_out": left_out, "exact": exact}}


def _decided(
    units: Gathered, patient: np.ndarray, fold: np.ndarray, operating: Sequence[dict[str, Any]], task: str,
    classes: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Figures of decisions at each fold's own thresholds; films of a fold that has none are left out of them."""
    threshold = np.array([[_number(one.get("threshold", {}).get(name)) for name in classes] for one in operating])
    least = threshold[fold]
    label = np.where(np.isnan(least), np.nan, units.label)
    called = (units.probability.astype(np.float64) >= least).astype(float)
    if np.isnan(label).all():
        return NOTHING
    half = dict.fromkeys(classes, 0.5)
    found = evaluate(called, label, patient, "multilabel", classes, threshold=half)
    wanted = DECIDED if task == "multiclass" else (*DECIDED, *DECIDED_ALONE)
    return _kept(found, wanted)


def _thresholdless(operating: Sequence[dict[str, Any]], classes: Sequence[str]) -> dict[str, list[int]]:
    """Numbers of the folds, from 1, whose validation films gave a class no threshold."""
    missing = {name: [number for number, one in enumerate(operating, 1) if one.get("threshold", {}).get(name) is None]
               for name in classes}  # fmt: skip
    return {name: numbers for name, numbers in missing.items() if numbers}


def _calibrated(
    units: Gathered, patient: np.ndarray, fold: np.ndarray, operating: Sequence[dict[str, Any]], task: Any,
    classes: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """The calibration error after each fold's own temperature scaling."""
    temperature = [float(one["temperature"]) for one in operating if one.get("temperature") is not None]
    if len(temperature) < len(operating):
        return NOTHING
    after = units.probability.astype(np.float64)
    for number, one in enumerate(temperature):
        after[fold == number] = scaled(after[fold == number], one, task)
    return _kept(evaluate(after, units.label, patient, task, classes), ["ece"], "ece_scaled")


def _kind(name: str) -> str:
    return name.partition("/")[0].removesuffix("_macro")


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _told(one: Tested) -> dict[str, Any]:
    kept = ("films", "studies", "patients", "metrics", "undefined", "operating", "selected_on")
    return {"run": one.run.name, **{name: one.figures[name] for name in kept if name in one.figures}}


def _mean(folds: Sequence[Tested]) -> dict[str, Any]:
    """Mean and standard deviation over folds of every figure, over those that have it."""
    names = dict.fromkeys(name for one in folds for name in one.figures["metrics"])
    found: dict[str, Any] = {"mean": {}, "sd": {}, "folds_with": {}}
    for name in names:
        entries = [one.figures["metrics"].get(name, {}).get("value") for one in folds]
        known = np.array([value for value in entries if value is not None], float)
        found["mean"][name] = float(known.mean()) if len(known) else None
        found["sd"][name] = float(known.std(ddof=1)) if len(known) > 1 else None
        found["folds_with"][name] = len(known)
    return found


def summary(figures: dict[str, Any]) -> str:
    """The pool for a terminal, and beside it the mean of the folds' own figures."""
    folds = figures["folds"]
    lines = [results.summary(figures), f"mean of {folds['count']} folds (standard deviation over folds):"]
    for name in figures["metrics"]:
        mean, sd = folds["mean"].get(name), folds["sd"].get(name)
        if "/" not in name and mean is not None:
            spread = f"  ({sd:.3f})" if sd is not None else ""
            lines.append(f"  {name:<28}{mean:.3f}{spread}")
    return "\n".join(lines)
