"""One training and its test, in a folder of its own: begun, gone on with, or left alone because it is finished.

A kill at any moment leaves one of these, and each is known from what lies in the folder, where every file appears whole
or not at all: no checkpoint yet (begins anew), a checkpoint (is put aside, and a new attempt goes on from it), a
training that is recorded as finished (is tested), a test without figures (is repeated), figures (finished).
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrayssl.errors import UserError
from xrayssl.files import json_or_nothing

log = logging.getLogger(__name__)
ASIDE = "interrupted"


@dataclass(frozen=True)
class Job:
    """One training and its test.

    Args:
        name: Of its folder.
        words: Of `xrayssl fit`.
        work: How long it takes, relative to the others.
        tested: Whether a test follows; without labels there is nothing to test.
    """

    name: str
    words: list[str]
    work: float = 1.0
    tested: bool = True


def train(job: Job, folder: Path, launch: Callable[[Sequence[str]], int]) -> int:
    """Trains and tests what is not finished, going on where an earlier attempt was interrupted.

    Args:
        job: What to train.
        folder: In which its folder lies, and in `interrupted` what earlier attempts left.
        launch: Runs `xrayssl` with these words, and returns the exit status.

    Returns:
        0, or the exit status of the command that ended otherwise.

    Raises:
        UserError: If everything went well and nothing came of it.
    """
    run = folder / job.name
    status = 0 if fitted(run) else launch(_fit(job, folder))
    if status == 0 and job.tested:
        test = run / "test"
        shutil.rmtree(test, ignore_errors=True)  # of one that was cut short
        status = launch(["test", "--run", str(run), "--out", str(test)])  # named, so that several processes agree
    if status == 0 and not done(run, job.tested):
        raise UserError(f"{run}: the training left nothing to test; a trial (fast_dev_run) cannot be one of many.")
    return status


def done(run: Path, tested: bool = True) -> bool:
    """Whether nothing is left to do for a run.

    Args:
        run: Its folder.
        tested: Whether a test belongs to it.
    """
    return finished(run) if tested else fitted(run)


def finished(run: Path) -> bool:
    """Whether a run has been tested."""
    return (run / "test" / "metrics.json").is_file()


def fitted(run: Path) -> bool:
    """Whether a run's training went to its end."""
    return bool(_record(run).get("outcome") == "finished")


def seconds(run: Path) -> float:
    """What the training took, since it was last begun or gone on with, and its test; 0 where that is unknown."""
    return sum(float(_record(folder).get("seconds") or 0) for folder in (run, run / "test"))


def spell(duration: float) -> str:
    """Seconds in words, to the minute."""
    minutes = round(duration / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(1, minutes)} min"


def _record(run: Path) -> dict[str, Any]:
    return json_or_nothing(run / "run.json")


def _fit(job: Job, folder: Path) -> list[str]:
    """Words that train a job: from its start, or from where it was interrupted."""
    run, aside = folder / job.name, folder / ASIDE
    _put_aside(run, aside)
    checkpoint = _newest(aside, job.name)
    if checkpoint is None:
        return ["fit", *job.words, "--out", str(run)]
    log.info("Goes on from %s.", checkpoint)
    config = checkpoint.parents[1] / "config.yaml"
    return ["fit", "--config", str(config), "--ckpt_path", str(checkpoint), "--out", str(run)]


def _put_aside(run: Path, aside: Path) -> None:
    """Makes room for a run that starts again: what has a checkpoint is kept, what never came so far is not."""
    if not run.exists():
        return
    if not (run / "checkpoints" / "last.ckpt").is_file():
        shutil.rmtree(run)
        return
    aside.mkdir(exist_ok=True)
    run.rename(aside / f"{run.name}.{max(_attempts(aside, run.name), default=0) + 1}")


def _newest(aside: Path, name: str) -> Path | None:
    """The last checkpoint of the latest attempt that has one."""
    found = [aside / f"{name}.{number}" / "checkpoints" / "last.ckpt" for number in sorted(_attempts(aside, name))]
    return next((path for path in reversed(found) if path.is_file()), None)


def _attempts(aside: Path, name: str) -> list[int]:
    """Numbers of a job's attempts that were put aside; names may have dots, and begin with that of another."""
    parts = [path.name.rpartition(".") for path in aside.iterdir()] if aside.is_dir() else []
    return [int(number) for job, _, number in parts if job == name and number.isdecimal()]
