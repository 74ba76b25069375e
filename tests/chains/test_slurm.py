import json
import subprocess
import sys
import time

import cluster
import pytest
from stages import ALL, ALONE, FROM_MAE, FROM_TURNS, MAE, TURNS, Launches

from xrayssl.chains import slurm
from xrayssl.chains.perform import perform
from xrayssl.errors import UserError

PROGRAM = f"""#!{sys.executable}
# As `python -m xrayssl chain`, which launches trainings that last until they are asked to stop, the second time no more
import os, pathlib, shlex, signal, subprocess, sys
started = pathlib.Path(os.environ["CLUSTER"], "started.txt")
words = sys.argv[1:]
if words[:3] == ["-m", "xrayssl", "chain"]:
    launcher = shlex.split(words[words.index("--launcher") + 1])
    sys.exit(subprocess.call([*launcher, words[words.index("--only") + 1]]))
before = started.read_text() if started.exists() else ""
status = os.environ.get("STATUS")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(status)))
started.write_text(before + words[0] + " " + os.getcwd() + chr(10))
if status and words[0] not in before:
    if os.environ.get("CLUSTER_LIMIT"):
        signal.pause()
    sys.exit(int(status))
"""


@pytest.fixture
def machines(tmp_path, monkeypatch):
    """A cluster, and a program in the place of Python."""
    environment = cluster.install(tmp_path / "cluster")
    (tmp_path / "program").write_text(PROGRAM)
    (tmp_path / "program").chmod(0o755)
    monkeypatch.setattr(slurm.sys, "executable", str(tmp_path / "program"))
    monkeypatch.chdir(tmp_path)
    return environment


def write(tmp_path, stages=ALL, sbatch=()):
    return slurm.write(["chain", "--config", "it's"], stages, tmp_path / "store", tmp_path / "jobs", sbatch)


def submit(path, environment, **more):
    call = subprocess.run([path], env={**environment, **more}, capture_output=True, text=True)
    folder = path.parents[1] / "cluster"
    submitted = [json.loads(line)["words"] for line in (folder / "submitted.jsonl").read_text().splitlines()]
    started = [line.split()[0] for line in (folder / "started.txt").read_text().splitlines()]
    return call, submitted, started, (folder / "ended.txt").read_text().split()


def key(stage):
    return stage.key[:12]


def test_stages_that_do_not_need_each_other_are_of_one_level():
    assert slurm.levels(ALL) == [[MAE, ALONE], [TURNS, FROM_MAE], [FROM_TURNS]]
    assert slurm.levels([TURNS, FROM_TURNS]) == [[TURNS], [FROM_TURNS]]


def test_every_script_is_sound(tmp_path):
    write(tmp_path, sbatch=["--partition=gpu"])
    scripts = sorted((tmp_path / "jobs").iterdir())
    assert [path.name for path in scripts] == ["level-1.sh", "level-2.sh", "level-3.sh", "submit.sh"]
    assert [subprocess.run(["bash", "-n", path]).returncode for path in scripts] == [0, 0, 0, 0]
    options = [line for line in scripts[0].read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --array=0-1", "#SBATCH --requeue", "#SBATCH --partition=gpu"} <= {*options}


def test_an_array_per_level_waits_for_the_one_before_and_each_task_trains_its_stage(tmp_path, machines):
    call, submitted, started, _ = submit(write(tmp_path), machines)
    after = [words[1:-1] for words in submitted]
    assert after == [[], *([f"--dependency=afterok:{job}", "--kill-on-invalid-dep=yes"] for job in (101, 102))]
    assert started == [key(one) for one in (MAE, ALONE, TURNS, FROM_MAE, FROM_TURNS)]
    assert call.stdout.splitlines()[1] == "level 2: job 102, 2 stages"


def test_a_job_runs_where_the_scripts_were_written(tmp_path, machines):
    submit(write(tmp_path, [MAE]), machines)
    assert (tmp_path / "cluster" / "started.txt").read_text() == f"{key(MAE)} {tmp_path}\n"


def test_what_is_finished_needs_no_job(tmp_path):
    perform([MAE, ALONE], tmp_path / "store", launch=Launches())
    write(tmp_path)
    assert not (tmp_path / "jobs" / "level-3.sh").exists()
    perform(ALL, tmp_path / "store", launch=Launches())
    with pytest.raises(UserError, match="every stage is finished"):
        write(tmp_path)


def test_at_its_time_limit_a_job_stops_its_training_and_is_put_back_into_the_queue(tmp_path, machines):
    begun = time.monotonic()
    limit = str(tmp_path / "cluster" / "started.txt")
    _, _, started, ended = submit(write(tmp_path, [MAE]), machines, CLUSTER_LIMIT=limit, STATUS="143")
    assert started == [key(MAE)] * 2
    assert ended == ["101_0", "143", "101_0", "0"]
    assert time.monotonic() - begun < slurm.GRACE / 4  # the watchman that would requeue it all the same is gone


def test_a_job_that_makes_room_for_another_is_put_back_into_the_queue(tmp_path, machines):
    _, _, started, _ = submit(write(tmp_path, [MAE]), machines, STATUS="143")
    assert started == [key(MAE)] * 2


def test_a_job_that_was_cancelled_is_not_put_back(tmp_path, machines):
    (tmp_path / "cluster" / "state").write_text("COMPLETING\n")
    _, _, started, ended = submit(write(tmp_path, [MAE]), machines, STATUS="143")
    assert (started, ended) == ([key(MAE)], ["101_0", "143"])


def test_a_failure_is_not_put_back(tmp_path, machines):
    _, _, started, ended = submit(write(tmp_path, [MAE]), machines, STATUS="2")
    assert (started, ended) == ([key(MAE)], ["101_0", "2"])


def test_srun_starts_as_many_processes_as_sbatch_was_asked_for(tmp_path):
    assert slurm.launcher([])[:-1] == ["srun", "--ntasks=1", "--ntasks-per-node=1"]
    words = slurm.launcher(["--nodes=2", "--ntasks-per-node=4"])
    assert words[:-1] == ["srun", "--ntasks=8", "--ntasks-per-node=4"]
    write(tmp_path, [MAE], ["--nodes=2", "--ntasks-per-node=4"])
    text = (tmp_path / "jobs" / "level-1.sh").read_text()
    assert "--launcher 'srun --ntasks=8 --ntasks-per-node=4 " in text
    assert text.count("--ntasks-per-node=1") == 0


def test_options_that_the_scripts_need_and_folders_that_slurm_cannot_name_are_refused_together(tmp_path):
    with pytest.raises(UserError) as caught:
        slurm.write(["chain"], [MAE], tmp_path, tmp_path / "a job", ["--array=0-3", "-p", "--ntasks=2"])
    assert [message.split()[1].rstrip(":") for message in caught.value.messages] == [
        "--array=0-3", "-p", "--ntasks=2", f"{tmp_path}/a",
    ]  # fmt: skip
