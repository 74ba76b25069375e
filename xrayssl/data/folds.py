"""Cross-validation by patient: a corpus without an official test split is dealt into k folds, each tested once."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from xrayssl.data.manifest import Manifest
from xrayssl.data.strata import balanced, by_rarity, rarest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
MANY = 5000
"""Patients above which they are dealt out at one stroke: balancing them one by one takes 40 s for 125,000."""


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation.

    Args:
        number: Which, from 1.
        folds: Of how many, 2 or more.
    """

    number: int
    folds: int

    def __str__(self) -> str:
        return f"{self.number}/{self.folds}"


def understood(text: str | None) -> tuple[Fold | None, list[str]]:
    """Reads `--data.fold i/k`.

    Args:
        text: Such as "1/5"; None is no fold.

    Returns:
        The fold, and a sentence if the text is none.
    """
    if text is None:
        return None, []
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", str(text))
    number, folds = (int(part) for part in found.groups()) if found else (0, 0)
    if not found:
        return None, [f"--data.fold is i/k, such as 1/5 for the first of five folds, not {text!r}."]
    if folds < 2 or not 1 <= number <= folds:
        return None, [f"--data.fold counts the folds from 1, of 2 or more: {text} is none; the last of five is 5/5."]
    return Fold(number, folds), []


def dealt(manifest: Manifest, fold: Fold, seed: int) -> Manifest:
    """Deals the patients of a corpus into folds, of which one becomes the test split and the rest is for training.

    All patients of whom a label is known are dealt, those of an official training or validation split, too: every
    labelled film is tested once. The others (such as unlabelled films added for pretraining) are always trained on. An
    official *test* split is refused: cross-validation would learn from its films, and no figure would compare with
    published ones.

    Args:
        manifest: Of one corpus, with all its classes.
        fold: Wanted. The k folds of one seed are disjoint and hold every patient dealt.
        seed: Of the deal.

    Returns:
        The corpus with the splits "train" and "test".

    Raises:
        UserError: If the corpus has an official test split, or fewer patients than folds.
    """
    table = manifest.table
    corpus = table["corpus"].iloc[0] if len(table) else "given"
    if (table["split"] == "test").any():
        raise UserError(
            f"--data.fold {fold}: the corpus {corpus!r} has a test split of its own, and cross-validation would learn "
            "from its films. Leave --data.fold out and vary --seed_everything, or give a corpus without a test split."
        )
    pool = table[_free(manifest)]
    patients = pool["patient"].nunique()
    if patients < fold.folds:
        raise UserError(f"--data.fold {fold}: the corpus {corpus!r} has {patients} patients, too few for {fold.folds} "
                        "folds.")  # fmt: skip
    _warn_of_scarce(pool, manifest.classes, fold, corpus)
    tested = pool.index[_numbers(pool, manifest.classes, fold.folds, seed) == fold.number - 1]
    split = pd.Series("train", table.index)
    split[tested] = "test"
    return replace(manifest, table=table.assign(split=split))


def _free(manifest: Manifest) -> np.ndarray:
    """Films of patients of whom some label is known, bool (N,); without classes all."""
    patient, classes = manifest.table["patient"], manifest.classes
    if not classes:
        return np.ones(len(manifest), bool)
    labelled = manifest.table[classes].notna().any(axis=1)
    return patient.isin(patient[labelled]).to_numpy()


def _numbers(pool: pd.DataFrame, classes: list[str], folds: int, seed: int) -> np.ndarray:
    """The fold of every film from 0, int (N,)."""
    strata = rarest(pool, classes)
    if pool["patient"].nunique() <= MANY:
        return balanced(pool["patient"], strata, folds, seed)
    rng = np.random.default_rng(seed)
    codes, order = by_rarity(pool["patient"], strata, rng)
    number = np.empty(len(order), int)
    for start in range(0, len(order), folds):  # patients that are alike, one to each fold, which fold by chance
        group = order[start : start + folds]
        number[group] = rng.permutation(folds)[: len(group)]
    return number[codes]


def _warn_of_scarce(pool: pd.DataFrame, classes: list[str], fold: Fold, corpus: str) -> None:
    counts = {name: pool["patient"][pool[name] == 1].nunique() for name in classes}
    scarce = [f"{name} ({count})" for name, count in counts.items() if count < fold.folds]
    if scarce:
        log.warning("%s: fewer patients than the %d folds have %s: some folds are tested without it.",
                    corpus, fold.folds, ", ".join(scarce))  # fmt: skip
