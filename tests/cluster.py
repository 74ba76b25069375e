"""A SLURM of one machine: sbatch, srun, scontrol, scancel and squeue, as far as scripts use them.

`sbatch` runs the tasks of an array one after another before it answers. Time is up once, as soon as there is a file
$CLUSTER_LIMIT: the shell of the job gets SIGUSR1, as `--signal=B:USR1` asks for.
"""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path


def install(folder, python=sys.executable):
    """Puts the programs in a folder, and returns the environment in which they are found.

    Args:
        folder: Theirs; what was submitted is in submitted.jsonl, what jobs said in output.txt.
        python: That runs them.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in ("sbatch", "srun", "scontrol", "scancel", "squeue"):
        path = programs / name
        path.write_text(f'#!/bin/sh\nexec {python} {__file__} {name} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return {**os.environ, "CLUSTER": str(folder), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def sbatch(words):
    """Runs every task of an array until it is not requeued."""
    number = 101 + (len(LOG.read_text().splitlines()) if LOG.exists() else 0)
    with LOG.open("a") as log:
        log.write(json.dumps({"job": number, "words": words}) + "\n")
    last = int(re.search(r"#SBATCH --array=0-(\d+)", Path(words[-1]).read_text())[1])
    for task in range(last + 1):
        again = FOLDER / f"requeued-{number}_{task}"
        while attempt(words[-1], number, task) and again.exists():
            again.unlink()
    sys.stdout.write(f"{number};cluster\n")


def attempt(script, number, task):
    """Runs a script as a job; True: it failed."""
    job = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task, "SLURM_JOB_ID": 10 * number + task}
    environment = {**os.environ, **{name: str(value) for name, value in job.items()}}
    limit, told = Path(os.environ.get("CLUSTER_LIMIT", "/never")), FOLDER / "told"
    with (FOLDER / "output.txt").open("a") as output:
        shell = subprocess.Popen(["bash", script], env=environment, stdout=output, stderr=output)
        while shell.poll() is None:
            time.sleep(0.02)
            if limit.exists() and not told.exists():
                told.touch()
                shell.send_signal(signal.SIGUSR1)
    with (FOLDER / "ended.txt").open("a") as ended:
        ended.write(f"{number}_{task} {shell.returncode}\n")
    return shell.returncode != 0


def srun(words):
    """Starts the tasks of a step; its status is the highest of theirs."""
    options = [word for word in words if word.startswith("--")][: next(
        place for place, word in enumerate(words) if not word.startswith("--"))]  # fmt: skip
    command = words[len(options) :]
    count = int(dict(word.partition("=")[::2] for word in options).get("--ntasks", 1))
    step = {"SLURM_NTASKS": count, "SLURM_NTASKS_PER_NODE": count, "SLURM_NNODES": 1, "SLURM_NODEID": 0,
            "SLURM_STEP_NUM_TASKS": count, "SLURM_STEP_NUM_NODES": 1, "SLURM_NODELIST": "127.0.0.1"}  # fmt: skip
    tasks = []
    for rank in range(count):
        named = {**step, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        environment = {**os.environ, **{name: str(value) for name, value in named.items()}}
        tasks.append(subprocess.Popen(command, env=environment))
    path = FOLDER / f"step-{os.environ['SLURM_JOB_ID']}"
    path.write_text(" ".join(str(task.pid) for task in tasks))
    statuses = [task.wait() for task in tasks]
    path.unlink()
    return max(status if status >= 0 else 128 - status for status in statuses)


def scancel(words):
    """Signals the steps of a job."""
    path = FOLDER / f"step-{words[-1]}"
    for pid in path.read_text().split() if path.exists() else []:
        os.kill(int(pid), getattr(signal, f"SIG{words[0].partition('=')[2]}"))


def scontrol(words):
    """Puts a job back into the queue."""
    (FOLDER / f"requeued-{words[1]}").touch()


def squeue(words):
    """The job that asks is running, unless a file says otherwise."""
    path = FOLDER / "state"
    sys.stdout.write(path.read_text() if path.exists() else "RUNNING\n")


if __name__ == "__main__":
    FOLDER = Path(os.environ["CLUSTER"])
    LOG = FOLDER / "submitted.jsonl"
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
