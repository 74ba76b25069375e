"""Films that are copies of one another though their files differ: resized, re-encoded, re-windowed, a little cropped.

All chest films look alike, so that hashes of the whole picture take strangers for copies. Two steps keep them apart:

1. *Candidates.* A film becomes 16 x 16 values of local contrast, which no change of grey window touches much, and these
   are whitened by what the films at hand have in common. Of each film its mirror image, its negative and some cropped
   versions are looked up, too. Films lie in cells (k-means), and only the nearest cells are searched, so that the work
   grows with the number of films, not with its square.
2. *Proof.* The best candidates are registered upon one another (enhanced correlation coefficient, Evangelidis &
   Psarakis 2008), and their details must correlate where they overlap: the ribs of two patients never fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from xrayssl.data.parallel import in_order
from xrayssl.data.trim import trim_border

SIDE = 64
"""Height and width of a thumbnail in pixels; what copies are recognised by needs no more."""
ALIKE = 0.75
"""Least correlation of registered details at which two films are taken for copies."""
CLOSE = 0.5
"""Correlation at which it is worth while to lay the first film upon the second, too."""
COARSE, BROAD, FLOOR = 16, 3.0, 4.0
CROPS = ((0.0, 0.0), (0.04, 0.04), (0.08, 0.0), (0.0, 0.08))
"""Shares of a side that are cut off its start and its end, tried on both sides."""
PROMISING = 0.5
"""Cosine of whitened contrasts that makes a candidate; among few films, where it costs nothing, less will do."""
PER_FILM = 4
"""Candidates that are registered, per film in the mean."""
CELL, NEAREST = 1000, 12
"""Films per cell, and cells that are searched for each film."""
SHRINK = 0.3
"""Weight of the identity against the covariance, as films per value; few films say little about what they share."""
CHUNK = 2048


class Pair(NamedTuple):
    """Two films of which one is a copy.

    Args:
        first: Place of the one, the lower of the two.
        second: Place of the other.
        similarity: Correlation of their registered details, 0-1.
        how: "", "mirrored" or "inverted".
    """

    first: int
    second: int
    similarity: float
    how: str


@dataclass(frozen=True)
class Look:
    """One way to look a film up.

    Args:
        rows: (16, 64) makes the 16 values of a column from a thumbnail's 64.
        columns: (16, 64) likewise of a row.
        how: "", "mirrored" or "inverted".
    """

    rows: np.ndarray
    columns: np.ndarray
    how: str = ""


def thumbnail(image: np.ndarray) -> np.ndarray:
    """The picture inside its border, averaged down to uint8 (64, 64) whatever its aspect.

    Args:
        image: uint8 (H, W).
    """
    return cv2.resize(trim_border(image), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def look_alikes(thumbnails_NHW: np.ndarray, workers: int = 0) -> list[Pair]:
    """Finds the copies among films.

    Args:
        thumbnails_NHW: uint8 (N, 64, 64), as `thumbnail` makes them.
        workers: Processes that register candidates.

    Returns:
        Each pair once, by place.
    """
    if len(thumbnails_NHW) < 2:
        return []
    found = candidates(thumbnails_NHW)
    with_films = [(thumbnails_NHW[a], thumbnails_NHW[b], how) for a, b, how in found]
    scores = in_order(_similarity, with_films, workers, "look-alikes", "pair")
    pairs = [Pair(a, b, score, how) for (a, b, how), score in zip(found, scores, strict=True) if score >= ALIKE]
    return sorted(_best(pairs))


def _best(pairs: Sequence[Pair]) -> list[Pair]:
    """One of each two films: a symmetric film is found as its own mirror image, too."""
    return list({pair[:2]: pair for pair in sorted(pairs, key=lambda pair: pair.similarity)}.values())


def candidates(thumbnails_NHW: np.ndarray) -> list[tuple[int, int, str]]:
    """Pairs that deserve a closer look: first and second place, and how they are alike."""
    looks = _looks()
    films = np.concatenate([_contrast(part, looks[0]) for part in _chunks(thumbnails_NHW)])
    whiten = _whitening(films[_sample(len(films))])
    index = _Index(whiten(films))
    found: dict[tuple[int, int, str], float] = {}
    for look in looks:
        for start, part in zip(range(0, len(thumbnails_NHW), CHUNK), _chunks(thumbnails_NHW), strict=True):
            for one, other, cosine in index.near(whiten(_contrast(part, look))):
                one += start
                key = (min(one, other), max(one, other), look.how)
                if one != other:
                    found[key] = max(cosine, found.get(key, 0.0))
    return sorted(found, key=lambda key: -found[key])[: PER_FILM * len(thumbnails_NHW)]


def _looks() -> list[Look]:
    """The film itself first, then cropped, mirrored and inverted."""
    operators = [_shrinking(*cut) for cut in CROPS]
    whole = operators[0]
    cropped = [Look(rows, columns) for rows, columns in product(operators, operators)]
    return [*cropped, Look(whole, whole[:, ::-1], "mirrored"), Look(-whole, whole, "inverted")]


def _shrinking(start: float, end: float) -> np.ndarray:
    """Averages what is left of 64 values, after a share is cut off each end, to 16: float32 (16, 64)."""
    kept = np.eye(SIDE, dtype=np.float32)[round(start * SIDE) : SIDE - round(end * SIDE)]
    return cv2.resize(kept, (SIDE, COARSE), interpolation=cv2.INTER_AREA)


_BLUR = cv2.GaussianBlur(np.eye(COARSE, dtype=np.float32), (1, 0), sigmaX=1, sigmaY=BROAD)


def _contrast(thumbnails_NHW: np.ndarray, look: Look) -> np.ndarray:
    """Local contrast, what stands out over how much stands out thereabouts: float32 (N, 256) of unit length."""
    small = look.rows @ thumbnails_NHW.astype(np.float32) @ look.columns.T
    small -= _BLUR @ small @ _BLUR.T
    small /= np.sqrt(_BLUR @ small**2 @ _BLUR.T + FLOOR)
    flat = small.reshape(len(small), -1)
    return _unit(flat - flat.mean(axis=1, keepdims=True))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


class _Whitening(NamedTuple):
    """Takes away what films have in common, and evens out how they vary."""

    mean: np.ndarray
    axes: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return _unit((rows - self.mean) @ self.axes)


def _whitening(rows: np.ndarray) -> _Whitening:
    values, mean = rows.shape[1], rows.mean(axis=0)
    covariance = (rows - mean).T @ (rows - mean) / len(rows)
    share = SHRINK * values / (len(rows) + SHRINK * values)
    shrunk = (1 - share) * covariance + share * (np.trace(covariance) / values + 1e-9) * np.eye(values)
    spread, axes = np.linalg.eigh(shrunk)
    return _Whitening(mean, (axes / np.sqrt(spread)).astype(np.float32))


class _Index:
    """Films by their whitened contrasts, in cells.

    Args:
        films: float32 (N, 256) of unit length.
    """

    def __init__(self, films: np.ndarray) -> None:
        self.films, cells = films, max(1, len(films) // CELL)
        self.centres = _centres(films[_sample(len(films))], cells)
        home = np.concatenate([(part @ self.centres.T).argmax(axis=1) for part in _chunks(films)])
        order = np.argsort(home, kind="stable")
        self.members = np.split(order, np.searchsorted(home[order], np.arange(1, cells)))
        self.promising = min(PROMISING, self._usual(PER_FILM / (CELL * NEAREST)))

    def _usual(self, share: float) -> float:
        """The cosine that so many of the comparisons, or of all there are if these are fewer, exceed by chance."""
        some = self.films[_sample(len(self.films), CELL)]
        cosines = (some @ some.T)[~np.eye(len(some), dtype=bool)]
        looked_up = max(share, PER_FILM / len(self.films)) / (len(CROPS) ** 2 + 2)
        return float(np.quantile(cosines, max(0.0, 1 - looked_up)))

    def near(self, queries: np.ndarray) -> Iterator[tuple[int, int, float]]:
        """Query, film and cosine of what is promising."""
        closeness = queries @ self.centres.T
        far = max(0, len(self.centres) - NEAREST)
        searched = closeness >= np.partition(closeness, far, axis=1)[:, far : far + 1]
        for members, asking in zip(self.members, searched.T, strict=True):
            asked = np.flatnonzero(asking)
            cosine = queries[asked] @ self.films[members].T
            rows, columns = np.nonzero(cosine > self.promising)
            found = asked[rows].tolist(), members[columns].tolist(), cosine[rows, columns].tolist()
            yield from zip(*found, strict=True)


def _centres(films: np.ndarray, cells: int) -> np.ndarray:
    if cells == 1:
        return films[:1]
    from sklearn.cluster import MiniBatchKMeans

    return _unit(MiniBatchKMeans(cells, random_state=0, n_init=1, batch_size=4096).fit(films).cluster_centers_)


def _sample(films: int, most: int = 20_000) -> np.ndarray:
    return np.unique(np.linspace(0, films - 1, min(films, most)).astype(int))


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))


def _similarity(pair: tuple[np.ndarray, np.ndarray, str]) -> float:
    """Correlation of the details of two thumbnails after the second is laid upon the first; -1 if it does not fit."""
    one, other, how = pair
    other = {"": other, "mirrored": other[:, ::-1], "inverted": 255 - other}[how]
    forth = _registered(one, other)
    return max(forth, _registered(other, one)) if CLOSE <= forth < ALIKE else forth


def _registered(one: np.ndarray, other: np.ndarray) -> float:
    matrix = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 1e-4)
    try:
        _, matrix = cv2.findTransformECC(
            _detail(one, 4.0), _detail(other, 4.0), matrix, cv2.MOTION_AFFINE, stop, None, 3
        )
    except cv2.error:  # it diverged: they are nothing alike
        return -1.0
    warp = partial(cv2.warpAffine, M=matrix, dsize=(SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    inside = cv2.erode(warp(np.ones((SIDE, SIDE), np.uint8)), np.ones((5, 5)), borderValue=1).astype(bool)
    if inside.mean() < 0.5:
        return -1.0
    return float(np.corrcoef(_detail(one, 2.0)[inside], _detail(warp(other), 2.0)[inside])[0, 1])


def _detail(image: np.ndarray, broad: float) -> np.ndarray:
    fine = image.astype(np.float32)
    fine = fine - cv2.GaussianBlur(fine, (0, 0), broad)
    return fine / np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), broad) + FLOOR)
