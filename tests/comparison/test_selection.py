import json

import pytest
from predicted import study, trained, write

from xrayssl.comparison.selection import select
from xrayssl.errors import UserError


def told(entries):
    return {(one.recipe, one.network, one.amount, one.seed) for one in entries}


def test_a_study_names_its_recipes_seeds_and_reference(tmp_path):
    found = select([str(study(tmp_path / "s", {"random": 0.5, "mae": 1.0}, seeds=(0, 1)))])
    assert told(found.entries) == {(name, "resnet18", 1.0, seed) for name in ("random", "mae") for seed in (0, 1)}
    assert (found.references, found.title, found.folder, found.missing) == (["random"], "Shoulder", tmp_path / "s", [])


def test_an_unfinished_study_tells_what_is_missing_and_why(tmp_path):
    folder = study(tmp_path / "s", {"random": 0.5, "mae": 1.0}, untrained=[("mae", 1)])
    (folder / "random-resnet18-1.0-2" / "test" / "metrics.json").unlink()
    missing = {(one.recipe, one.seed): one.why for one in select([str(folder)]).missing}
    assert missing == {("mae", 1): "not trained", ("random", 2): "not tested"}


def test_a_seed_that_only_other_recipes_have_is_told(tmp_path):
    for recipe, seeds in (("a", (0, 1)), ("b", (0,))):
        for seed in seeds:
            trained(tmp_path / f"{recipe}{seed}", recipe, seed)
    found = select([f"a={tmp_path / 'a0'}", f"a={tmp_path / 'a1'}", f"b={tmp_path / 'b0'}"])
    assert told(found.missing) == {("b", "resnet18", 1.0, 1)}


def test_a_run_without_a_name_is_called_by_its_lineage(tmp_path):
    first = trained(tmp_path / "first", "x", config="mae_chest")
    second = trained(
        tmp_path / "second", "x", config="rotation_shoulder", start=str(first / "checkpoints" / "last.ckpt")
    )
    third = trained(tmp_path / "third", "x", start=str(second))
    assert select([str(third)]).entries[0].recipe == "mae_chest > rotation_shoulder > finetune_shoulder"
    timm = trained(tmp_path / "timm", "x", start="timm")
    assert select([str(timm)]).entries[0].recipe == "timm > finetune_shoulder"


def test_an_efficiency_folder_has_starts_and_amounts(tmp_path):
    runs = [{"start": "mae", "amount": amount, "seed": 0, "run": f"mae_{amount}"} for amount in (1, 5)]
    for one in runs:
        trained(tmp_path / one["run"], "mae")
    write(tmp_path / "efficiency.json", json.dumps({"version": 1, "amount": "shots", "runs": runs}))
    found = select([str(tmp_path)])
    assert told(found.entries) == {("mae", "resnet18", 1.0, 0), ("mae", "resnet18", 5.0, 0)}
    assert found.entries[0].kind == "shots" and found.folder == tmp_path


def test_a_cross_validation_is_one_seed(tmp_path):
    trained(tmp_path / "fold-1", "x", seed=4)
    write(tmp_path / "series.json", json.dumps({"version": 1, "verb": "folds"}))
    with pytest.raises(UserError, match="not all folds are tested"):
        select([str(tmp_path)])
    write(tmp_path / "metrics.json", "{}")
    (entry,) = select([f"pre={tmp_path}"]).entries
    assert (entry.recipe, entry.seed, entry.folds) == ("pre", 4, True)


def test_every_mistake_is_told_at_once(tmp_path):
    folder = study(tmp_path / "s", {"a": 1.0}, seeds=(0,))
    untested = trained(tmp_path / "run", "x")
    (untested / "test" / "metrics.json").unlink()
    with pytest.raises(UserError) as refused:
        select([f"mine={folder}", str(untested), str(tmp_path / "nothing")])
    sentences = "\n".join(refused.value.messages)
    assert len(refused.value.messages) == 3
    assert "leave out mine=" in sentences and "xrayssl test --run" in sentences and "no folder of a study" in sentences


def test_two_runs_that_cannot_be_told_apart_are_refused_and_the_same_run_twice_is_one(tmp_path):
    one, two = (trained(tmp_path / name, "x") for name in ("one", "two"))
    assert len(select([f"a={one}", f"a={one}"]).entries) == 1
    with pytest.raises(UserError, match="are both a on resnet18 with seed 0"):
        select([f"a={one}", f"a={two}"])


def test_a_folder_with_an_equals_sign_is_a_folder(tmp_path):
    assert select([str(trained(tmp_path / "lr=1", "x", config="finetune"))]).entries[0].recipe == "finetune"
