"""Splits by patient, deterministic in a seed, stratified by label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from xrayssl.data.folds import MANY, Fold, dealt
from xrayssl.data.manifest import Manifest
from xrayssl.data.strata import balanced, by_rarity, rarest
from xrayssl.errors import UserError


def assign(
    manifest: Manifest, val: float = 0.15, test: float = 0.2, seed: int = 0, fold: Fold | None = None
) -> Manifest:
    """Gives every film without a split one, keeping patients whole and classes balanced.

    Official splits stay. Where a corpus has a test list but no validation split, validation is cut from train. With a
    fold, the corpus is dealt anew (see `folds.dealt`): the fold is its test split, and validation is cut from the rest.

    Args:
        manifest: Of one corpus, with all its classes, and "" in the split column where a film is still unassigned.
        val: Share of the unassigned (or, without any, of the training) patients for validation, 0-1.
        test: Share of the unassigned patients for testing, 0-1, in a corpus that has no official test split.
        seed: Of the shuffle; keep it fixed between the runs that you compare.
        fold: Of a cross-validation, which takes the place of `test`.

    Raises:
        UserError: If a share is none, a patient would stand in two splits, or the corpus cannot be dealt into folds.
    """
    problems = wrong_shares(val, test)
    if problems:
        raise UserError(*problems)
    if fold is not None:
        manifest, test = dealt(manifest, fold, seed), 0.0
    split = _assign(manifest.table, manifest.classes, val, test, seed)
    return replace(manifest, table=manifest.table.assign(split=split))


def wrong_shares(val: float, test: float) -> list[str]:
    """A sentence about each share that is none."""
    wrong = [(name, share) for name, share in (("val", val), ("test", test)) if not 0 <= share < 1]
    return [f"--data.{name} must be a share from 0 to below 1, not {share}." for name, share in wrong]


def _assign(table: pd.DataFrame, classes: list[str], val: float, test: float, seed: int) -> pd.Series:
    split = table["split"].copy()
    if "test" not in split.unique() and test:
        split[_draw(table, split == "", classes, test, seed)] = "test"
    split[split == ""] = "train"
    if "val" not in split.unique() and val:
        split[_draw(table, split == "train", classes, val, seed)] = "val"
    return split


def _draw(table: pd.DataFrame, free: pd.Series, classes: list[str], share: float, seed: int) -> pd.Index:
    """Whole patients out of the free rows, about the share given, at least one where there are two."""
    pool = table[free]
    patients = pool["patient"].nunique()
    if patients < 2:
        return pool.index[:0]
    strata = rarest(pool, classes)
    if patients > MANY:
        return pool.index[_deal(pool["patient"], strata, share, seed)]
    return pool.index[_balance(pool["patient"], strata, share, seed)]


def _deal(patients: pd.Series, strata: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Rows of a share of the patients, taken at even steps from all, sorted by rarest stratum and number of films.

    Args:
        patients: Of every film.
        strata: Of every film.
        share: Of the patients, 0-1.
        seed: Of the order where both are equal, and of the first step.
    """
    rng = np.random.default_rng(seed)
    codes, order = by_rarity(patients, strata, rng)
    turns = np.floor(np.arange(len(order) + 1) * share + rng.random())
    taken = np.zeros(len(order), bool)
    taken[order] = np.diff(turns) > 0
    return np.flatnonzero(taken[codes])


def _balance(patients: pd.Series, strata: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Rows of whole patients out of folds that are balanced one patient at a time."""
    drawn, folds = _fraction(share, patients.nunique())
    return np.flatnonzero(balanced(patients, strata, folds, seed) < drawn)


def _fraction(share: float, patients: int) -> tuple[int, int]:
    """The share as so many of so many folds: the fewest folds that come within 5 % of it."""
    for folds in range(2, min(patients, 1000) + 1):
        drawn = round(share * folds)
        if drawn < folds and abs(drawn / folds - share) <= 0.05 * share:
            return drawn, folds
    return min(max(1, round(share * patients)), patients - 1), patients
