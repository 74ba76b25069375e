"""Stages trained, each once: in this process or beside others that work on the same store.

What is finished, half done or taken by another process is seen in the store's folders and locks alone, so that there is
nothing to keep in step with them: `xrayssl.series.training` tells what a folder holds, and a lock that belongs to the
training's own processes tells who works on it, on this machine and, where the file system has locks, on others.
"""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xrayssl.chains.stage import Stage, lineage
from xrayssl.errors import UserError, refuse, sentences
from xrayssl.series.processes import INTERRUPTED, TERMINATED, Launch, locked, process
from xrayssl.series.training import Job, done, seconds, spell, train

log = logging.getLogger(__name__)
PAUSE = 2.0  # seconds between two looks at what other processes are doing


@dataclass(frozen=True)
class Wording:
    """What is said beside what is done.

    Args:
        asked: The words after `xrayssl`, with which a user goes on.
        recipes: Key of a stage to the names of the recipes that need it.
        left: Seconds that these stages will take, or None where that is unknown; by default judged by the finished
            ones.
        study: Its title.
    """

    asked: Sequence[str] = ("chain",)
    recipes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    left: Callable[[Sequence[Stage]], float | None] | None = None
    study: str = ""

    def group(self, stage: Stage) -> str:
        """What Weights & Biases shows a stage together with: its recipe's others, or the study's if several need it."""
        names = self.recipes.get(stage.key, ())
        return names[0] if len(names) == 1 else self.study


def ready(stage: Stage, folder: Path) -> bool:
    """Whether a stage has been trained, and tested where it can be.

    Args:
        stage: Of the graph.
        folder: The store.
    """
    return done(folder / stage.name, stage.tested)


def perform(
    stages: Sequence[Stage],
    folder: Path,
    launcher: Sequence[str] = (),
    after: Callable[[], None] = lambda: None,
    wording: Wording | None = None,
    launch: Launch | None = None,
) -> int:
    """Trains the stages that are not finished, unless other processes do so.

    A stage that fails is not tried again, nor is what starts from it; the others are trained all the same.

    Args:
        stages: Each after the one that it starts from.
        folder: The store.
        launcher: What runs `-m xrayssl`, such as `torchrun --nproc_per_node=2`; this Python where it is empty.
        after: Called whenever a stage is finished.
        wording: For what is said.
        launch: Runs one command; None starts a process.

    Returns:
        0, or the exit status of the first stage that failed, or TERMINATED.

    Raises:
        UserError: If a stage would start from one that is neither finished nor among these.
        KeyboardInterrupt: With a sentence saying how to go on.
    """
    folder = folder.expanduser().absolute()
    _check(stages, folder)
    folder.mkdir(parents=True, exist_ok=True)

    def start(words: Sequence[str], lock: int) -> int:
        return process(words, lock, launcher)

    work = _Work(list(stages), folder, launch or start, after, wording or Wording())
    try:
        work.all()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(work.how_to_go_on("interrupted")) from None
    return work.ended()


@dataclass
class _Work:
    """What one process does of a graph: `failed` are its stages that ended otherwise, with their exit status."""

    stages: list[Stage]
    folder: Path
    launch: Launch
    after: Callable[[], None]
    wording: Wording
    failed: dict[Stage, int] = field(default_factory=dict)
    terminated: bool = False

    def all(self) -> None:
        """Works until nothing is left that this process could do or wait for."""
        told = False
        while not self.terminated and (waiting := self._waiting()):
            if any(self._taken(stage) for stage in waiting):
                told = False
                continue
            if not told:
                names = ", ".join(stage.name for stage in waiting)
                log.info("What is left is being trained by another process, or starts from that: %s. Waiting.", names)
            told = True
            time.sleep(PAUSE)

    def ended(self) -> int:
        """Tells of failures, and returns the exit status."""
        if self.terminated:
            sys.stderr.write(f"xrayssl: {self.how_to_go_on('terminated')}\n")
            return TERMINATED
        if not self.failed:
            return 0
        names = ", ".join(stage.name for stage in self.failed)
        blocked = [stage.name for stage in self.stages if self._hopeless(stage) and stage not in self.failed]
        after = f"; not trained, since they start from that: {', '.join(blocked)}" if blocked else ""
        sys.stderr.write(f"xrayssl: {self.how_to_go_on(f'failed, as is said above: {names}{after}')}\n")
        return next(iter(self.failed.values()))

    def how_to_go_on(self, why: str) -> str:
        """A sentence for the end of a process that has not done everything."""
        words = shlex.join(["xrayssl", *self.wording.asked])
        return f"{why}; finished stages are kept, and a started one goes on. To go on with all: {words}"

    def _waiting(self) -> list[Stage]:
        return [stage for stage in self.stages if not self._hopeless(stage) and not ready(stage, self.folder)]

    def _hopeless(self, stage: Stage) -> bool:
        return any(one in self.failed for one in lineage(stage))

    def _taken(self, stage: Stage) -> bool:
        """Trains a stage, unless it has to wait; another process may have finished it since it was last looked at."""
        if stage.parent and not ready(stage.parent, self.folder):
            return False
        with locked(self.folder / f"{stage.name}.lock") as lock:
            if lock is not None and not ready(stage, self.folder):
                self._train(stage, lock)
        return lock is not None

    def _train(self, stage: Stage, lock: int) -> None:
        log.info("%s", self._progress(stage))
        group = self.wording.group(stage)
        grouped = ["--wandb.group", group] if group and "--wandb.group" not in stage.words else []
        job = Job(stage.name, [*stage.fit(self.folder), *grouped], tested=stage.tested)
        try:
            status = train(job, self.folder, lambda words: self.launch(words, lock))
        except UserError as error:
            sys.stderr.writelines(f"xrayssl: {sentence}\n" for sentence in sentences(error))
            status = 2
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        self.terminated = status == TERMINATED
        if status == 0:
            self.after()
        elif not self.terminated:
            self.failed[stage] = status if status > 0 else 1  # of one that was killed it is negative

    def _progress(self, stage: Stage) -> str:
        names = self.wording.recipes.get(stage.key, ())
        needed = f" ({', '.join(names)})" if names else ""
        duration = (self.wording.left or self._left)(self._waiting())
        left = f"; about {spell(duration)} left" if duration else ""
        return f"stage {self.stages.index(stage) + 1} of {len(self.stages)}: {stage.name}{needed}{left}"

    def _left(self, stages: Sequence[Stage]) -> float | None:
        """By what finished stages took for each pass of a film; those of other networks take another time."""
        known = [stage for stage in self.stages if ready(stage, self.folder)]
        passes = sum(stage.films * stage.epochs for stage in known)
        spent = sum(seconds(self.folder / stage.name) for stage in known)
        return spent / passes * sum(stage.films * stage.epochs for stage in stages) if passes else None


def _check(stages: Sequence[Stage], folder: Path) -> None:
    wanting = [stage for stage in stages if stage.parent and stage.parent not in stages]
    refuse([f"{stage.name} starts from {stage.parent.name}, which is not finished; train that first."
            for stage in wanting if stage.parent and not ready(stage.parent, folder)])  # fmt: skip
