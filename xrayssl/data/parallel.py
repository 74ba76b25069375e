"""Work on many films in parallel processes, with results in order. Standard library and a progress bar."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from datetime import timedelta
from typing import TypeVar

from tqdm import tqdm

from xrayssl.errors import UserError

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
LOOK_AHEAD = 4
"""Items per process that may be finished or under way before the result that is asked for next."""
SECONDS_BETWEEN_LINES = 30.0


def in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    description: str,
    unit: str = "film",
    done: int = 0,
) -> Generator[Result, None, None]:
    """Applies a function to items in parallel processes and yields the results in the items' order.

    Memory does not grow with the number of items. The processes leave Ctrl-C to the caller, end with the generator,
    and end by themselves when the caller is killed.

    Args:
        function: At the top of a module, or a partial of such; what it raises is raised here.
        items: What it is applied to.
        workers: Processes; 0 works in this one.
        description: Of the progress bar, or of the lines in its place where nobody looks at a terminal.
        unit: What an item is, in the singular.
        done: Items finished in an earlier run; they only count for the bar.

    Raises:
        UserError: If a process was killed, as happens when memory runs out.
    """
    here = (function(item) for item in items)
    progress = Progress(description, unit, len(items) + done, done)
    # closing ends the processes, and the bar, also where the caller stops half-way
    with closing(progress), closing(_pooled(function, items, workers, description) if workers else here) as results:
        for result in results:
            progress.step()
            yield result


def cores() -> int:
    """Those that this process may use, which on a shared machine are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pooled(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str
) -> Generator[Result, None, None]:
    # a fork costs nothing; a fresh interpreter would import the whole package once per process
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(min(workers, max(1, len(items))), context, initializer=_begin)
    under_way: deque[Future[Result]] = deque()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) >= LOOK_AHEAD * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            f"{description}: one of {workers} processes was killed, most likely because memory ran out; use fewer."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Ctrl-C reaches every process of a terminal, and is the caller's to answer; so is its own end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_caller, daemon=True).start()


def _end_with_the_caller() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Progress:
    """A bar on a terminal; elsewhere a line now and then.

    Args:
        description: What is being done.
        unit: What an item is, in the singular.
        total: Items of which there are results in the end.
        done: Those of them that are finished already.
    """

    def __init__(self, description: str, unit: str, total: int, done: int) -> None:
        self.description, self.unit, self.total = description, unit, total
        self.done = self.before = done
        self.started = self.told = time.monotonic()
        shown = sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=done, desc=description, unit=unit, leave=False) if shown else None

    def step(self, count: int = 1) -> None:
        """So many more items are finished."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif time.monotonic() - self.told > SECONDS_BETWEEN_LINES:
            self.told = time.monotonic()
            rate = (self.done - self.before) / (self.told - self.started)
            left = timedelta(seconds=round((self.total - self.done) / rate))
            log.info("%s: %d of %d, %.1f %ss a second, %s left.",
                     self.description, self.done, self.total, rate, self.unit, left)  # fmt: skip

    def close(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.close()
