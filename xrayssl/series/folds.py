"""`xrayssl folds`: a whole cross-validation by patient, pooled."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xrayssl import recipes
from xrayssl.data_request import Options
from xrayssl.errors import UserError, refuse
from xrayssl.request import split_equals, take
from xrayssl.series.runs import Series, place
from xrayssl.series.training import Job
from xrayssl.train import speak

log = logging.getLogger(__name__)
USAGE = "--config NAME [--folds 5] [options of fit]"
TEXT = """Deals a corpus without a test split of its own into folds, by patient and stratified by label; trains and
tests a classifier for each; pools the predictions, in which every film was tested once.

  --folds 5                       how many
  --out DIR                       folder for all (default: runs/<config>-folds/<time>); name it again to go on
  --config, --data..., --model... what `xrayssl fit` takes; --data.split_seed 1 deals anew

In DIR: fold-1, fold-2, ... (a run each, with its test), predictions.parquet and metrics.json of the pool, which also
holds each fold's figures and their mean, and report.html, a page of it. What is finished is not repeated; what was
interrupted goes on.
"""


def folds_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl folds`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake, before anything is trained.
        KeyboardInterrupt: With a sentence saying how to go on.
    """
    options = Options("folds", USAGE, TEXT)
    options.add_argument("--folds", type=int, default=5)
    options.add_argument("--out", type=Path)
    words = split_equals(argv)
    own, rest = options.parse_known_args(words)
    refuse([*([f"--folds must be 2 or more, not {own.folds}."] if own.folds < 2 else []),
            *taken(rest, {"--data.fold": "--folds says how many folds, and all of them are run"})])  # fmt: skip
    speak()
    jobs = [Job(f"fold-{number}", [*rest, "--data.fold", f"{number}/{own.folds}"]) for number in
            range(1, own.folds + 1)]  # fmt: skip
    data = rehearsed(jobs[0].words)[1]
    asked = take(words, "--out")[1]
    series = Series("folds", asked, place("folds", title(rest), asked, own.out), jobs)
    return series.perform() or _pooled(series, data)


def _pooled(series: Series, data: Any) -> int:
    from xrayssl.series.pooling import after_test, pool, summary
    from xrayssl.study.report import write_report

    figures = pool(series.folder, [after_test(series.run(job)) for job in series.jobs], data.whole.table)
    sys.stdout.write(f"{summary(figures)}\n\nThe pool is in {series.folder}.\n")
    page = write_report([series.folder], series.folder / "report.html", "Cross-validation")
    sys.stdout.write(f"Its page is {page}.\n")
    return 0


def taken(words: Sequence[str], refused: dict[str, str]) -> list[str]:
    """A sentence about each option of `fit` that a series sets itself.

    Args:
        words: That are handed to `fit`.
        refused: Such options, and who says it instead.
    """
    always = {name: "every training of a series has its own" for name in ("--run", "--ckpt_path")}
    reasons = {**always, **refused}
    return [f"{word} has no place here: {reasons[word]}." for word in dict.fromkeys(words) if word in reasons]


def rehearsed(words: Sequence[str]) -> tuple[Any, Any]:
    """Builds a training without running it; see `rehearsal.rehearse`.

    Raises:
        UserError: Also if it is no classifier's.
    """
    from xrayssl.series.rehearsal import rehearse

    method, data = rehearse(words)
    if not getattr(method, "classes", None):
        raise UserError(f"{type(method).__name__} learns without labels and has nothing to test; take a configuration "
                        "that fine-tunes, such as finetune_chest.")  # fmt: skip
    return method, data


def title(words: Sequence[str]) -> str:
    """Name of the configuration among the words of `fit`."""
    names = take(words, "--config", "-c")[0]
    return recipes.title(recipes.find(names[0])) if names else "finetune"
