"""Damaged films: each is read as it was, or refused with its name, in bounded time and memory.

Films of every format and DICOM transfer syntax are damaged at random: bits flipped, ends lost or zeroed, runs cut out
or doubled, headers that speak of another size (with checksums that hold), wrong suffixes, one file continued by
another, and files that ask for gigabytes. Processes of their own read them, and are replaced when they die or hang.

What counts, in the last line:
    refused  `UserError` with the file's name.
    read     a film came out: the original, or one that differs where the format cannot tell (`altered`, part of read).
    wrong    a film came out that differs although the damage can be noticed: the file is truncated; it is a PNG, of
             which every byte is under a checksum; its header speaks of a size that takes more or less code (but for
             WebP, which says its size once and checks nothing); bytes are missing or too many among pixels that are
             stored bare (too many: but for TIFF, where anything may lie between the parts); only its suffix is wrong;
             it asks for gigabytes. Also a film of a coded format that is the original above and one grey below, which
             is how decoders fill up what they have no code for (damaged code may also run off to black or white, which
             nobody can tell), and a refusal without the file's name.
    crashed  the process died, or another exception came out.
    slow     longer than 5 s of a core, or without an answer for a minute.
    heavy    more than 1 GB, or `MemoryError`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from xrayssl.data.radiograph import read, window
from xrayssl.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import damage

SECONDS, BYTES = 5.0, 2**30
PATIENCE = 60.0  # of the clock, until a process is ended: other programs may keep it waiting
Files = tuple[dict[str, tuple[bytes, str]], dict[str, tuple[bytes, str]]]  # originals and bombs
NOTHING_SEEN = 8  # of 255: what two readings of one film may differ by


@dataclass(frozen=True)
class Verdict:
    """How a case went."""

    number: int
    kinds: tuple[str, ...]
    text: str
    seconds: float = 0.0
    bytes_: int = 0


def judge(path: Path, case: damage.Case, original: np.ndarray | None) -> tuple[tuple[str, ...], str]:
    """Reads one file and says how it went.

    Args:
        path: Where it lies.
        case: What it is.
        original: uint8 (H, W), before the damage.
    """
    try:
        image = window(read(path))
    except UserError as error:
        named = all(str(path) in message for message in error.messages)
        return (("refused",) if named else ("wrong",)), str(error)
    except MemoryError:
        return ("heavy",), "MemoryError"
    except Exception as error:
        return ("crashed",), repr(error)
    if original is not None and image.shape == original.shape and np.array_equal(image, original):
        return ("read",), "as it was"
    if case.noticed or half_grey(image, original, case.original in damage.BARE):
        return ("wrong",), f"read as {image.shape}"
    return ("read", "altered"), f"read as {image.shape}"


def half_grey(image: np.ndarray, original: np.ndarray | None, bare: bool) -> bool:
    """Whether a film is the original above and flat below, an eighth of it each at least."""
    if bare or original is None or image.shape != original.shape:
        return False
    eighth = image.shape[0] // 8
    above = np.abs(image[:eighth].astype(int) - original[:eighth]).max() <= NOTHING_SEEN
    return bool(above and np.ptp(image[-eighth:]) == 0 and image[-1, -1] not in (0, 255))


def work(seed: int, files: Files, connection: Connection) -> None:
    """Reads the cases whose numbers come in, until None does."""
    made, asking = files
    with tempfile.TemporaryDirectory() as folder:
        as_it_was = {}
        for name, (data, suffix) in made.items():
            (Path(folder) / f"original{suffix}").write_bytes(data)
            as_it_was[name] = window(read(Path(folder) / f"original{suffix}"))
        connection.send(None)
        while (number := connection.recv()) is not None:
            case = damage.case(seed, number, made, asking)
            path = Path(folder) / f"film-{number}{case.suffix}"
            path.write_bytes(case.data)
            before, start = _memory(reset=True), time.process_time()
            kinds, text = judge(path, case, as_it_was.get(case.original))
            seconds, taken = time.process_time() - start, _memory() - before
            kinds += ("slow",) * (seconds > SECONDS) + ("heavy",) * (taken > BYTES)
            connection.send(Verdict(number, kinds, _described(case, text), seconds, taken))
            path.unlink()


def _described(case: damage.Case, text: str) -> str:
    return f"{case.original or 'file'}, {case.damage}: {text}"


def _memory(reset: bool = False) -> int:
    """Most bytes that this process held since the last reset (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


class Reader:
    """A process that reads films, and that can be replaced.

    Args:
        seed: Of the run.
        files: What cases are made from.
    """

    def __init__(self, seed: int, files: Files) -> None:
        context: Any = mp.get_context("fork")  # a fresh interpreter would import for seconds after each crash
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(seed, files, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.number: int | None = None
        self.since = time.perf_counter()
        self.connection.recv()  # it is ready

    def give(self, number: int) -> None:
        """Has it read one case."""
        self.number, self.since = number, time.perf_counter()
        self.connection.send(number)

    def end(self) -> str:
        """Ends it, and says how it went."""
        self.process.kill()
        self.process.join()
        return f"exit status {self.process.exitcode}"


def verdicts(seed: int, files: Files, numbers: Iterator[int], workers: int) -> Iterator[Verdict]:
    """What became of each case, in the order in which they are done."""
    readers = [Reader(seed, files) for _ in range(workers)]
    while readers:
        for reader in list(readers):
            if reader.number is None:
                number = next(numbers, None)
                if number is None:
                    reader.end()
                    readers.remove(reader)
                else:
                    reader.give(number)
        ready = wait([reader.connection for reader in readers], timeout=0.5)
        for place, reader in enumerate(readers):
            late = time.perf_counter() - reader.since > PATIENCE
            if reader.connection not in ready and not late:
                continue
            verdict = _received(reader, late)
            yield verdict
            if verdict.kinds[0] in ("crashed", "slow") and not reader.process.is_alive():
                readers[place] = Reader(seed, files)
            else:
                reader.number = None


def _received(reader: Reader, late: bool) -> Verdict:
    number = -1 if reader.number is None else reader.number
    try:
        if reader.connection.poll():
            return reader.connection.recv()
        if late:
            reader.end()
            return Verdict(number, ("slow",), "was ended", time.perf_counter() - reader.since)
    except EOFError:
        reader.process.join()
    return Verdict(number, ("crashed",), f"the process died: {reader.end()}")


def main() -> None:
    """Runs the cases and prints the figures, a JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="200 films")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="one case by its number; what it is stays in the working directory")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    wanted = parser.parse_args()
    files = damage.originals(), damage.bombs()
    count = 200 if wanted.quick else wanted.count
    if wanted.only is not None:
        case = damage.case(wanted.seed, wanted.only, *files)
        Path(f"fuzzed-{wanted.only}{case.suffix}").write_bytes(case.data)
    numbers = range(count) if wanted.only is None else [wanted.only]
    totals: Counter[str] = Counter(
        dict.fromkeys(("read", "refused", "wrong", "crashed", "slow", "heavy", "altered"), 0)
    )
    tables: dict[str, Counter[str]] = {}
    slowest, most, start = 0.0, 0, time.perf_counter()
    for done, verdict in enumerate(verdicts(wanted.seed, files, iter(numbers), wanted.workers), 1):
        totals.update(verdict.kinds)
        tables.setdefault(verdict.text.split(":")[0], Counter()).update(verdict.kinds)
        slowest, most = max(slowest, verdict.seconds), max(most, verdict.bytes_)
        if wanted.only is not None or not set(verdict.kinds) <= {"read", "refused", "altered"}:
            sys.stderr.write(f"\r#{verdict.number} {' '.join(verdict.kinds)}: {verdict.text}\n")
        if done % 100 == 0:
            rate = done / (time.perf_counter() - start)
            sys.stderr.write(f"\r{done}/{len(numbers)} films, {rate:.0f} a second, {totals['wrong']} wrong ")
    figures = {"tried": len(numbers), **totals, "slowest_s": round(slowest, 2), "most_mb": round(most / 2**20)}
    sys.stdout.write(f"\n{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
