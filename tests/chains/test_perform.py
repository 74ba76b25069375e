import threading

import pytest
from stages import ALL, ALONE, FROM_MAE, FROM_TURNS, MAE, TURNS, Launches

from xrayssl.chains import perform as module
from xrayssl.chains.perform import Wording, perform, ready
from xrayssl.errors import UserError
from xrayssl.series.processes import locked


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.01)


def test_every_stage_starts_from_its_parents_folder_and_classifiers_are_tested(tmp_path):
    launch = Launches()
    assert perform(ALL, tmp_path, launch=launch) == 0
    assert launch.words[:2] == [
        ["fit", "--config", "mae", "--out", str(tmp_path / MAE.name)],
        ["fit", "--config", "rotation", "--model.init_from", str(tmp_path / MAE.name), "--out",
         str(tmp_path / TURNS.name)],
    ]  # fmt: skip
    assert [words[2] for words in launch.words if words[0] == "test"] == [
        str(tmp_path / one.name) for one in (FROM_MAE, FROM_TURNS, ALONE)
    ]
    assert launch.words[-2] == ["fit", "--config", "random", "--model.init_from", "timm", "--out",
                                str(tmp_path / ALONE.name)]  # fmt: skip


def test_finished_stages_are_not_repeated_and_what_was_put_aside_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt, match=r"To go on with all: xrayssl chain --config x$"):
        perform(ALL, tmp_path, wording=Wording(["chain", "--config", "x"]), launch=Launches({TURNS.name: 130}))
    again = Launches()
    assert perform(ALL, tmp_path, launch=again) == 0
    assert again.trained == [one.name for one in ALL[1:]]
    checkpoint = str(tmp_path / "interrupted" / f"{TURNS.name}.1" / "checkpoints" / "last.ckpt")
    assert again.words[0][3:5] == ["--ckpt_path", checkpoint]


def test_a_failed_stage_stops_only_what_starts_from_it(tmp_path, capsys):
    launch = Launches({TURNS.name: 2, ALONE.name: -9})
    assert perform(ALL, tmp_path, launch=launch) == 2
    assert launch.trained == [MAE.name, TURNS.name, FROM_MAE.name, ALONE.name]
    said = capsys.readouterr().err
    assert f"failed, as is said above: {TURNS.name}, {ALONE.name}; not trained, since they start from that: " in said
    assert f"that: {FROM_TURNS.name}; finished stages are kept" in said


def test_a_stage_that_leaves_nothing_to_test_has_failed(tmp_path, capsys):
    assert perform([ALONE], tmp_path, launch=lambda words, lock: 0) == 2
    assert "left nothing to test" in capsys.readouterr().err


def test_sigterm_ends_the_whole_and_says_how_to_go_on(tmp_path, capsys):
    launch = Launches({MAE.name: 143})
    assert perform(ALL, tmp_path, launch=launch) == 143
    assert launch.trained == [MAE.name]
    assert "xrayssl: terminated; finished stages are kept" in capsys.readouterr().err


def test_progress_tells_which_stage_for_which_recipes_and_the_time_left(tmp_path, caplog):
    with caplog.at_level("INFO", "xrayssl"):
        perform([MAE, TURNS], tmp_path, wording=Wording(recipes={TURNS.key: ["a", "b"]}), launch=Launches())
        assert f"stage 2 of 2: {TURNS.name} (a, b); about 1 min left" in caplog.text
        perform([MAE, ALONE], tmp_path, wording=Wording(left=lambda some: 7200.0 * len(some)), launch=Launches())
    assert f"stage 2 of 2: {ALONE.name}; about 2 h 00 min left" in caplog.text


def test_a_recipes_own_stage_is_grouped_under_it_and_a_shared_one_under_the_study(tmp_path):
    launch, recipes = Launches(), {MAE.key: ["a", "b"], TURNS.key: ["b"]}
    perform([MAE, TURNS], tmp_path, wording=Wording(recipes=recipes, study="ways"), launch=launch)
    groups = [words[words.index("--wandb.group") + 1] for words in launch.words if "--wandb.group" in words]
    assert groups == ["ways", "b"]


def test_what_follows_a_stage_is_called_after_each(tmp_path):
    seen = []
    perform(ALL, tmp_path, after=lambda: seen.append(sum(ready(one, tmp_path) for one in ALL)), launch=Launches())
    assert seen == [1, 2, 3, 4, 5]


def test_a_stage_whose_parent_is_not_among_these_needs_it_finished(tmp_path):
    with pytest.raises(UserError, match=rf"^{TURNS.name} starts from {MAE.name}, which is not finished"):
        perform([TURNS], tmp_path, launch=Launches())
    perform([MAE], tmp_path, launch=Launches())
    assert perform([TURNS], tmp_path, launch=Launches()) == 0


def test_what_another_process_trains_is_waited_for_and_the_free_is_trained(tmp_path, caplog):
    other, launch = Launches(), Launches()

    def finish():
        other(["fit", str(tmp_path / MAE.name)], 0)
        lock.__exit__(None, None, None)

    lock = locked(tmp_path / f"{MAE.name}.lock")
    assert lock.__enter__() is not None
    with caplog.at_level("INFO", "xrayssl"):
        threading.Timer(0.3, finish).start()
        assert perform(ALL, tmp_path, launch=launch) == 0
    assert launch.trained == [ALONE.name, TURNS.name, FROM_MAE.name, FROM_TURNS.name]
    assert caplog.text.count("Waiting.") == 1


def test_a_stage_that_another_finishes_between_the_look_and_the_lock_is_not_trained(tmp_path, monkeypatch):
    other, launch, real = Launches(), Launches(), module.locked

    def late(path):
        if not ready(MAE, tmp_path):
            other(["fit", str(tmp_path / MAE.name)], 0)
        return real(path)

    monkeypatch.setattr(module, "locked", late)
    assert perform([MAE], tmp_path, launch=launch) == 0
    assert launch.words == []
