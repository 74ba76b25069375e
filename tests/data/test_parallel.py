import logging
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from xrayssl.data import parallel
from xrayssl.data.parallel import in_order
from xrayssl.errors import UserError

SLEEPER = """
import os, sys, time
from xrayssl.data.parallel import in_order

def work(item):
    os.write(1, f"{os.getpid()}\\n".encode())  # in one piece, whatever Python is told about buffers
    time.sleep(60)

if __name__ == "__main__":
    list(in_order(work, range(8), 2, "Sleeping"))
"""


def slow_first(item):
    time.sleep(0.2 if item == 0 else 0)
    return item * item


def refuse(item):
    if item == 3:
        raise UserError("film 3 is bad.", "and so is film 4.")
    return item


def die(item):
    os.kill(os.getpid(), signal.SIGKILL)


def process(item):
    return os.getpid()


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def gone(pids, seconds=5.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(alive, pids)):
        time.sleep(0.02)
    return not any(map(alive, pids))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(in_order(slow_first, range(40), workers, "Squares")) == [i * i for i in range(40)]


def test_nothing_to_do_gives_nothing():
    assert list(in_order(slow_first, [], 2, "Squares")) == []


def test_the_work_is_done_in_other_processes():
    assert os.getpid() not in set(in_order(process, range(8), 2, "Pids"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mistake_in_a_process_arrives_with_its_sentences(workers):
    with pytest.raises(UserError) as caught:
        list(in_order(refuse, range(9), workers, "Reading"))
    assert caught.value.messages == ["film 3 is bad.", "and so is film 4."]


def test_a_killed_process_is_told_in_a_sentence_instead_of_a_hang():
    with pytest.raises(UserError, match="Reading: one of 2 processes was killed"):
        list(in_order(die, range(9), 2, "Reading"))


def test_items_are_taken_only_a_little_ahead_of_the_results():
    class Counted(list):
        taken = 0

        def __iter__(self):
            for item in list.__iter__(self):
                Counted.taken += 1
                yield item

    results = in_order(slow_first, Counted(range(1000)), 2, "Squares")
    assert next(results) == 0
    assert Counted.taken <= 2 * parallel.LOOK_AHEAD
    results.close()


def test_the_processes_end_where_the_caller_stops_half_way():
    results = in_order(process, range(1000), 2, "Pids")
    pids = set(islice(results, 5))
    results.close()
    assert gone(pids)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at /proc")
def test_the_processes_end_when_the_caller_is_killed(tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)
    caller = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    pids = [int(caller.stdout.readline()) for _ in range(2)]
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert gone(pids)


def test_without_a_terminal_a_line_is_logged_now_and_then(monkeypatch, caplog):
    monkeypatch.setattr(parallel, "SECONDS_BETWEEN_LINES", -1.0)
    with caplog.at_level(logging.INFO, "xrayssl"):
        list(in_order(refuse, [0, 1], 0, "Reading", done=2))
    lines = [record.getMessage().partition(",")[0] for record in caplog.records]
    assert lines == ["Reading: 3 of 4", "Reading: 4 of 4"]
