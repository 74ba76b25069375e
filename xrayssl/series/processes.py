"""A process for one training, and the lock that keeps others away from its folder for as long as it lives."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from xrayssl.errors import UserError

INTERRUPTED, TERMINATED = 130, 143
TORCHRUN = ("torchrun", "torch.distributed.run")
ENDED = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
Launch = Callable[[Sequence[str], int], int]
"""Runs `xrayssl` with these words, keeping an open file, and returns the exit status."""


@contextmanager
def locked(path: Path) -> Iterator[int | None]:
    """Holds a lock, unless another process does; whoever inherits the open file holds it beyond this block.

    Args:
        path: Of a file for that; it stays, since to remove it would let two processes lock two files of one name.

    Yields:
        The open file; None where another process holds the lock.

    Raises:
        UserError: If the file system has no locks.
    """
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except OSError as error:
            raise UserError(f"{path}: this file system has no locks ({error.strerror}), without which two processes "
                            "may train the same; name a folder on another one.") from None  # fmt: skip
        yield lock.fileno()


def process(words: Sequence[str], lock: int, launcher: Sequence[str] = ()) -> int:
    """Runs `xrayssl` in a process of its own, which gets this one's signals once: a terminal would send them twice.

    The lock is its standard input, from which it has nothing to read, because that is what every process inherits, also
    those of torchrun and of Lightning: they hold the lock until the last of them ends, even if this one is killed.

    Args:
        words: After `xrayssl`.
        lock: An open file for it to inherit.
        launcher: What runs `-m xrayssl`, such as `torchrun --nproc_per_node=2`; this Python where it is empty.

    Returns:
        Its exit status; INTERRUPTED or TERMINATED also where it made nothing of the signal that came meanwhile.

    Raises:
        UserError: If there is no such launcher.
    """
    started: list[subprocess.Popen[bytes]] = []
    with _passing_on(started) as heard:
        command = launched(words, launcher)
        try:
            started.append(subprocess.Popen(command, process_group=0, stdin=lock))
        except OSError as error:
            raise UserError(f"--launcher {command[0]}: it cannot be started ({error.strerror}).") from None
        for number in heard[:1]:  # came before there was anybody to pass it on to
            started[0].send_signal(number)
        status = started[0].wait()
        if status < 0 and not heard and -status not in ENDED:
            why = "; for want of memory, as a rule" if -status == signal.SIGKILL else ""
            sys.stderr.write(f"xrayssl: {words[0]} was killed by {signal.Signals(-status).name}{why}.\n")
        return ENDED[heard[0]] if heard else ENDED.get(-status, status)  # type: ignore[call-overload]


def launched(words: Sequence[str], launcher: Sequence[str] = ()) -> list[str]:
    """The whole command.

    torchrun takes `--run`, wherever it stands, for the beginning of an option of its own, unless those are said to end.

    Args:
        words: After `xrayssl`.
        launcher: See `process`.
    """
    torchrun = any(Path(word).name in TORCHRUN for word in launcher)
    return [*(launcher or [sys.executable]), "-m", *(["--"] if torchrun else []), "xrayssl", *words]


@contextmanager
def _passing_on(started: list[subprocess.Popen[bytes]]) -> Iterator[list[signal.Signals]]:
    """Within it Ctrl-C and SIGTERM go to a process; what this one was started to ignore, as by nohup, it ignores."""
    heard: list[signal.Signals] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        heard.append(signal.Signals(number))
        for child in started:
            child.send_signal(number)

    listened = [number for number in ENDED if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in listened}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
