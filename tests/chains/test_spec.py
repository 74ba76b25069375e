import pytest
import yaml
from chains_of import chain, own, written

from xrayssl import recipes
from xrayssl.chains import spec
from xrayssl.errors import UserError

SHARED = {"alone": ["tune"], "mae": ["mae", "tune"]}


def settings(study, recipe, stage):
    return next(one for one in study.recipes if one.name == recipe).steps[stage].settings


def refused(config, words=(), **more):
    with pytest.raises(UserError) as error:
        spec.asked(own(config, **more), list(words))
    return error.value.messages


def test_what_is_more_special_goes_before_and_the_command_before_all(tmp_path):
    given = {"data.img_size": 64, "chest.img_size": 48, "mae.trainer.max_epochs": 3, "trainer.max_epochs": 2}
    config = written(tmp_path, {"a": chain(("mae", {"data.img_size": 16, "model.ema": 0.9}), "tune")}, set=given)
    study = spec.asked(own(config), ["--trainer.max_epochs", "9", "--shoulder.batch_size", "2"])
    assert settings(study, "a", 0) == {"data.img_size": "48", "model.ema": "0.9", "trainer.max_epochs": "9"}
    assert settings(study, "a", 1) == {"data.img_size": "64", "trainer.max_epochs": "9", "data.batch_size": "2"}


def test_values_of_yaml_become_words_of_the_command_line(tmp_path):
    given = {"data.labels": ["A", "B"], "model.ema": None, "model.compile": True, "chest.corpora.nih": "/films"}
    study = spec.asked(own(written(tmp_path, {"a": ["mae", "tune"]}, set=given)), [])
    assert settings(study, "a", 0) == {"data.labels": '["A", "B"]', "model.ema": "null", "model.compile": "true",
                                       "data.corpora.nih": "/films"}  # fmt: skip


def test_a_chain_is_a_study_of_one_recipe_and_one_seed(tmp_path):
    written(tmp_path, SHARED)
    (tmp_path / "way.yaml").write_text(yaml.safe_dump(chain("mae", "tune")))
    study = spec.asked(own(str(tmp_path / "way.yaml")), [])
    assert ([recipe.name for recipe in study.recipes], study.reference, study.seeds) == (["way"], "way", [0])


def test_the_command_chooses_recipes_seeds_and_fractions(tmp_path):
    config = written(tmp_path, SHARED, seeds=[0, 1], reference="alone", set={"mae.trainer.max_epochs": 2})
    study = spec.asked(own(config, recipes=["alone"], seeds=[7], fractions=[0.5]), [])
    assert ([recipe.name for recipe in study.recipes], study.seeds, study.fractions) == (["alone"], [7], [0.5])


def test_every_mistake_is_told_at_once(tmp_path):
    bad = {"a": "no_such_chain", "b": {"start": 3, "stages": [{"config": "tune.yaml"}]},
           "c": {"stages": [{"config": "no_such.yaml"}]}, "d": {"stages": []}, "f": ["tune"]}  # fmt: skip
    config = written(tmp_path, bad, refrence="a", seeds=[0, 0], fractions=[0, 2], set={"shulder.batch_size": 2})
    told = "\n".join(refused(config, ["--model.init_from", "x", "--seed_everything", "1"], recipes=["e", "b"]))
    for part in ("no_such_chain", "`start` is null", "no_such.yaml", "a chain has `stages`", "Did you mean reference",
                 "each once, not [0, 0]", "not [0, 2]", "Did you mean shoulder", "--model.init_from has no place",
                 "--seed_everything has no place", "--recipes e"):  # fmt: skip
        assert part in told


def test_seeds_and_fractions_that_are_no_lists_are_told_with_what_to_write(tmp_path):
    told = refused(written(tmp_path, SHARED, seeds=3, fractions=0.5))
    assert [sentence.partition(";")[0] for sentence in told] == [
        "`seeds` is a list, such as [3], not 3.", "`fractions` is a list, such as [0.5], not 0.5."]  # fmt: skip


def test_a_key_that_is_given_twice_is_refused(tmp_path):
    config = written(tmp_path, SHARED)
    (tmp_path / "study.yaml").write_text("seeds: [0]\n" + (tmp_path / "study.yaml").read_text() + "seeds: [1]\n")
    assert "the key 'seeds' is given twice" in refused(config)[0]


def test_a_key_of_a_merged_mapping_may_be_said_otherwise(tmp_path):
    config, path = written(tmp_path, SHARED), tmp_path / "study.yaml"
    path.write_text("set: &all {data.img_size: 64, trainer.max_epochs: 1}\n" + path.read_text())
    merged = path.read_text().replace("set: &all", "set: &all", 1) + "seeds: [1]\n"
    path.write_text(merged.replace("recipes:", "recipes:", 1))
    assert spec.asked(own(config), []).seeds == [1]


def test_a_setting_for_a_configuration_outside_the_study_is_refused(tmp_path):
    assert "turn.model.ema: this is for no stage" in refused(written(tmp_path, SHARED), ["--turn.model.ema", "0.9"])[0]


def test_a_fraction_is_said_by_the_study_alone(tmp_path):
    assert "the fractions of the study say it" in refused(written(tmp_path, SHARED), ["--tune.data.fraction", "0.5"])[0]


def test_the_reference_must_be_among_the_recipes(tmp_path):
    config = written(tmp_path, SHARED, reference="alone")
    assert "--reference" in refused(config, recipes=["mae"])[0]


def test_a_training_is_no_chain_and_a_chain_no_training():
    assert "xrayssl fit --config mae_chest" in refused("mae_chest")[0]
    with pytest.raises(UserError, match="xrayssl chain --config shoulder_vit"):
        recipes.find("shoulder_vit")


def test_two_configurations_of_one_name_are_refused(tmp_path):
    config = written(tmp_path, {"a": ["tune"], "b": ["more/tune"]})
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "tune.yaml").write_text((tmp_path / "tune.yaml").read_text())
    assert "both called tune" in refused(config)[0]


@pytest.mark.parametrize("name", [*recipes.packaged("chains"), *recipes.packaged("studies")])
def test_every_packaged_chain_and_study_can_be_read(name):
    study = spec.asked(own(name), [])
    assert all(recipe.steps for recipe in study.recipes)
    assert 20 < len(recipes.describe(recipes.find_chain(name))) < 120


@pytest.mark.parametrize("kind", ["vit", "cnn"])
def test_the_study_has_every_direction_of_the_design(kind):
    assert len(spec.asked(own(f"shoulder_{kind}"), []).recipes) == 10
