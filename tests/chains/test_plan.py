import fcntl
import json

import pytest
import yaml
from chains_of import own, written

from xrayssl import rundir
from xrayssl.chains import graph, plan, spec, throughput
from xrayssl.chains.stage import Stage


@pytest.fixture
def made(tmp_path):
    study = spec.asked(
        own(written(tmp_path, {"alone": ["tune"], "mae": ["mae", "tune"], "both": ["mae", "turn", "tune"]})), []
    )
    return graph.build(study, tmp_path / "stages")


def states(made, tmp_path):
    return {line.stage.name: line.state for line in plan.lines(made, tmp_path / "stages", {})}


def run_of(tmp_path, stage, outcome="finished", **record):
    run = tmp_path / "stages" / stage.name
    run.mkdir(parents=True)
    told = {"outcome": outcome, "method": stage.method, "backbone": stage.network, "machine": rundir.machine(),
            "data": {"splits": {"train": 20}}, "seconds": 10.0, **record}  # fmt: skip
    (run / "run.json").write_text(json.dumps(told))
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"init_args": {"img_size": stage.img_size}}}))
    (run / "metrics.csv").write_text("epoch,step,loss\n0,1,0.5\n4,9,0.4\n")
    return run


def test_a_stage_without_a_finished_parent_waits(made, tmp_path):
    assert sorted(states(made, tmp_path).values()) == ["waits", "waits", "waits", "will run", "will run"]


def test_states_are_read_from_the_store(made, tmp_path):
    alone, mae, tune, turn, _ = made.stages
    run_of(tmp_path, mae)
    run_of(tmp_path, alone)  # trained, and not tested yet
    (tmp_path / "stages" / "interrupted" / f"{turn.name}.1" / "checkpoints").mkdir(parents=True)
    (tmp_path / "stages" / "interrupted" / f"{turn.name}.1" / "checkpoints" / "last.ckpt").write_bytes(b"")
    found = states(made, tmp_path)
    assert [found[stage.name] for stage in (mae, alone, tune, turn)] == ["exists", "goes on", "will run", "goes on"]


def test_a_stage_that_another_process_trains_is_told(made, tmp_path):
    lock = tmp_path / "stages" / f"{made.stages[0].name}.lock"
    lock.parent.mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert states(made, tmp_path)[made.stages[0].name] == "is trained"
    assert states(made, tmp_path)[made.stages[0].name] == "will run"


def test_time_comes_from_finished_runs_of_the_same_kind(made, tmp_path):
    alone, mae, *_ = made.stages
    run_of(tmp_path, Stage("f" * 64, "mae", [], None, None, 9, False, 0, 0, mae.network, mae.method, mae.img_size))
    rates = throughput.known(tmp_path / "stages")
    assert rates == {throughput.key(mae): 20 * 5 / 10.0}
    seconds = {line.stage.name: line.seconds for line in plan.lines(made, tmp_path / "stages", rates)}
    assert seconds[mae.name] == plan.OVERHEAD + mae.films * mae.epochs / 10.0
    assert seconds[alone.name] is None


@pytest.mark.parametrize(
    "record", [{"outcome": "failed"}, {"resumed": "x.ckpt"}, {"machine": {"processor": "another"}}]
)
def test_runs_that_tell_nothing_of_speed_are_left_out(made, tmp_path, record):
    run_of(tmp_path, made.stages[0], **record)
    assert throughput.known(tmp_path / "stages") == {}


def test_what_is_not_known_is_said_to_be_unknown(made, tmp_path):
    mae = made.stages[1]
    some = plan.text(made, plan.lines(made, tmp_path, {throughput.key(mae): 1.0}))
    assert "and 4 for an unknown time" in some and "Finetune on test_vit, RotationProxy on test_vit" in some
    assert "for an unknown time." in plan.text(made, plan.lines(made, tmp_path, {}))


def test_the_plan_has_each_stage_once_and_counts_what_is_saved(made, tmp_path):
    told = plan.text(made, plan.lines(made, tmp_path, {}))
    assert all(told.count(stage.name) == 1 for stage in made.stages)
    assert "5 stages, each trained once; recipe by recipe there would be 6, 1 more." in told
    assert "3 recipes x 1 seed x 1 label fraction = 3 results" in told


def test_what_is_left_has_no_sum_where_a_speed_is_unknown(made):
    rates = dict.fromkeys(map(throughput.key, made.stages), 1.0)
    assert plan.left(made.stages, rates) == sum(plan.OVERHEAD + stage.films * stage.epochs for stage in made.stages)
    assert plan.left(made.stages, {}) is None


def test_a_few_steps_are_measured_of_each_kind_that_is_unknown(made, tmp_path, monkeypatch):
    monkeypatch.setattr(throughput, "ENOUGH", 0.01)
    known = {throughput.key(made.stages[1]): 1.0}
    found = throughput.measured(made, made.stages, tmp_path / "stages", known)
    assert {method for method, *_ in found} == {"Finetune", "RotationProxy"}
    assert all(rate > 1 for rate in found.values())
