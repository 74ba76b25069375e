"""How often `xrayssl compare` is wrong, and how often it finds what is there.

Drawn are test sets of 60 to 400 patients with 1 to 6 films each, and the scores that trainings give them: what every
training makes of a patient and of a film, what a recipe makes of a patient (shared by its seeds), how good a seed
turned out, and what it alone makes of patients and films. From them AUROCs, as the program computes them, and
differences of two recipes seed by seed.

* `null`: both recipes are the same one, trained with other seeds: "A is better than B" is said falsely.
* `null, other patients`: two recipes that are equally good on all patients, but not on the same ones. Only an analysis
  that holds patients keeps its 5 % here; Student's paired t over seeds does not.
* `null, uneven seeds`: the same recipe again, whose trainings turn out very unevenly.
* `power, 0.03` and `power, 0.05`: recipe A is better by so much of AUROC, and not on the same patients.

Compared are the default (Obuchowski and Rockette with Hillis' df and patients' df), the same with Hillis' df alone,
Student's paired t over seeds, and the (seed, patient) bootstrap. `coverage` is that of a single recipe's mean.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from xrayssl.comparison.inference import Estimate, hierarchical, over_seeds, paired_t
from xrayssl.statistics.ranking import discrimination, disjoint_pairs
from xrayssl.statistics.resampling import Floats, draws, effective

SHARE = 0.35  # of patients that are ill
PATIENT, FILM = 0.8, 0.5  # what every training sees in a patient and in a film (standard deviations of scores)
SEED_PATIENT, SEED_FILM = 0.45, 0.35  # what one training alone sees
SHIFT = 1.25  # that distance; an AUROC of about 0.79
SIZES, SEEDS = (60, 120, 200, 400), (3, 5, 10)


@dataclass(frozen=True)
class World:
    """What is true.

    Args:
        recipe_patient: Standard deviation of what a recipe makes of a patient.
        effect: How much better A is, in AUROC.
        seed: Standard deviation of how good a seed turned out, of the distance between ill and well.
    """

    recipe_patient: float = 0.0
    effect: float = 0.0
    seed: float = 0.06

    @property
    def spread(self) -> float:
        """Standard deviation of a score among the ill, or among the well."""
        parts = (PATIENT, FILM, SEED_PATIENT, SEED_FILM, self.recipe_patient)
        return float(np.sqrt(np.square(parts).sum()))

    def auroc(self, shift: float) -> float:
        """True AUROC over all patients, of the mean seed: films of one patient hardly enter."""
        return float(stats.norm.cdf(shift / np.hypot(self.spread * np.sqrt(2), self.seed)))

    def shifts(self) -> tuple[float, float]:
        """Distances of A and B that give the effect."""
        wide = np.hypot(self.spread * np.sqrt(2), self.seed)
        return float(stats.norm.ppf(self.auroc(SHIFT) + self.effect) * wide), SHIFT


WORLDS = {
    "null": World(),
    "null, other patients": World(0.5),
    "null, uneven seeds": World(seed=0.4),
    "power, 0.03": World(0.35, 0.03),
    "power, 0.05": World(0.35, 0.05),
}


def scores(rng: np.random.Generator, world: World, patients: int, seeds: int) -> tuple[list[Floats], Floats, Any]:
    """Scores (S, N) of two recipes, labels and patient numbers of N films; half the patients have one film."""
    patient = np.repeat(np.arange(patients), np.where(rng.random(patients) < 0.5, 1, rng.integers(2, 7, patients)))
    ill = rng.permutation(patients) < SHARE * patients
    label, films = ill[patient].astype(np.float64), len(patient)
    shared = PATIENT * rng.normal(size=patients)[patient] + FILM * rng.normal(size=films)
    found = []
    for shift in world.shifts():
        own = shared + world.recipe_patient * rng.normal(size=patients)[patient]
        alone = SEED_PATIENT * rng.normal(size=(seeds, patients))[:, patient] + SEED_FILM * rng.normal(
            size=(seeds, films)
        )
        quality = shift + world.seed * rng.normal(size=(seeds, 1))
        found.append(own + alone + quality * label)
    return found, label, patient


def trial(start: int, world: World, seeds: int, resamples: int) -> dict[str, Any]:
    """One comparison: which analyses say that A and B differ, and whose intervals of B's mean hold the truth."""
    rng = np.random.default_rng((start, seeds))
    patients = SIZES[start % len(SIZES)]
    pair, label, patient = scores(rng, world, patients, seeds)
    weights = np.concatenate([np.ones((patients, 1)), *draws(patients, resamples, start)], axis=1)
    parts = [[discrimination(one, label, patient, patients) for one in recipe] for recipe in pair]
    cloud = np.array([[part.metrics(part.sums @ weights)["auroc"] for part in recipe] for recipe in parts])
    support = effective([disjoint_pairs(patient[label == 1], patient[label == 0])])
    value, cloud = cloud[:, :, 0], cloud[:, :, 1:]
    difference, apart = value[0] - value[1], cloud[0] - cloud[1]
    interval = hierarchical(apart)
    truth, mean = world.auroc(SHIFT), over_seeds(value[1], cloud[1], support)
    both = hierarchical(cloud[1])
    return {
        "patients": patients,
        "default": _said(over_seeds(difference, apart, support)),
        "hillis": _said(over_seeds(difference, apart)),
        "paired_t": (paired_t(difference) or 1) < 0.05,
        "bootstrap": interval is not None and not interval[0] <= 0 <= interval[1],
        "covered": _holds(mean, truth),
        "covered, hillis": _holds(over_seeds(value[1], cloud[1]), truth),
        "covered, bootstrap": both is not None and both[0] <= truth <= both[1],
        "difference covered": _holds(over_seeds(difference, apart, support), world.effect),
        "sd": value[1].std(ddof=1),
    }


def _said(found: Estimate) -> bool:
    return found.p is not None and found.p < 0.05


def _holds(found: Estimate, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def rates(world: World, seeds: int, trials: int, resamples: int) -> pd.DataFrame:
    """Every analysis' share of trials, by the number of patients and over all."""
    with ProcessPoolExecutor() as pool:
        found = list(
            pool.map(partial(trial, world=world, seeds=seeds, resamples=resamples), range(trials), chunksize=16)
        )
    table = pd.DataFrame(found)
    return pd.concat([table.groupby("patients").mean(), table.drop(columns="patients").mean().to_frame("all").T])


def family(seeds: int, uneven: bool, recipes: int = 10, trials: int = 10_000) -> dict[str, float]:
    """How often any of nine equally good recipes is called different from the reference, after Holm.

    Figures are drawn as the model has them: a seed's, with a standard deviation of 1, or of 3 for the reference
    (`uneven`: random weights may need luck), and what a recipe makes of patients. Beside the default stands an error
    term that all recipes share, as in Obuchowski and Rockette's test of more than two.
    """
    rng, found = np.random.default_rng(seeds), {"pair": 0, "shared": 0}
    spread = np.ones((recipes, 1))
    spread[0] = 3 if uneven else 1
    for _ in range(trials):
        figure = np.sqrt(0.3) * rng.normal(size=(recipes, 1)) + spread * rng.normal(size=(recipes, seeds))
        apart, between = figure[1:] - figure[0], 0.6 * rng.chisquare(40) / 40
        rest = figure - figure.mean(1, keepdims=True) - figure.mean(0) + figure.mean()
        shared = 2 * float((rest**2).sum()) / ((recipes - 1) * (seeds - 1))
        errors = {"pair": (apart.var(1, ddof=1) / seeds, seeds - 1),
                  "shared": (np.full(recipes - 1, shared) / seeds, (recipes - 1) * (seeds - 1))}  # fmt: skip
        for name, (own, own_df) in errors.items():
            df = (own + between) ** 2 / (own**2 / own_df + between**2 / 40)
            p = 2 * stats.t.sf(np.abs(apart.mean(1)) / np.sqrt(own + between), df)
            found[name] += p.min() * len(p) < 0.05
    return {name: count / trials for name, count in found.items()}


def summary(whole: dict[tuple[str, int], pd.Series]) -> dict[str, float]:
    """The figures by name, of the worlds that were drawn."""
    found: dict[str, float] = {}
    for (world, seeds), row in whole.items():
        if world.startswith("power"):
            found[f"power_{seeds}{'' if world == 'power, 0.05' else '_at_0.03'}"] = row["default"]
            continue
        behind = f"_{seeds}_seeds{world.removeprefix('null').replace(', ', '_').replace(' ', '_')}"
        found[f"false_positive{behind}"] = row["default"]
        found |= {f"false_positive_{name}{behind}": row[name] for name in ("hillis", "paired_t", "bootstrap")}
        found[f"coverage{behind}"] = row["covered"]
        found[f"coverage_bootstrap{behind}"] = row["covered, bootstrap"]
    return {name: round(float(value), 3) for name, value in found.items()}


def main() -> None:
    """Measures and prints tables, a JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer trials and resamples; most for the first claim")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    wanted = parser.parse_args()
    resamples = 120 if wanted.quick else 250
    start, whole = time.perf_counter(), {}
    for world, seeds in itertools.product(wanted.worlds, SEEDS):
        quick = 1000 if (world, seeds) == ("null", 5) else 100
        found = rates(WORLDS[world], seeds, quick if wanted.quick else wanted.trials, resamples)
        sys.stdout.write(f"\n{world}, {seeds} seeds\n{found.astype(float).round(3).to_string()}\n")
        whole[world, seeds] = found.loc["all"]
    families = {}
    for seeds, uneven in itertools.product(SEEDS, (False, True)):
        rates_ = family(seeds, uneven, trials=500 if wanted.quick else 10_000)
        behind = f"_{seeds}_seeds{'_uneven' if uneven else ''}"
        families |= {f"family_wise{behind}": rates_["pair"], f"family_wise_shared{behind}": rates_["shared"]}
    figures = {**summary(whole), **families, "effect": 0.05, "seconds": round(time.perf_counter() - start)}
    sys.stdout.write(f"\n{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
