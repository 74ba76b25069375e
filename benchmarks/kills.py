"""A small study killed at random moments and begun again each time, beside one that was left alone.

The study: two recipes (a masked autoencoder on chest phantoms, then the implants of shoulder phantoms; and the latter
from random weights) over seeds, on a ViT of a quarter of a million weights; its stages take seconds. It is run
    undisturbed;
    with kill -9 at random moments, of the process that leads alone (what it started goes on without it), of what it
    started alone, or of all, until all kills are spent, and then to its end;
    by two processes at once.
Compared are the bytes of every metrics.json, the predictions, and the backbones that stages hand on.

With --quick or --forks all of these are forked from this process, which has imported everything, instead of begun as
commands: a command takes longer to begin than such a training takes. The leader, the locks and what is killed are the
same.

What counts, in the last line:
    kills          kill -9 that hit a process at work.
    identical      whether the disturbed study, and that of two processes, have the figures, predictions and backbones
                   of the undisturbed one, bit for bit.
    trained_twice  stages that two processes trained more than once; every start of a training is written down by the
                   launcher.
    wrong          names of what differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

QUICK = "--quick" in sys.argv
FORKS = QUICK or "--forks" in sys.argv
FILMS, SIDE = (48 if QUICK else 96), 64
DATA = """data:
  class_path: KIND
  init_args: {img_size: 32, batch_size: 8, num_workers: 0, corpora: {phantom: {body: BODY, films: FILMS, size: SIDE}}}
trainer: {max_epochs: EPOCHS, enable_progress_bar: false, accelerator: cpu, num_sanity_val_steps: 0}
wandb: {mode: disabled}
"""
MAE = """model:
  class_path: MAEPretrain
  init_args: {backbone: test_vit, ema: 0.9, masking: {ratio: 0.5}, decoder_width: 32, decoder_depth: 1,
              decoder_heads: 2, optim: {lr: 1.0e-3, warmup_epochs: 0}}
"""
FINETUNE = """model:
  class_path: Finetune
  init_args: {backbone: test_vit, optim: {lr: 1.0e-3, warmup_epochs: 0}}
"""
BODIES = {"mae": ("ChestXrayDataModule", "chest", MAE), "finetune": ("ShoulderXrayDataModule", "shoulder", FINETUNE)}


def write_configs(folder: Path, epochs: int) -> None:
    """The configurations of the stages."""
    for name, (kind, body, model) in BODIES.items():
        data = DATA.replace("KIND", kind).replace("BODY", body).replace("FILMS", str(FILMS)).replace("SIDE", str(SIDE))
        (folder / f"{name}.yaml").write_text(model + data.replace("EPOCHS", str(epochs)))


def study(folder: Path, seeds: int) -> list[Any]:
    """Two recipes over seeds, which share their pretraining."""
    from xrayssl.chains.stage import Stage

    def stage(config: str, seed: int, parent: Any = None) -> Any:
        words = ["--config", str(folder / f"{config}.yaml"), "--seed_everything", str(seed)]
        key = hashlib.sha256(json.dumps([config, seed, parent.key if parent else None]).encode()).hexdigest()
        return Stage(key, config, words, parent, None, seed, config == "finetune", FILMS, 1.0)

    shared = stage("mae", 0)
    return [shared, *(stage("finetune", seed, parent) for seed in range(seeds) for parent in (shared, None))]


def launcher(folder: Path) -> list[str]:
    """A program that writes down what it runs."""
    program = folder / "launcher"
    program.write_text(f'#!/bin/sh\necho "$3 $*" >> "$STARTED"\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return [str(program)]


def lead(folder: Path, store: Path, seeds: int, launch: Any = None) -> int:
    """What `xrayssl chain` does."""
    from xrayssl.chains.perform import perform
    from xrayssl.train import speak

    speak()
    return perform(study(folder, seeds), store, [str(folder / "launcher")], launch=launch)


class Forked:
    """A process that goes on from here with a function, which returns its exit status.

    Args:
        work: The function.
    """

    def __init__(self, work: Callable[[], int]) -> None:
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                status = work()
            except BaseException:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(status)

    def wait(self, timeout: float | None = None) -> int:
        """As that of `subprocess.Popen`."""
        last = time.monotonic() + (timeout or 3600.0)
        while self.status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if ended else None
            if self.status is None and time.monotonic() > last:
                raise subprocess.TimeoutExpired("fork", timeout or 0.0)
            time.sleep(0.02)
        return self.status

    def terminate(self) -> None:
        """Likewise."""
        os.kill(self.pid, signal.SIGTERM)


def command_here(words: Sequence[str], lock: int) -> int:
    """`xrayssl` with these words in a fork, which holds the lock as a command would, and is written down alike."""
    from xrayssl.cli import main as xrayssl

    def work() -> int:
        os.setpgid(0, 0)
        os.dup2(lock, 0)
        return int(xrayssl(list(words)) or 0)

    with open(os.environ["STARTED"], "a", encoding="utf-8") as started:
        started.write(f"{words[0]} {' '.join(words)}\n")
    return Forked(work).wait()


def forked(folder: Path, store: Path, seeds: int, environment: dict[str, str]) -> Forked:
    """A leader that is forked, and forks."""

    def work() -> int:
        os.setsid()
        os.environ.update(environment)
        output = os.open(folder / "output.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        return lead(folder, store, seeds, command_here)

    return Forked(work)


def begin(folder: Path, store: Path, seeds: int) -> Any:
    """Starts such a process, in a session of its own, by which what it starts is found."""
    store.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache"),
                   "STARTED": str(store / "started.txt")}  # fmt: skip
    if FORKS:
        return forked(folder, store, seeds, environment)
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, "--lead", str(folder), "--store", str(store), "--seeds", str(seeds)]
    with (folder / "output.txt").open("ab") as output:
        return subprocess.Popen(command, start_new_session=True, env=environment, stdout=output, stderr=output)


def of_sessions(leaders: set[int]) -> list[int]:
    """Processes of these sessions that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) in leaders and state != "Z":
            found.append(int(path.parent.name))
    return found


def kill(processes: list[int]) -> int:
    """Kills; returns how many there were."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return len(processes)


def disturbed(folder: Path, store: Path, seeds: int, kills: int, longest: float) -> dict[str, int]:
    """The study with kills, which are `longest` seconds apart at most; its last stage goes again until all are spent.

    Returns:
        Kills by who was hit, and how often a stage was removed.
    """
    draw, spent, leaders, again = random.Random(0), Counter[str](), set[int](), 0
    try:
        while sum(spent.values()) < kills:
            process = begin(folder, store, seeds)
            leaders.add(process.pid)
            try:
                status = process.wait(draw.uniform(0.5, longest))
            except subprocess.TimeoutExpired:
                whom = draw.choice(["leader", "children", "all"])
                alive = of_sessions(leaders)
                chosen = {"leader": [process.pid], "children": [one for one in alive if one != process.pid]}
                spent[whom] += bool(kill(chosen.get(whom, alive)))
                process.wait() if whom != "children" else wait(process, 10)
                continue
            if status == 0:
                again += 1
                shutil.rmtree(store / study(folder, seeds)[-1].name)
        while (process := begin(folder, store, seeds)).wait() != 0:
            pass
    finally:
        kill(of_sessions(leaders))
    return {**spent, "begun_anew": again}


def wait(process: Any, seconds: float) -> None:
    """Gives a leader time to notice, and ends it."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:  # it works on something else already
        process.terminate()
        process.wait()


def together(folder: Path, store: Path, seeds: int) -> list[int]:
    """Two processes at once; their exit statuses."""
    first = begin(folder, store, seeds)
    second = begin(folder, store, seeds)
    return [first.wait(), second.wait()]


def left(folder: Path, store: Path, seeds: int) -> dict[str, str]:
    """Checksums of what a study leaves, by stage and file."""
    import pandas as pd

    from xrayssl import handoff

    found: dict[str, str] = {}
    for stage in study(folder, seeds):
        run = store / stage.name
        files = [run / "metrics.json", *([run / "test" / "metrics.json"] if stage.tested else [])]
        found |= {f"{stage.name}/{path.relative_to(run)}": handoff.sha256(path) for path in files}
        if stage.tested:
            table = pd.read_parquet(run / "test" / "predictions.parquet")
            found[f"{stage.name}/predictions"] = hashlib.sha256(table.to_csv().encode()).hexdigest()
        tensors = sorted(handoff.read(run).tensors.items())
        found[f"{stage.name}/backbone"] = hashlib.sha256(b"".join(v.numpy().tobytes() for _, v in tensors)).hexdigest()
    return found


def starts(store: Path) -> Counter[str]:
    """How often each stage's training was started."""
    lines = (store / "started.txt").read_text().splitlines()
    return Counter(Path(line.split()[-1]).name for line in lines if line.startswith("fit "))


def preload() -> None:
    """Imports what every command does, so that forks begin at once."""
    import xrayssl.comparison.command
    import xrayssl.lightning_cli
    import xrayssl.train  # noqa: F401


def measure(folder: Path, seeds: int, kills: int, epochs: int, longest: float) -> dict[str, Any]:
    """Runs the three, and compares."""
    write_configs(folder, epochs)
    launcher(folder)
    seconds: dict[str, float] = {}
    alone = folder / "undisturbed"
    start = time.perf_counter()
    assert begin(folder, alone, seeds).wait() == 0, (folder / "output.txt").read_text()
    seconds["undisturbed"] = round(time.perf_counter() - start, 1)
    start = time.perf_counter()
    commands = sum(1 + stage.tested for stage in study(folder, seeds))
    hits = disturbed(folder, folder / "disturbed", seeds, kills, longest * seconds["undisturbed"] / commands)
    seconds["disturbed"] = round(time.perf_counter() - start, 1)
    start = time.perf_counter()
    statuses = together(folder, folder / "together", seeds)
    seconds["together"] = round(time.perf_counter() - start, 1)
    expected = left(folder, alone, seeds)
    wrong = [f"{name}: {file}" for name in ("disturbed", "together") for file, value in
             left(folder, folder / name, seeds).items() if value != expected[file]]  # fmt: skip
    twice = [name for name, count in starts(folder / "together").items() if count > 1]
    return {"kills": sum(hits.values()) - hits["begun_anew"], "identical": not wrong, "trained_twice": len(twice),
            "stages": len(study(folder, seeds)), "compared": len(expected), "hits": hits, "seconds": seconds,
            "starts": dict(starts(folder / "disturbed")), "statuses": statuses, "wrong": wrong}  # fmt: skip


def main() -> int:
    """Runs, and prints a JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 kills, one seed, forks")
    parser.add_argument(
        "--forks", action="store_true", help="forks in place of commands: minutes, not a quarter of an hour"
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--longest", type=float, default=2.5, help="trainings or tests between two kills")
    parser.add_argument("--lead", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.lead:
        return lead(wanted.lead, wanted.store, wanted.seeds)
    kills, seeds, epochs = (2, 1, 4) if wanted.quick else (wanted.kills, wanted.seeds, wanted.epochs)
    if FORKS:
        preload()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        found = measure(Path(folder), seeds, kills, epochs, wanted.longest)
    for name, count in found["starts"].items():
        sys.stdout.write(f"{name}: {count} starts\n")
    sys.stdout.write(json.dumps(found) + "\n")
    return 0 if found["identical"] and not found["trained_twice"] else 1


if __name__ == "__main__":
    sys.exit(main())
