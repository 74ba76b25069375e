"""How long the intervals take, and how often they hold the truth.

Speed: every metric of 25,000 films of 14 findings, each film a patient of its own (the most expensive case), with 1,000
resamples; thresholds and a temperature are given, so that nothing is left out. Subgroups are measured beside it.

Coverage: patients with several films that resemble each other, of a model whose true figures are known in closed form.
Intervals at 95 % are made by drawing patients, and, as a naive comparison, by drawing films; the percentiles without
their expansion, and DeLong's interval, stand beside them. `coverage` is that of the AUROC with 100 patients of whom
half are ill.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from xrayssl.statistics.agreement import decisions
from xrayssl.statistics.delong import delong
from xrayssl.statistics.intervals import evaluate
from xrayssl.statistics.ranking import discrimination
from xrayssl.statistics.resampling import Floats, draws, interval
from xrayssl.statistics.subgroups import subgroups

FILMS, CLASSES, RESAMPLES = 25_000, 14, 1000
SHIFT, WITHIN, CUT = 1.0, 0.5, 0.5  # between ill and well; of films within a patient; of the decision
SCENES = {  # patients, share that is ill (None: films of a patient differ in it)
    "100 patients, half ill": (100, 0.5),
    "20 patients, half ill": (20, 0.5),
    "100 patients, a tenth ill": (100, 0.1),
    "300 patients, 15 ill": (300, 0.05),
    "100 patients, ill and well films": (100, None),
}


def speed() -> dict[str, float]:
    """Seconds and CPU seconds of a test set, and of its subgroups."""
    rng = np.random.default_rng(0)
    label = (rng.random((FILMS, CLASSES)) < rng.uniform(0.01, 0.2, CLASSES)).astype(np.float64)
    probability = (1 / (1 + np.exp(2 - label - rng.normal(size=label.shape)))).astype(np.float32)
    names = [f"finding {k}" for k in range(CLASSES)]
    patient = np.arange(FILMS)

    def measure(some: Any = slice(None)) -> dict[str, Any]:
        return evaluate(probability[some], label[some], patient[some], "multilabel", names, resamples=RESAMPLES,
                        threshold=dict.fromkeys(names, 0.2), temperature=1.3)  # fmt: skip

    ages = rng.uniform(0, 95, FILMS)
    rows = pd.DataFrame({"patient": patient, "sex": rng.choice(["F", "M"], FILMS), "age": ages,
                         "view": rng.choice(["PA", "AP"], FILMS)})  # fmt: skip
    whole, groups = timed(measure), timed(lambda: subgroups(rows, measure))
    return {
        "seconds_25k_14_1000": whole[0], "cpu_seconds_25k_14_1000": whole[1],
        "seconds_subgroups": groups[0], "cpu_seconds_subgroups": groups[1],
    }  # fmt: skip


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    start, busy = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - busy


def normal(value: float) -> float:
    """The normal distribution function."""
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))


def patients(rng: np.random.Generator, count: int, ill: float | None) -> tuple[Floats, Floats, Any]:
    """Scores, labels and patient numbers of 1 to 11 films each: a patient's part of the score is the same in all."""
    patient = np.repeat(np.arange(count), rng.integers(1, 12, count))
    label = (np.arange(count) < (ill or 0) * count)[patient] if ill else rng.random(len(patient)) < 0.5
    score = SHIFT * label + rng.normal(size=count)[patient] + WITHIN * rng.normal(size=len(patient))
    return score, label.astype(np.float64), patient


def holds(entry: dict[str, float | None], truth: float) -> bool:
    """Whether an interval holds the truth; one that does not exist does not."""
    return entry["low"] is not None and entry["high"] is not None and entry["low"] <= truth <= entry["high"]


def trial(rng: np.random.Generator, count: int, ill: float | None, resamples: int) -> dict[str, bool]:
    """Which intervals of one drawn test set hold the truth."""
    spread = math.hypot(1, WITHIN)
    truth = {"auroc": normal(SHIFT / spread / math.sqrt(2)), "sensitivity": normal((SHIFT - CUT) / spread)}
    score, label, patient = patients(rng, count, ill)
    found = {"auroc by delong": holds(delong(score, label), truth["auroc"])}
    for unit, who in (("patient", patient), ("film", np.arange(len(patient)))):
        size, seed = int(who.max()) + 1, int(rng.integers(2**31))
        parts = [discrimination(score, label, who, size), decisions(score >= CUT, label, who, size, ["sensitivity"])]
        weights = np.concatenate(list(draws(size, resamples, seed)), axis=1)
        for part, name in zip(parts, truth, strict=True):
            cloud, value = (part.metrics(part.sums @ w)[name] for w in (weights, np.ones((size, 1))))
            support = part.support[name]
            found[f"{name} by {unit}"] = holds(interval(name, value[0], cloud, [support], 0.95), truth[name])
            if unit == "patient":
                plain = interval(name, value[0], cloud, [10**6], 0.95)
                found[f"{name} by patient, plain"] = holds(plain, truth[name])
    return found


def coverage(scene: str, trials: int, resamples: int) -> pd.Series:
    """Share of drawn test sets whose intervals hold the truth."""
    rng = np.random.default_rng(list(SCENES).index(scene))
    return pd.DataFrame([trial(rng, *SCENES[scene], resamples) for _ in range(trials)]).mean()


def main() -> None:
    """Measures and prints tables, a JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer trials, of one scene")
    parser.add_argument("--trials", type=int, default=1000)
    wanted = parser.parse_args()
    figures = speed()
    scenes, trials, resamples = (list(SCENES)[:1], 300, 250) if wanted.quick else (list(SCENES), wanted.trials, 1000)
    found = pd.DataFrame({scene: coverage(scene, trials, resamples) for scene in scenes})
    sys.stdout.write(found.T.round(3).to_string() + f"\n{trials} trials each\n")
    main_scene = found[scenes[0]]
    rates = {"coverage": main_scene["auroc by patient"], "coverage_naive": main_scene["auroc by film"]}
    summary = {name: round(float(value), 3) for name, value in {**figures, **rates}.items()}
    sys.stdout.write(json.dumps(summary) + "\n")


if __name__ == "__main__":
    main()
