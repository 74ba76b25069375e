import json

import pytest
from chains_of import chain, own, written

from xrayssl.chains import graph, identity, spec
from xrayssl.errors import UserError

SHARED = {"alone": ["tune"], "mae": ["mae", "tune"], "turned": ["mae", "turn", "tune"]}


def built(tmp_path, recipes=None, any_code=False, **more):
    study = spec.asked(own(written(tmp_path, recipes or SHARED, **more)), [])
    return graph.build(study, tmp_path / "stages", any_code)


def refused(tmp_path, recipes):
    with pytest.raises(UserError) as error:
        built(tmp_path, recipes)
    return error.value.messages


def done(made, stage, folder):
    """Makes a stage look finished, with its record."""
    run = folder / "stages" / stage.name
    (run / "test").mkdir(parents=True)
    (run / "run.json").write_text('{"outcome": "finished"}')
    (run / "test" / "metrics.json").write_text("{}")
    (run.parent / f"{stage.name}.json").write_text(json.dumps(graph.record(made, stage)))


def test_what_recipes_share_is_one_stage(tmp_path):
    made = built(tmp_path, seeds=[0, 1])
    assert (len(made.stages), made.naive) == (2 * 5, 2 * 6)
    needing = graph.needed_by(made)
    assert [needing[stage.key] for stage in made.stages if stage.config == "mae"] == [["mae", "turned"]] * 2


def test_a_stage_stands_after_the_one_it_starts_from(tmp_path):
    stages = built(tmp_path, seeds=[0, 1]).stages
    assert all(stages.index(stage.parent) < stages.index(stage) for stage in stages if stage.parent)


def test_fractions_share_their_pretraining(tmp_path):
    made = built(tmp_path, {"mae": ["mae", "tune"]}, fractions=[0.5, 1.0])
    assert made.stages[0].config == "mae"
    assert len(made.stages) == 3
    few, all_films = (result.stage for result in made.results)
    assert "--data.fraction" in few.words and few.films < all_films.films


def test_one_pretraining_for_all_seeds(tmp_path):
    made = built(tmp_path, {"mae": ["mae", "tune"]}, seeds=[0, 1], pretraining_seed=7)
    assert [(stage.config, stage.seed) for stage in made.stages] == [("mae", 7), ("tune", 0), ("tune", 1)]


def test_a_later_stage_starts_from_the_folder_of_the_one_before_it(tmp_path):
    made = built(tmp_path, {"mae": ["mae", "tune"]})
    mae, tune = made.stages
    assert tune.fit(tmp_path)[-2:] == ["--model.init_from", str(tmp_path / mae.name)]
    assert "--model.init_from" not in mae.fit(tmp_path)
    assert (mae.tested, tune.tested) == (False, True)


def test_the_parent_and_the_code_are_a_part_of_the_key(tmp_path, monkeypatch):
    before = built(tmp_path).stages
    assert len({stage.key for stage in before if stage.config == "tune"}) == 3
    monkeypatch.setattr(identity, "code_version", lambda: "another")
    assert not {*before} & {*built(tmp_path).stages}


def test_what_another_version_of_the_code_has_trained_is_taken_only_on_request(tmp_path, monkeypatch):
    before = built(tmp_path)
    for stage in before.stages:
        done(before, stage, tmp_path)
    monkeypatch.setattr(identity, "code_version", lambda: "another")
    assert len(graph.unfinished(built(tmp_path).stages, tmp_path / "stages")) == 5
    after = built(tmp_path, any_code=True)
    assert (after.stages, len(after.adopted)) == (before.stages, 5)


def test_a_stage_of_this_version_goes_before_one_of_another(tmp_path, monkeypatch):
    before = built(tmp_path, {"a": ["tune"]})
    done(before, before.stages[0], tmp_path)
    monkeypatch.setattr(identity, "code_version", lambda: "another")
    ours = built(tmp_path, {"a": ["tune"]})
    done(ours, ours.stages[0], tmp_path)
    assert built(tmp_path, {"a": ["tune"]}, any_code=True).stages == ours.stages


def test_ends_without_labels_and_networks_that_differ_are_told_at_once(tmp_path):
    told = "\n".join(refused(tmp_path, {"a": ["mae"], "b": ["mae", ("tune", {"model.backbone": "test_resnet"})],
                                        "c": ["mae", ("tune", {"model.in_chans": 3})]}))  # fmt: skip
    for part in ("recipe a ends with mae", "a test_vit of 1 channel, and tune a test_resnet", "of 3 channels"):
        assert part in told


def test_the_mistakes_of_every_stage_are_told_at_once(tmp_path):
    recipes = {
        "a": [("mae", {"model.ratio": 3}), ("tune", {"model.optim.lr": -1})],
        "b": [("tune", {"model.heads": 1})],
    }
    told = refused(tmp_path, recipes)
    assert [sentence.partition(":")[0] for sentence in told] == ["mae", "tune", "tune"]


def test_a_trial_is_no_stage(tmp_path):
    assert "fast_dev_run" in refused(tmp_path, {"a": [("tune", {"trainer.fast_dev_run": True})]})[0]


def test_weights_that_timm_has_not_are_refused_without_asking_for_them(tmp_path):
    recipes = {"a": chain("tune", start="timm"), "b": ["tune"],
               "c": chain(("tune", {"model.backbone": "no.such"}), start="timm")}  # fmt: skip
    study = spec.asked(own(written(tmp_path, recipes)), ["--model.backbone", "test_resnet"])
    with pytest.raises(UserError, match=r"it is about the weights no\.such.*--recipes a b\."):
        graph.build(study, tmp_path / "stages")


def test_a_start_counts_by_its_content_and_must_fit(tmp_path):
    from xrayssl import handoff
    from xrayssl.backbone import Backbone

    files = [handoff.save(Backbone("test_vit", 32), tmp_path / f"{name}.safetensors", method="x") for name in "ab"]
    (tmp_path / "c.safetensors").write_bytes(files[0].read_bytes())
    made = built(tmp_path, {name: chain("tune", start=str(tmp_path / f"{name}.safetensors")) for name in "abc"})
    a, b, c = (result.stage for result in made.results)
    assert a == c != b
    other = handoff.save(Backbone("test_resnet", 32), tmp_path / "d.safetensors", method="x")
    assert "holds a test_resnet" in refused(tmp_path, {"d": chain("tune", start=str(other))})[0]
