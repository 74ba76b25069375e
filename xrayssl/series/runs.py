"""Trainings that belong together, one after another: each in a folder and a process of its own, none of them twice.

A process each (`python -m xrayssl fit ...`) costs some seconds of imports and buys that memory, seeds, signals and
distributed launches of one training cannot touch the next; and that every one can be repeated by hand. A training that
was interrupted goes on from its last checkpoint; what it had left is kept in the folder `interrupted`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from xrayssl import rundir
from xrayssl.errors import UserError
from xrayssl.files import write_json

log = logging.getLogger(__name__)
RECORD, LOCK, ASIDE = "series.json", ".lock", "interrupted"
INTERRUPTED, TERMINATED = 130, 143
Launch = Callable[[Sequence[str], int], int]
"""Runs `xrayssl` with these words, keeping an open file, and returns the exit status."""


@dataclass(frozen=True)
class Job:
    """One training and its test.

    Args:
        name: Of its folder.
        words: Of `xrayssl fit`.
        work: How long it takes, relative to the others.
    """

    name: str
    words: list[str]
    work: float = 1.0


@dataclass(frozen=True)
class Series:
    """Trainings that belong together.

    Args:
        verb: That was typed.
        asked: The words after it, without --out.
        folder: Of all of them.
        jobs: In the order in which they are run.
    """

    verb: str
    asked: list[str]
    folder: Path
    jobs: list[Job]

    def perform(self, launch: Launch | None = None, after: Callable[[], None] = lambda: None) -> int:
        """Runs what is not finished.

        Args:
            launch: Runs one command; None starts a process.
            after: Called whenever a test is finished.

        Returns:
            0, or the exit status of the command that failed or was terminated.

        Raises:
            UserError: If another process is at work in the folder.
            KeyboardInterrupt: With a sentence saying how to go on.
        """
        with _alone(self.folder) as lock:
            try:
                for number, job in enumerate(self.jobs, 1):
                    status = self._one(number, job, lambda words: (launch or process)(words, lock))
                    if status:
                        return self._stopped(status, job)
                    after()
            except KeyboardInterrupt:
                raise KeyboardInterrupt(self._how_to_go_on("interrupted")) from None
        return 0

    def run(self, job: Job) -> Path:
        """Folder of a job's run."""
        return self.folder / job.name

    def _one(self, number: int, job: Job, launch: Callable[[list[str]], int]) -> int:
        run = self.run(job)
        if finished(run):
            return 0
        log.info("%s %d of %d: %s%s", self.verb, number, len(self.jobs), job.name, self._time_left())
        status = 0 if fitted(run) else launch(self._fit(job))
        if status == 0:
            shutil.rmtree(run / "test", ignore_errors=True)  # of a test that was cut short
            status = launch(["test", "--run", str(run)])
        if status == 0 and not finished(run):
            raise UserError(f"{run}: the training left nothing to test; a trial (fast_dev_run) cannot be one of many.")
        return status

    def _fit(self, job: Job) -> list[str]:
        """Words that train a job: from its start, or from where it was interrupted."""
        run = self.run(job)
        _put_aside(run, self.folder / ASIDE)
        checkpoint = _newest(self.folder / ASIDE, job.name)
        if checkpoint is None:
            return ["fit", *job.words, "--out", str(run)]
        log.info("Goes on from %s.", checkpoint)
        config = checkpoint.parents[1] / "config.yaml"
        return ["fit", "--config", str(config), "--ckpt_path", str(checkpoint), "--out", str(run)]

    def _time_left(self) -> str:
        done = [job for job in self.jobs if finished(self.run(job))]
        spent = sum(_seconds(self.run(job)) for job in done)
        if not done or not spent:
            return ""
        left = sum(job.work for job in self.jobs if job not in done)
        return f"; about {_spell(spent * left / sum(job.work for job in done))} left"

    def _stopped(self, status: int, job: Job) -> int:
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        why = "terminated" if status == TERMINATED else f"{job.name} failed, as is said above"
        sys.stderr.write(f"xrayssl: {self._how_to_go_on(why)}\n")
        return status if status > 0 else 1

    def _how_to_go_on(self, why: str) -> str:
        words = shlex.join(["xrayssl", self.verb, *self.asked, "--out", str(self.folder)])
        return f"{why}; finished trainings are kept, and a started one goes on. To go on with all: {words}"


def place(verb: str, title: str, asked: Sequence[str], out: Path | None) -> Path:
    """Makes the folder of a series, or finds the one to go on in.

    Args:
        verb: That was typed.
        title: Names the folder where none is given.
        asked: The words after the verb, without --out.
        out: The folder given.

    Raises:
        UserError: If something else is in it.
    """
    if out is None:
        started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        folder = rundir.fresh(Path("runs") / f"{title}-{verb}" / started).absolute()
    else:
        folder = out.expanduser().absolute()
        if (folder / RECORD).is_file():
            _refuse_another(folder, verb, list(asked))
            return folder
        rundir.claim(folder)
    write_json(folder / RECORD, {"version": 1, "verb": verb, "asked": list(asked), **rundir.surroundings()})
    return folder


def _refuse_another(folder: Path, verb: str, asked: list[str]) -> None:
    known = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    if (known["verb"], known["asked"]) != (verb, asked):
        words = shlex.join(["xrayssl", known["verb"], *known["asked"]])
        raise UserError(f"--out {folder} belongs to another command, {words}; type that to go on with it, or name a "
                        "new folder.")  # fmt: skip


def finished(run: Path) -> bool:
    """Whether a run has been tested."""
    return (run / "test" / "metrics.json").is_file()


def fitted(run: Path) -> bool:
    """Whether a run's training went to its end."""
    return bool(_record(run).get("outcome") == "finished")


def _record(run: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((run / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _seconds(run: Path) -> float:
    return sum(float(_record(folder).get("seconds") or 0) for folder in (run, run / "test"))


def _spell(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(1, minutes)} min"


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


@contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """Keeps other processes out of a folder; a child that inherits the open file does so after its parent's death.

    Raises:
        UserError: If another is in it.
    """
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{folder}: another process is still at work here; wait for it, or end it.") from None
        yield lock.fileno()


def process(words: Sequence[str], lock: int) -> int:
    """Runs `xrayssl` in a process of its own, which gets this one's signals once: a terminal would send them twice.

    Args:
        words: After `xrayssl`.
        lock: An open file for it to inherit.
    """
    started: list[subprocess.Popen[bytes]] = []
    heard: list[int] = []

    def pass_on(number: int, frame: Any) -> None:
        heard.append(number)
        for child in started:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        command = [sys.executable, "-m", "xrayssl", *words]
        started.append(subprocess.Popen(command, process_group=0, pass_fds=[lock]))
        for number in heard[:1]:  # came before there was anybody to pass it on to
            started[0].send_signal(number)
        return {-signal.SIGINT: INTERRUPTED, -signal.SIGTERM: TERMINATED}.get(started[0].wait(), started[0].returncode)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
