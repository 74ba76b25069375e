"""Trainings that belong together, one after another: each in a folder and a process of its own, none of them twice.

A process each (`python -m xrayssl fit ...`) costs some seconds of imports and buys that memory, seeds, signals and
distributed launches of one training cannot touch the next; and that every one can be repeated by hand. A training that
was interrupted goes on from its last checkpoint; what it had left is kept in the folder `interrupted`.
"""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from xrayssl import rundir
from xrayssl.errors import UserError
from xrayssl.files import write_json
from xrayssl.series.processes import INTERRUPTED, TERMINATED, Launch, locked, process
from xrayssl.series.training import Job, finished, seconds, spell, train

log = logging.getLogger(__name__)
RECORD, LOCK = "series.json", ".lock"


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
        with locked(self.folder / LOCK) as lock:
            if lock is None:
                raise UserError(f"{self.folder}: another process is still at work here; wait for it, or end it.")
            try:
                return self._all(lambda words: (launch or process)(words, lock), after)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(self._how_to_go_on("interrupted")) from None

    def run(self, job: Job) -> Path:
        """Folder of a job's run."""
        return self.folder / job.name

    def _all(self, launch: Callable[[Sequence[str]], int], after: Callable[[], None]) -> int:
        for number, job in enumerate(self.jobs, 1):
            if not finished(self.run(job)):
                log.info("%s %d of %d: %s%s", self.verb, number, len(self.jobs), job.name, self._time_left())
                if status := train(job, self.folder, launch):
                    return self._stopped(status, job)
            after()
        return 0

    def _time_left(self) -> str:
        done = [job for job in self.jobs if finished(self.run(job))]
        spent = sum(seconds(self.run(job)) for job in done)
        if not done or not spent:
            return ""
        left = sum(job.work for job in self.jobs if job not in done)
        return f"; about {spell(spent * left / sum(job.work for job in done))} left"

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
