"""A whole comparison: what comparison.json holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from xrayssl import recipes as spelling
from xrayssl.comparison.curves import curves
from xrayssl.comparison.effects import WITHIN, cells, differences, recipes
from xrayssl.comparison.inference import LEVEL
from xrayssl.comparison.naming import amount_words
from xrayssl.comparison.selection import Entry, Selection
from xrayssl.comparison.tested import RESAMPLES, SEED, Measured, measure, read
from xrayssl.errors import UserError

VERSION = 1
HEADLINE = "auroc_macro"
ENOUGH = 5  # seeds; see benchmarks/comparison.py
SECONDARY = ("auprc_macro", "accuracy", "balanced_accuracy", "kappa", "sensitivity_macro", "specificity_macro", "brier",
             "ece", "ece_scaled")  # fmt: skip
METHOD = "Obuchowski-Rockette over seeds and patients, Hillis' df; of one seed: patient bootstrap, expanded percentile"


def compare(selection: Selection, reference: str | None, metrics: Sequence[str]) -> dict[str, Any]:
    """Compares recipes.

    Args:
        selection: Their runs.
        reference: Recipe that the others are compared with; None: the study's, or the first.
        metrics: Those that are shown, the headline first; empty: the macro AUROC, usual others, and every class.

    Returns:
        The content of comparison.json, see docs/comparison.md.

    Raises:
        UserError: If runs cannot be compared, or there is no such reference or metric.
    """
    chosen = chosen_reference(selection, reference)
    tested = read(selection.entries)
    measured = [measure(one) for one in tested]
    greatest = max(one.entry.amount for one in tested)
    facts = _films(tested[0].figures, len(tested[0].films)) | {
        "curves": curves([one for one in tested if one.entry.amount == greatest])
    }
    return assembled(selection, measured, chosen, _metrics(measured, metrics), facts)


def assembled(
    selection: Selection, measured: Sequence[Measured], reference: str | None, shown: list[str], facts: dict[str, Any]
) -> dict[str, Any]:
    """Sets figures of runs side by side, whatever they measure.

    Args:
        selection: The runs.
        measured: Figures of each, in resamples of patients that all share.
        reference: Recipe that the others are compared with; None: there is one alone.
        shown: Figures that are shown, the headline first.
        facts: task, classes, unit, films, patients and curves, as comparison.json has them.
    """
    found = cells(measured)
    content = {
        "version": VERSION,
        "title": selection.title,
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "reference": reference,
        "headline": shown[0],
        "metrics": shown,
        "amount": selection.entries[0].kind,
        "fractions": sorted({amount for _, amount in found}, reverse=True),
        "networks": list(dict.fromkeys(network for network, _ in found)),
        **facts,
        "interval": {"level": LEVEL, "method": METHOD, "resamples": RESAMPLES, "seed": SEED},
        "tables": [{"network": network, "fraction": amount, "ranked": all(len(runs) > 1 for runs in cell.values())}
                   for (network, amount), cell in found.items()],
        "recipes": recipes(found),
        "differences": differences(found, reference) if reference else [],
        "runs": [_run(one) for one in measured],
        "missing": [_missing(one) for one in selection.missing],
        "phantoms": any("phantom" in one for one in selection.corpora),
    }  # fmt: skip
    return content | {"notes": list(notes(content, selection))}


def chosen_reference(selection: Selection, asked: str | None) -> str | None:
    """The recipe that the others are compared with; None if there is one alone.

    Args:
        selection: The runs.
        asked: The recipe that the user names.

    Raises:
        UserError: If there is no such recipe, or studies name different ones.
    """
    names = list(dict.fromkeys(entry.recipe for entry in selection.entries))
    if asked is None and len(set(selection.references)) > 1:
        raise UserError(f"These studies have different references ({', '.join(selection.references)}); choose one with "
                        "--reference.")  # fmt: skip
    if asked is None:
        wanted = [name for name in selection.references if name in names]
        return (wanted or names)[0] if len(names) > 1 else None
    if asked not in names:
        hint = spelling.nearest(asked, names) or ""
        raise UserError(f"--reference {asked}: no finished run is of that recipe; there are {', '.join(names)}.{hint}")
    return asked


def _metrics(measured: Sequence[Measured], asked: Sequence[str]) -> list[str]:
    """Metrics that are shown, the headline first."""
    known = list(dict.fromkeys(name for one in measured for name in one.value))
    if unknown := [name for name in asked if name not in known]:
        hint = spelling.nearest(unknown[0], known) or ""
        plain = ", ".join(name for name in known if "/" not in name)
        raise UserError(f"--metric {unknown[0]}: no run has it; they have {plain}, and figures of each class.{hint}")
    if asked:
        return list(dict.fromkeys(asked))
    classes = [name for name in known if name.startswith("auroc/")]
    return [name for name in (HEADLINE, *SECONDARY) if name in known] + classes


def _films(figures: dict[str, Any], films: int) -> dict[str, Any]:
    return {key: figures.get(key) for key in ("task", "classes", "unit", "patients")} | {"films": films}


def _run(one: Measured) -> dict[str, Any]:
    return _about(one.entry) | {"run": "/".join(one.entry.run.parts[-2:]), "selected_on": one.selected_on}


def _missing(entry: Entry) -> dict[str, Any]:
    return _about(entry) | {"network": entry.network or None, "why": entry.why}


def _about(entry: Entry) -> dict[str, Any]:
    return {"recipe": entry.recipe, "network": entry.network, "fraction": entry.amount, "seed": entry.seed}


def notes(content: dict[str, Any], selection: Selection) -> Iterator[str]:
    """Sentences that belong beside every figure."""
    rows = content["recipes"]
    if alone := _names(row for row in rows if row["scope"] == WITHIN):
        yield (f"Within-checkpoint only, for want of a second seed: {alone}. Such figures are of one network, "
               "whose intervals hold patients alone; there is no p, and recipes are not ranked.")  # fmt: skip
    if marked := _names(row for row in rows if row["selected_on"] == "test"):
        yield (f"Figures with a dagger are too good: checkpoints of {marked} were selected on these very test films.")
    for seed in dict.fromkeys(selection.pretraining):
        yield (f"All seeds share one pretraining (seed {seed}): the intervals hold the variation of fine-tuning and of "
               "patients, not that of pretraining.")  # fmt: skip
    shared = _names(row for row in rows if row["shared_pretraining"])
    if shared and not selection.pretraining:
        yield (f"Seeds of {shared} start from the same weights: their intervals hold the variation of fine-tuning "
               "and of patients, not that of another pretraining.")  # fmt: skip
    if few := _names(row for row in rows if len(row["seeds"]) == 2):
        yield (f"Two seeds, as of {few}, say very little: an interval may be narrow by luck, and in simulations equal "
               "recipes were called different in 6 to 8 % of comparisons, not in 5 %.")  # fmt: skip
    if any(2 < len(row["seeds"]) < ENOUGH for row in rows):
        yield (f"With fewer than {ENOUGH} seeds small values of p are too small: in simulations with 3, p < 0.001 "
               "came up 2 to 4 times as often as it should, and one of nine equal recipes was called different in 7 to "
               "10 % of studies, not in 5 %.")  # fmt: skip
    if any(entry.folds for entry in selection.entries):
        yield ("A cross-validation counts as one seed, and its folds share training films; figures of decisions, whose "
               "thresholds differ from fold to fold, are not compared.")  # fmt: skip
    yield from _absent(content)


def _absent(content: dict[str, Any]) -> Iterator[str]:
    """What is missing, by recipe, and where the reference is."""
    lost: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for one in content["missing"]:
        on = f" on {one['network']}" if one["network"] and len(content["networks"]) > 1 else ""
        lost.setdefault((f"{one['recipe']}{on}", one["why"]), []).append((one["fraction"], one["seed"]))
    alike: dict[tuple[str, str], list[str]] = {}
    for (which, why), places in lost.items():
        alike.setdefault((_where(content, places), why), []).append(which)
    for (where, why), names in alike.items():
        yield f"Missing: {' and '.join(names)}, {where} ({why}). Differences are over the seeds that both recipes have."
    there = {(row["network"], row["fraction"]) for row in content["recipes"] if row["recipe"] == content["reference"]}
    for table in content["tables"]:
        if content["reference"] and (table["network"], table["fraction"]) not in there:
            yield (f"{content['reference']} is not there on {table['network']} at "
                   f"{amount_words(table['fraction'], content['amount'])}: no differences.")  # fmt: skip


def _where(content: dict[str, Any], places: list[tuple[float, int]]) -> str:
    """Seeds and amounts of labels in words."""
    amounts = sorted({amount for amount, _ in places}, reverse=True)
    words = ", ".join(amount_words(one, content["amount"]) for one in amounts)
    seeds = ", ".join(map(str, sorted({seed for _, seed in places})))
    return f"seed {seeds} at {words}" if len(content["fractions"]) > 1 else f"seed {seeds}"


def _names(rows: Iterator[dict[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(str(row["recipe"]) for row in rows))
