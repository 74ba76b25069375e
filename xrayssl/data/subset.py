"""Few labels on purpose: a share of the training patients, or so many training films per class, for curves of label
efficiency. Validation and test stay as they are, and smaller subsets lie inside larger ones of the same seed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from xrayssl.data.manifest import Manifest
from xrayssl.data.strata import of_patients, rarest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subset:
    """How much of the training split is kept.

    Args:
        fraction: Share of its patients, above 0 and up to 1.
        shots: Films per class instead, 1 or more; None keeps a share.
        seed: Of the draw, beside that of the split.
    """

    fraction: float = 1.0
    shots: int | None = None
    seed: int = 0


def wrong(subset: Subset) -> list[str]:
    """A sentence about each number that makes no sense."""
    fraction, shots = subset.fraction, subset.shots
    percent = f" {fraction:g} % is {fraction / 100:g}." if 1 < fraction <= 100 else ""
    problems = {
        f"--data.fraction must be a share above 0 and up to 1, not {fraction:g}.{percent}": not 0 < fraction <= 1,
        f"--data.shots must be 1 film per class or more, not {shots}.": shots is not None and shots < 1,
        "--data.fraction and --data.shots both say how much is learned from; give one.": (
            shots is not None and fraction != 1
        ),
        f"--data.subset_seed must be 0 or more, not {subset.seed}.": subset.seed < 0,
    }
    return [sentence for sentence, holds in problems.items() if holds]


def draw(manifest: Manifest, subset: Subset) -> Manifest:
    """Leaves out the training films that are not drawn.

    Args:
        manifest: Split, with the classes that are learned and without the films that are excluded.
        subset: What is kept.

    Returns:
        The manifest with its validation and test films, and the training films drawn.

    Raises:
        UserError: If shots are asked for and there is no label to count by.
    """
    if subset.shots is None and subset.fraction == 1:
        return manifest
    if subset.shots is not None and not manifest.classes:
        raise UserError("--data.shots counts films per class, and these corpora have no labels in common.")
    training = manifest.rows("train")
    pool = manifest.table.iloc[training]
    films = _shots(pool, manifest.classes, subset) if subset.shots else _fraction(pool, manifest.classes, subset)
    kept = np.ones(len(manifest), bool)
    kept[training] = films
    found = manifest.keep(kept)
    _tell(found, subset, len(training), pool["patient"].nunique())
    return found


def _fraction(pool: pd.DataFrame, classes: Sequence[str], subset: Subset) -> np.ndarray:
    """The films of the first patients of a sequence in which every beginning is stratified, bool (N,)."""
    codes, names = pd.factorize(pool["patient"], sort=True)
    unknown = pool[list(classes)].isna().all(axis=1).to_numpy(bool)  # of whom the share is drawn, too, and by itself
    strata = np.where(unknown, len(classes) + 1, rarest(pool, classes))
    sequence = _sequence(codes, _carried(pool, classes, codes, len(names)), strata, subset.seed)
    count = max(1, round(subset.fraction * len(names)))
    return np.isin(codes, sequence[:count])


def _carried(pool: pd.DataFrame, classes: Sequence[str], codes: np.ndarray, patients: int) -> np.ndarray:
    """What the films of every patient show, bool (M, K + 1): each class, and at last that none is there."""
    positive = (pool[list(classes)] == 1).to_numpy(bool).reshape(len(pool), len(classes))
    shown = np.column_stack([positive, _clear(pool, classes)])
    carried = np.zeros((patients, len(classes) + 1), bool)
    np.logical_or.at(carried, codes, shown)
    return carried


def _clear(pool: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Films of which it is known that they show none of the classes, as far as anything is known, bool (N,)."""
    labels = pool[list(classes)]
    return ((labels == 0).any(axis=1) & ~(labels == 1).any(axis=1)).to_numpy(bool)


def _sequence(codes: np.ndarray, carried: np.ndarray, strata: np.ndarray, seed: int) -> np.ndarray:
    """Patients so that any beginning has the classes in their proportions, int (M,).

    In front stand patients with whom every class is there once, the most common class first: a small subset would lack
    rare ones otherwise. Then those of each stratum come at even distances.

    Args:
        codes: Number of the patient of every film.
        carried: What each patient's films show, (M, K + 1).
        strata: Of every film.
        seed: Of the order within a stratum.
    """
    chance = np.random.default_rng(seed).permutation(len(carried))
    front = _cover(carried, chance)
    stratum = of_patients(codes, strata)
    first = np.isin(np.arange(len(carried)), front)
    place = np.empty(len(carried))
    for one in np.unique(stratum):
        members = np.flatnonzero(stratum == one)
        members = members[np.lexsort((chance[members], ~first[members]))]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    rest = np.lexsort((chance, place))
    return np.concatenate([front, rest[~first[rest]]]).astype(int)


def _cover(carried: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """The first patient by chance for each class that those before do not show; the most common class first."""
    found: list[int] = []
    for one in np.argsort(-carried.sum(axis=0), kind="stable"):
        patients = np.flatnonzero(carried[:, one])
        if len(patients) and not carried[found, one].any():
            found.append(int(patients[chance[patients].argmin()]))
    return np.array(found, int)


def _shots(pool: pd.DataFrame, classes: Sequence[str], subset: Subset) -> np.ndarray:
    """So many films of each class, bool (N,).

    The films of a class stand in a line, first one of each patient, then a second one of each. Round by round every
    class, the rarest first, takes films from its line until it has as many as the round's number: so 1 shot lies
    inside 5. A film with two findings counts for both and is taken once. "None of them" is a class of its own for
    findings, or nothing would be learned to be absent.
    """
    member = np.column_stack([(pool[list(classes)] == 1).to_numpy(bool), _clear(pool, classes)])
    lines = _lines(pool, member, subset.seed)
    order = np.argsort(member.sum(axis=0), kind="stable")
    taken = np.zeros(len(pool), bool)
    for number in range(1, (subset.shots or 0) + 1):
        for one in order:
            while lines[one] and member[taken, one].sum() < number:
                taken[lines[one].pop()] = True
    _warn_of_few(member, classes, subset.shots or 0)
    return taken


def _lines(pool: pd.DataFrame, member: np.ndarray, seed: int) -> list[list[int]]:
    """Films of each class in the order in which they are taken, the next one at the end."""
    rng = np.random.default_rng(seed)
    by_name = np.argsort(pool["path"].to_numpy(str), kind="stable")  # the order of the rows must not matter
    chance = np.empty(len(pool))
    chance[by_name] = rng.random(len(pool))
    codes, names = pd.factorize(pool["patient"], sort=True)
    of_patient = rng.random(len(names))[codes]
    lines = []
    for column in member.T:
        films = np.flatnonzero(column)
        films = films[np.argsort(chance[films], kind="stable")]
        turn = pd.Series(codes[films]).groupby(codes[films]).cumcount().to_numpy()
        lines.append(films[np.lexsort((of_patient[films], turn))][::-1].tolist())
    return lines


def _warn_of_few(member: np.ndarray, classes: Sequence[str], shots: int) -> None:
    counts = dict(zip(classes, member.sum(axis=0).tolist(), strict=False))  # without the last, "none of them"
    few = [f"{name} ({count})" for name, count in counts.items() if count < shots]
    if few:
        log.warning("--data.shots %d: these classes have fewer training films: %s.", shots, ", ".join(few))


def _tell(found: Manifest, subset: Subset, films: int, patients: int) -> None:
    training = found.table.iloc[found.rows("train")]
    asked = f"{subset.shots} films per class" if subset.shots else f"{subset.fraction:.3g} of the patients"
    log.info("Learning from %s: %d of %d films, %d of %d patients (subset_seed %d).",
             asked, len(training), films, training["patient"].nunique(), patients, subset.seed)  # fmt: skip
    missing = [name for name in found.classes if not (training[name] == 1).any()]
    if missing:
        log.warning("No film that is learned from has: %s.", ", ".join(missing))
