"""Splits by patient, deterministic in a seed, stratified by label."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd

from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

MANY = 5000
"""Patients above which they are dealt out at one stroke: balancing them one by one takes 40 s for 125,000."""


def assign(manifest: Manifest, val: float = 0.15, test: float = 0.2, seed: int = 0) -> Manifest:
    """Gives every film without a split one, keeping patients whole and classes balanced.

    Official splits stay. Where a corpus has a test list but no validation split, validation is cut from train.

    Args:
        manifest: Of one corpus, with all its classes, and "" in the split column where a film is still unassigned.
        val: Share of the unassigned (or, without any, of the training) patients for validation, 0-1.
        test: Share of the unassigned patients for testing, 0-1, in a corpus that has no official test split.
        seed: Of the shuffle; keep it fixed between the runs that you compare.

    Raises:
        UserError: If a share is none, or a patient would stand in two splits.
    """
    problems = wrong_shares(val, test)
    if problems:
        raise UserError(*problems)
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
    strata = _strata(pool, classes)
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
    codes, names = pd.factorize(patients, sort=True)  # sorted: the order of the rows must not matter
    size = np.bincount(strata)
    by_rarity = np.argsort(np.argsort(size, kind="stable"))  # of a stratum: how many are rarer
    rank = np.full(len(names), len(size))
    np.minimum.at(rank, codes, by_rarity[strata])
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(names)), np.bincount(codes), rank))
    turns = np.floor(np.arange(len(names) + 1) * share + rng.random())
    taken = np.zeros(len(names), bool)
    taken[order] = np.diff(turns) > 0
    return np.flatnonzero(taken[codes])


def _balance(patients: pd.Series, strata: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Rows of whole patients out of folds that are balanced one patient at a time."""
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import, and not needed without a draw

    drawn, folds = _fraction(share, patients.nunique())
    if np.bincount(strata).max() < folds:  # no class has a film for every fold
        strata = np.zeros_like(strata)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # rare findings reach as many folds as they can
        parts = [part for _, part in splitter.split(strata, strata, patients)]
    return np.sort(np.concatenate(parts[:drawn]))


def _fraction(share: float, patients: int) -> tuple[int, int]:
    """The share as so many of so many folds: the fewest folds that come within 5 % of it."""
    for folds in range(2, min(patients, 1000) + 1):
        drawn = round(share * folds)
        if drawn < folds and abs(drawn / folds - share) <= 0.05 * share:
            return drawn, folds
    return min(max(1, round(share * patients)), patients - 1), patients


def _strata(pool: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """One stratum per film: its rarest positive class, so that rare findings reach every split."""
    if not classes:
        return np.zeros(len(pool), int)
    labels = np.nan_to_num(pool[classes].to_numpy(np.float32))
    rarity = np.where(labels > 0, 1.0 / np.maximum(labels.sum(axis=0), 1), 0.0)
    return np.where(rarity.max(axis=1) > 0, rarity.argmax(axis=1) + 1, 0)
