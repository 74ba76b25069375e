import json
import signal
import sys

import pytest
from torch.distributed.run import get_args_parser

from xrayssl.errors import UserError
from xrayssl.series import processes
from xrayssl.series import runs as module
from xrayssl.series.processes import launched, locked, process
from xrayssl.series.runs import Series, place
from xrayssl.series.training import ASIDE, Job, finished


class Launches:
    """Stands in for the processes: writes what they would, and remembers the commands."""

    def __init__(self, *statuses):
        self.words, self.statuses = [], list(statuses)

    def __call__(self, words, lock):
        self.words.append(list(words))
        status = self.statuses.pop(0) if self.statuses else 0
        out = words[-1] if words[0] == "fit" else None
        if out:
            run = module.Path(out)
            run.mkdir()
            outcome = "finished" if status == 0 else "interrupted"
            (run / "run.json").write_text(json.dumps({"outcome": outcome, "seconds": 60}))
            if status in (0, 130):
                (run / "checkpoints").mkdir()
                (run / "checkpoints" / "last.ckpt").write_text("")
        elif status == 0:
            (module.Path(words[2]) / "test").mkdir()
            (module.Path(words[2]) / "test" / "metrics.json").write_text("{}")
        return status

    @property
    def verbs(self):
        runs = [module.Path(words[-1] if words[0] == "fit" else words[2]) for words in self.words]
        return [f"{words[0]} {run.name}" for words, run in zip(self.words, runs, strict=True)]


@pytest.fixture
def three(tmp_path):
    jobs = [Job(f"fold-{number}", ["--config", "x", "--data.fold", f"{number}/3"]) for number in (1, 2, 3)]
    return Series("folds", ["--config", "x"], tmp_path, jobs)


ALL = ["fit fold-1", "test fold-1", "fit fold-2", "test fold-2", "fit fold-3", "test fold-3"]


def test_every_job_is_trained_and_tested_in_its_folder(three):
    launch = Launches()
    assert three.perform(launch) == 0
    assert launch.verbs == ALL
    assert launch.words[0] == ["fit", "--config", "x", "--data.fold", "1/3", "--out", str(three.folder / "fold-1")]


def test_what_is_finished_is_not_repeated(three):
    three.perform(Launches())
    again = Launches()
    assert (three.perform(again), again.words) == (0, [])


def test_an_interruption_says_what_to_type_and_the_training_goes_on_from_its_checkpoint(three):
    with pytest.raises(KeyboardInterrupt, match=rf"xrayssl folds --config x --out {three.folder}$"):
        three.perform(Launches(0, 0, 130))
    again = Launches()
    three.perform(again)
    assert again.verbs == ALL[2:]
    left = three.folder / ASIDE / "fold-2.1"
    checkpoint = str(left / "checkpoints" / "last.ckpt")
    assert again.words[0][:5] == ["fit", "--config", str(left / "config.yaml"), "--ckpt_path", checkpoint]


def test_a_training_that_was_killed_before_its_first_checkpoint_starts_from_the_attempt_before_it(three):
    with pytest.raises(KeyboardInterrupt):
        three.perform(Launches(130))
    assert three.perform(Launches(-9)) == 1
    again = Launches()
    three.perform(again)
    assert str(three.folder / ASIDE / "fold-1.1" / "checkpoints" / "last.ckpt") in again.words[0]


def test_the_folder_of_a_test_is_named_so_that_several_processes_agree_on_it(three):
    launch = Launches()
    three.perform(launch)
    run = three.folder / "fold-1"
    assert launch.words[1] == ["test", "--run", str(run), "--out", str(run / "test")]


def test_a_test_that_was_cut_short_is_repeated_without_its_training(three):
    three.perform(Launches(0, 1))
    (three.folder / "fold-1" / "test").mkdir()
    again = Launches()
    assert three.perform(again) == 0
    assert again.verbs == ALL[1:]


def test_a_failure_ends_the_series_with_its_status_and_says_how_to_go_on(three, capsys):
    launch = Launches(0, 0, 2)
    assert three.perform(launch) == 2
    assert launch.verbs == ALL[:3]
    assert "fold-2 failed, as is said above" in capsys.readouterr().err


def test_progress_tells_which_of_how_many_and_the_time_left(three, caplog):
    with caplog.at_level("INFO", "xrayssl"):
        three.perform(Launches())
    assert "folds 3 of 3: fold-3; about 1 min left" in caplog.text


def test_a_job_goes_on_from_its_own_checkpoint_beside_one_whose_name_begins_with_its_own(tmp_path):
    jobs = [Job("a_1_seed0", ["x"]), Job("a_1_seed0.v[2]", ["x"])]
    series, launch = Series("efficiency", [], tmp_path, jobs), Launches()
    for name in ("a_1_seed0.1", "a_1_seed0.v[2].1", "a_1_seed0.v[2].2"):
        (tmp_path / ASIDE / name / "checkpoints").mkdir(parents=True)
        (tmp_path / ASIDE / name / "checkpoints" / "last.ckpt").write_text("")
    assert series.perform(launch) == 0
    used = [module.Path(words[4]).parents[1].name for words in launch.words if words[0] == "fit"]
    assert used == ["a_1_seed0.1", "a_1_seed0.v[2].2"]


def test_two_processes_do_not_work_in_one_folder(three):
    def launch(words, lock):
        with pytest.raises(UserError, match="another process is still at work here"):
            three.perform(Launches())
        return 2

    assert three.perform(launch) == 2


def test_another_command_does_not_go_on_in_the_folder(tmp_path):
    place("folds", "x", ["--config", "x"], tmp_path / "out")
    assert place("folds", "x", ["--config", "x"], tmp_path / "out") == tmp_path / "out"
    with pytest.raises(UserError, match=r"belongs to another command, xrayssl folds --config x;"):
        place("folds", "x", ["--config", "y"], tmp_path / "out")


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="is not empty"):
        place("folds", "x", [], tmp_path)


def test_a_trial_that_leaves_nothing_to_test_is_refused(three):
    with pytest.raises(UserError, match="left nothing to test"):
        three.perform(lambda words, lock: 0)
    assert not finished(three.folder / "fold-1")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_passed_on_once_and_the_child_is_waited_for(number, status, monkeypatch, tmp_path):
    text = f"import os, signal; os.kill(os.getppid(), {int(number)}); signal.pause()"
    before = signal.getsignal(number)
    real = processes.subprocess.Popen
    monkeypatch.setattr(processes.subprocess, "Popen", lambda words, **how: real([words[0], "-c", text], **how))
    with (tmp_path / "lock").open("w") as lock:
        assert process(["fit"], lock.fileno()) == status
    assert signal.getsignal(number) == before


def test_a_training_that_the_kernel_kills_is_said_to_be(monkeypatch, tmp_path, capsys):
    text = "import os; os.kill(os.getpid(), 9)"
    real = processes.subprocess.Popen
    monkeypatch.setattr(processes.subprocess, "Popen", lambda words, **how: real([words[0], "-c", text], **how))
    with (tmp_path / "lock").open("w") as lock:
        assert process(["fit"], lock.fileno()) == -9
    assert "fit was killed by SIGKILL; for want of memory, as a rule." in capsys.readouterr().err


def test_a_signal_that_the_child_survives_ends_the_series_all_the_same(monkeypatch, tmp_path):
    text = "import os, signal; signal.signal(15, signal.SIG_IGN); os.kill(os.getppid(), 15)"
    real = processes.subprocess.Popen
    monkeypatch.setattr(processes.subprocess, "Popen", lambda words, **how: real([words[0], "-c", text], **how))
    with (tmp_path / "lock").open("w") as lock:
        assert process(["test"], lock.fileno()) == 143


def test_a_signal_that_this_process_was_started_to_ignore_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setattr(processes.subprocess, "Popen", Survivor)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert process(["fit"], 0) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


class Survivor:
    """A process during which SIGTERM comes."""

    returncode = 0

    def __init__(self, words, **how):
        pass

    def wait(self):
        signal.raise_signal(signal.SIGTERM)
        return 0


def test_every_descendant_of_a_training_holds_its_lock(tmp_path):
    """As torchrun's, which close what they are not told of, and outlive it when it is killed."""
    text = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {ORPHAN!r}])"
    (tmp_path / "launcher").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{text}"\n')
    (tmp_path / "launcher").chmod(0o755)
    with locked(tmp_path / "lock") as lock:
        assert process([], lock, [str(tmp_path / "launcher")]) == 0
    with locked(tmp_path / "lock") as lock:
        assert lock is None


ORPHAN = "import time; time.sleep(3)"


def test_a_launcher_that_is_not_there_is_named(tmp_path):
    with (tmp_path / "lock").open("w") as lock, pytest.raises(UserError, match="--launcher torchrum: it cannot be"):
        process(["fit"], lock.fileno(), ["torchrum", "--nproc_per_node=2"])


def test_torchrun_does_not_take_an_option_of_ours_for_its_own(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert launched(["test", "--run", "r"], torchrun) == [*torchrun, "-m", "--", "xrayssl", "test", "--run", "r"]
    known = get_args_parser().parse_args(launched(["test", "--run", "r"], torchrun)[3:])
    assert (known.training_script, known.training_script_args) == ("xrayssl", ["test", "--run", "r"])
    assert launched(["fit"], ["srun", "python"]) == ["srun", "python", "-m", "xrayssl", "fit"]
