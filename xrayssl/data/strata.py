"""Patients in an order, or in folds, that spreads every class evenly: what splits, folds and subsets are drawn by."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd


def rarest(pool: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """One stratum per film: its rarest positive class, so that rare findings reach every part.

    Args:
        pool: Rows of a manifest's table.
        classes: Its K classes.

    Returns:
        int (N,); 1 to K, or 0 for films without any.
    """
    if not classes:
        return np.zeros(len(pool), int)
    labels = np.nan_to_num(pool[list(classes)].to_numpy(np.float32))
    rarity = np.where(labels > 0, 1.0 / np.maximum(labels.sum(axis=0), 1), 0.0)
    return np.where(rarity.max(axis=1) > 0, rarity.argmax(axis=1) + 1, 0)


def of_patients(codes: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """How common the rarest stratum of every patient is: 0 for the rarest of all, int (M,).

    Args:
        codes: Number of the patient of every film, 0 to M - 1.
        strata: Of every film.
    """
    size = np.bincount(strata)
    by_size = np.argsort(np.argsort(size, kind="stable"))  # of a stratum: how many are rarer
    rank = np.full(codes.max(initial=-1) + 1, len(size))
    np.minimum.at(rank, codes, by_size[strata])
    return rank


def by_rarity(patients: pd.Series, strata: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Patients by rarest stratum, then by number of films, at random where both are equal.

    Args:
        patients: Of every film.
        strata: Of every film.
        rng: Decides where both are equal; one number per patient is taken from it.

    Returns:
        Number of the patient of every film, int (N,), and those numbers in order, int (M,). The order of the rows does
        not matter to the latter.
    """
    codes, names = pd.factorize(patients, sort=True)
    order = np.lexsort((rng.random(len(names)), np.bincount(codes), of_patients(codes, strata)))
    return codes, order


def balanced(patients: pd.Series, strata: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Deals whole patients into folds one at a time, so that every stratum is spread as evenly as can be.

    Args:
        patients: Of every film.
        strata: Of every film.
        folds: At most as many as there are patients.
        seed: Of the shuffle.

    Returns:
        The fold of every film from 0, int (N,).
    """
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import, and not needed without a draw

    if np.bincount(strata).max() < folds:  # no class has a film for every fold
        strata = np.zeros_like(strata)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    found = np.empty(len(patients), int)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # rare findings reach as many folds as they can
        for number, (_, part) in enumerate(splitter.split(strata, strata, patients)):
            found[part] = number
    return found
