"""Orders of tiles that are as unlike one another as can be."""

from __future__ import annotations

import logging
import math
from itertools import chain, permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xrayssl.errors import UserError
from xrayssl.files import appearing, cache

log = logging.getLogger(__name__)

VERSION = 1
"""Of the algorithm, in the name of the file that keeps its result."""
POOL = math.factorial(9)
"""Most permutations to choose from: all of up to nine things, as many at random of more."""

Orders = NDArray[np.int64]


def distant(count: int, length: int, seed: int = 0) -> Orders:
    """Permutations of large Hamming distance, from the user's cache if they were made before.

    Args:
        count: How many.
        length: Of each, 2 or more.
        seed: Another one gives other permutations.

    Returns:
        int64 (count, length); each row holds 0 ... length - 1.

    Raises:
        UserError: If there are not as many.
    """
    most = min(POOL, math.factorial(length))
    if not 2 <= count <= most:
        raise UserError(f"model.permutations must be 2-{most} for {length} tiles, not {count}.")
    path = cache("permutations", f"{length}-{count}-{seed}-v{VERSION}.npy")
    kept = _read(path, count, length)
    if kept is not None:
        return kept
    orders = choose(count, length, seed)
    try:
        with appearing(path) as partial, partial.open("wb") as file:
            np.save(file, orders)
    except OSError as error:
        log.warning("The permutations cannot be kept for the next run (%s), which will make them again.", error)
    return orders


def choose(count: int, length: int, seed: int) -> Orders:
    """Chooses one after the other: each is as far as can be from the nearest of those before it.

    The greedy algorithm of Noroozi & Favaro 2016 (arXiv:1603.09246, algorithm 1), which takes the largest mean
    distance. We take the largest minimum, and among these the largest mean: two orders that differ in two tiles are
    what makes a puzzle ambiguous, and the mean does not see them.
    """
    pool_LN = candidates(length, np.random.default_rng(seed))
    nearest_N = np.full(pool_LN.shape[1], length, dtype=np.int32)
    total_N = np.zeros(pool_LN.shape[1], dtype=np.int32)
    chosen = [0]
    while len(chosen) < count:
        alike_N = np.zeros(pool_LN.shape[1], dtype=np.uint8)
        for place_N in pool_LN:
            alike_N += place_N == place_N[chosen[-1]]
        distance_N = length - alike_N.astype(np.int32)
        np.minimum(nearest_N, distance_N, out=nearest_N)
        total_N += distance_N
        chosen.append(int((nearest_N * (count * length + 1) + total_N).argmax()))
    return pool_LN[:, chosen].T.astype(np.int64)


def candidates(length: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What there is to choose from, in random order: uint8 (length, N)."""
    if math.factorial(length) > POOL:
        return rng.permuted(np.tile(np.arange(length, dtype=np.uint8)[:, None], POOL), axis=0)
    every = np.fromiter(chain.from_iterable(permutations(range(length))), dtype=np.uint8)
    return np.ascontiguousarray(rng.permutation(every.reshape(-1, length)).T)


def _read(path: Path, count: int, length: int) -> Orders | None:
    """What was kept; None if there is nothing, or nothing of use."""
    try:
        orders: Orders = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = orders.shape == (count, length) and (np.sort(orders, axis=1) == np.arange(length)).all()
    return orders if whole else None
