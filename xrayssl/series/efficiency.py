"""`xrayssl efficiency`: how good a classifier becomes with how many labels, from which start."""

from __future__ import annotations

import itertools
import logging
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xrayssl.data_request import Options
from xrayssl.errors import noting, refuse
from xrayssl.request import split_equals, take
from xrayssl.series.folds import rehearsed, taken, title
from xrayssl.series.runs import Series, place
from xrayssl.series.training import Job, finished
from xrayssl.train import speak

log = logging.getLogger(__name__)
FRACTIONS, SEEDS = (0.01, 0.05, 0.1, 0.5, 1.0), (0, 1, 2)
USAGE = "--config NAME [--fractions ... | --shots ...] [--seeds ...] [--starts NAME=FILE ...] [options of fit]"
TEXT = """Trains and tests a classifier with more and more labels, from one or several starts and with several seeds,
and draws the curves. A seed draws the films (nested: 1 % lies inside 5 %) and starts the training; validation and test
films are the same throughout.

  --fractions 0.01 0.05 0.1 0.5 1 shares of the training patients (these are the default)
  --shots 1 5 10 50               films per class instead
  --seeds 0 1 2                   (the default); an interval over two or more
  --starts NAME=FILE ...          backbones to compare: a file or run, `timm`, or null for none; such as
                                  scratch=null imagenet=timm mae.v2=runs/mae_chest/...
  --metric auroc_macro            what the picture shows
  --out DIR                       folder for all (default: runs/<config>-efficiency/<time>); name it again to go on
  --config, --data..., --model... what `xrayssl fit` takes

In DIR: a folder per training, efficiency.csv, efficiency.json, efficiency.svg. What is finished is not repeated; what
was interrupted goes on.
"""
NAME = re.compile(r"[^\W_](?:[^\W_]|[-.])*")
"""Of a start: a part of a folder's name, in which `_` comes before the amount."""
OVERHEAD = 0.1
"""Work of a training that does not shrink with its films: start, validation and test, relative to one on all films."""


@dataclass(frozen=True)
class Point:
    """One training of the curve.

    Args:
        start: Name of what it starts from.
        amount: Fraction, or shots.
        seed: Of draw and training.
    """

    start: str
    amount: float
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.start}_{self.amount:g}_seed{self.seed}"


def efficiency_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl efficiency`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake, before anything is trained.
        KeyboardInterrupt: With a sentence saying how to go on.
    """
    options = _options()
    words = split_equals(argv)
    own, rest = options.parse_known_args(words)
    starts, problems = _starts(own.starts)
    set_here = {"--data.fraction": "--fractions says it", "--data.shots": "--shots says it",
                "--data.subset_seed": "--seeds says it", "--seed_everything": "--seeds says it",
                **({"--model.init_from": "--starts says it"} if starts else {})}  # fmt: skip
    refuse([*problems, *_wrong(own), *taken(rest, set_here)])
    speak()
    starts = starts or {title(rest): None}
    points = [Point(start, amount, seed) for seed, amount, start in itertools.product(
        own.seeds, sorted(own.shots or own.fractions), starts)]  # fmt: skip
    jobs = {point: Job(point.name, [*rest, *_words(point, own, starts[point.start])], _work(point, own)) for point in
            points}  # fmt: skip
    _rehearse([jobs[point] for point in points if point.seed == own.seeds[0] and point.amount == points[0].amount])
    asked = take(words, "--out")[1]
    series = Series("efficiency", asked, place("efficiency", title(rest), asked, own.out), list(jobs.values()))
    return series.perform(after=lambda: _write(series, jobs, own)) or _tell(series, jobs, own)


def _options() -> Options:
    options = Options("efficiency", USAGE, TEXT)
    options.add_argument("--fractions", nargs="+", type=float)
    options.add_argument("--shots", nargs="+", type=int)
    options.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    options.add_argument("--starts", nargs="+", default=[])
    options.add_argument("--metric", default="auroc_macro")
    options.add_argument("--out", type=Path)
    return options


def _wrong(own: Namespace) -> list[str]:
    """A sentence about each of the verb's own options that makes no sense; the default fractions are filled in."""
    both = own.fractions is not None and own.shots is not None
    own.fractions = own.fractions or list(FRACTIONS)
    problems = {
        "--fractions and --shots are two kinds of curves; give one.": both,
        f"--seeds are whole numbers of 0 or more, each once, not {own.seeds}.": (
            min(own.seeds) < 0 or len({*own.seeds}) < len(own.seeds)
        ),
        f"--fractions are shares above 0 and up to 1, each once, not {own.fractions}.": (
            not all(0 < one <= 1 for one in own.fractions) or len({*own.fractions}) < len(own.fractions)
        ),
        f"--shots are films per class, 1 or more, each once, not {own.shots}.": bool(own.shots)
        and (min(own.shots) < 1 or len({*own.shots}) < len(own.shots)),
    }
    return [sentence for sentence, holds in problems.items() if holds]


def _starts(given: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    """Name to value of init_from, and a sentence for each that is none."""
    pairs = [(word, *word.partition("=")[::2]) for word in given]
    problems = [f"--starts {word}: write NAME=FILE, such as mae=runs/mae_chest/...; a NAME begins with a letter or "
                "digit, and has letters, digits, hyphens and dots." for word, name, file in pairs
                if not file or not NAME.fullmatch(name)]  # fmt: skip
    names = [name for _, name, _ in pairs]
    problems += [f"--starts names {name!r} twice." for name in dict.fromkeys(names) if names.count(name) > 1]
    return {name: file for _, name, file in pairs}, problems


def _words(point: Point, own: Namespace, start: str | None) -> list[str]:
    amount = ["--data.shots", str(int(point.amount))] if own.shots else ["--data.fraction", f"{point.amount!r}"]
    seed = ["--data.subset_seed", str(point.seed), "--seed_everything", str(point.seed)]
    return [*amount, *seed, *(["--model.init_from", start] if start else [])]


def _work(point: Point, own: Namespace) -> float:
    return OVERHEAD + (point.amount / max(own.shots) if own.shots else point.amount)


def _rehearse(jobs: Sequence[Job]) -> None:
    """Builds a training from each start.

    Raises:
        UserError: With what is wrong in any of them.
    """
    problems: list[str] = []
    for job in jobs:
        with noting(problems):
            rehearsed(job.words)
    refuse(problems)


def _write(series: Series, jobs: dict[Point, Job], own: Namespace) -> None:
    from xrayssl.study.label_efficiency import Result, write

    done = [Result(point.start, point.amount, point.seed, series.run(job)) for point, job in jobs.items()
            if finished(series.run(job))]  # fmt: skip
    if done:
        write(series.folder, done, "shots" if own.shots else "fraction", own.metric)


def _tell(series: Series, jobs: dict[Point, Job], own: Namespace) -> int:
    from xrayssl.study.label_efficiency import told

    _write(series, jobs, own)
    sys.stdout.write(told(series.folder, own.metric))
    return 0
