import json
import logging
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from chains_of import chain, written

from xrayssl import recipes
from xrayssl.chains import command, perform
from xrayssl.chains.stage import Stage
from xrayssl.cli import list_configs, main

RECIPES = {"alone": ["tune"], "mae": ["mae", "tune"]}


@pytest.fixture
def performed(tmp_path, monkeypatch):
    """What would be trained, in the order of the calls."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        perform, "perform", lambda stages, store, launcher=(), **more: calls.append((stages, more, launcher)) or 0
    )
    return calls


def test_a_plan_writes_nothing(tmp_path, performed, capsys):
    config = written(tmp_path, RECIPES, seeds=[0, 1])
    before = {*tmp_path.iterdir()}
    assert main(["chain", "--config", config, "--plan"]) == 0
    assert "6 stages, each trained once" in capsys.readouterr().out
    assert ({*tmp_path.iterdir()}, performed) == (before, [])


def test_a_mistake_exits_with_2_and_writes_nothing(tmp_path, performed, capsys):
    config = written(tmp_path, RECIPES)
    before = {*tmp_path.iterdir()}
    assert main(["chain", "--config", config, "--tune.model.optm.lr", "3", "--mae.model.ratio", "2"]) == 2
    assert capsys.readouterr().err.count("xrayssl: ") == 2
    assert ({*tmp_path.iterdir()}, performed) == (before, [])


def test_the_study_tells_where_each_result_lies(tmp_path, performed):
    config = written(tmp_path, RECIPES, reference="alone", seeds=[3, 4])
    assert main(["chain", "--config", config, "--fractions", "0.5", "1"]) == 0
    told = json.loads((tmp_path / "runs" / "studies" / "study" / "study.json").read_text())
    assert (told["version"], told["title"], told["reference"], told["pretraining_seed"]) == (1, "study", "alone", None)
    assert [(run["recipe"], run["seed"], run["fraction"]) for run in told["runs"]][:4] == [
        ("alone", 3, 0.5), ("alone", 3, 1.0), ("mae", 3, 0.5), ("mae", 3, 1.0)]  # fmt: skip
    stages = {stage.name for stage in performed[0][0]}
    assert {name for run in told["runs"] for name in run["stages"]} == stages
    assert told["runs"][2]["run"].endswith(f"runs/stages/{told['runs'][2]['stages'][-1]}")


def test_what_is_being_done_is_told_while_it_is_done(tmp_path, performed, monkeypatch, capsys):
    log = logging.getLogger("xrayssl.chains.perform")
    monkeypatch.setattr(perform, "perform", lambda *given, **more: log.info("stage 1 of 6") or 0)
    assert main(["chain", "--config", written(tmp_path, RECIPES)]) == 0
    assert "stage 1 of 6" in capsys.readouterr().err


def test_each_stage_is_recorded_beside_its_folder(tmp_path, performed):
    config = written(tmp_path, RECIPES)
    assert main(["chain", "--config", config, "--stages", str(tmp_path / "store")]) == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "store").glob("*.json")]
    assert {record["key"] for record in records} == {stage.key for stage in performed[0][0]}
    assert all(record["facts"]["code"] for record in records)


def test_a_folder_of_something_else_is_not_taken(tmp_path, performed, capsys):
    config = written(tmp_path, RECIPES)
    assert main(["chain", "--config", config, "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert not performed


def test_weights_that_cannot_be_had_are_told_before_anything_is_trained(tmp_path, performed, capsys, monkeypatch):
    import timm

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *names, pretrained=False, **more: (
        1 / 0 if pretrained else create(*names, pretrained=False, **more)))  # fmt: skip
    config = written(tmp_path, {"a": ["tune"], "b": chain("tune", start="timm")})
    assert main(["chain", "--config", config, "--plan"]) == 0
    assert main(["chain", "--config", config]) == 2
    assert "--recipes a" in capsys.readouterr().err
    assert not performed


def test_one_stage_alone_is_trained_by_its_digits(tmp_path, performed, capsys):
    config = written(tmp_path, RECIPES)
    assert main(["chain", "--config", config]) == 0
    tune = performed[0][0][-1]
    assert main(["chain", "--config", config, "--only", tune.key[:12]]) == 0
    assert performed[1][0] == [tune]
    assert main(["chain", "--config", config, "--only", "0123456789ab"]) == 2
    assert "no such stage" in capsys.readouterr().err


def test_scripts_for_slurm_ask_for_the_same_stages_as_the_plan(tmp_path, performed, capsys, monkeypatch):
    config = written(tmp_path, RECIPES)
    words = ["chain", "--config", config, "--slurm", "jobs", "--sbatch", "--partition=gpu --ntasks-per-node=2"]
    assert main(words) == 0
    assert "jobs/submit.sh submits" in capsys.readouterr().out
    script = (tmp_path / "jobs" / "level-1.sh").read_text()
    assert "#SBATCH --partition=gpu" in script and "--slurm" not in script.partition("cd ")[2]
    call = next(line for line in script.splitlines() if "-m xrayssl chain" in line)
    launcher = shlex.split(call)[shlex.split(call).index("--launcher") + 1]
    monkeypatch.setattr(command.shutil, "which", lambda program: program)
    assert main(["chain", "--config", config, "--launcher", launcher]) == 0
    assert all(stage.key[:12] in script for stage in performed[0][0] if stage.parent is None)


def test_a_launcher_beside_this_python_is_found_without_its_environment(tmp_path, performed, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["--launcher", "torchrun --nproc_per_node=2"]
    assert main(["chain", "--config", written(tmp_path, RECIPES), *words]) == 0
    assert performed[0][2] == [str(Path(sys.executable).parent / "torchrun"), "--nproc_per_node=2"]


def test_a_launcher_that_is_not_there_is_refused_before_anything_is_written(tmp_path, performed, capsys):
    assert main(["chain", "--config", written(tmp_path, RECIPES), "--launcher", "nonesuch --x"]) == 2
    assert "there is no program nonesuch here" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_contradicts_itself_is_refused(tmp_path, performed, capsys):
    words = ["--measure", "--sbatch=--partition=gpu", "--only", "ab"]
    assert main(["chain", "--config", written(tmp_path, RECIPES), *words]) == 2
    told = capsys.readouterr().err
    assert "--measure goes with --plan." in told and "--sbatch goes with --slurm." in told


@pytest.mark.parametrize("words", [["--stages", "file/store"], ["--out", "file/study"], ["--launcher", "'open"]])
def test_what_cannot_be_written_or_read_is_told_in_a_sentence(tmp_path, performed, capsys, words):
    (tmp_path / "file").write_text("")
    assert main(["chain", "--config", written(tmp_path, RECIPES), *words]) == 2
    assert ("xrayssl: " in capsys.readouterr().err, performed) == (True, [])


def test_the_launchers_processes_are_a_part_of_the_batch():
    assert command._processes(["torchrun", "--nproc-per-node=2", "--nnodes=3"]) == 6
    assert command._processes(["torchrun", "--nproc_per_node", "2"]) == 2
    assert command._processes(["srun", "--ntasks=4", "--ntasks-per-node=2", "python"]) == 4


def test_chains_and_studies_are_listed_in_sections_of_their_own(capsys):
    list_configs([])
    told = capsys.readouterr().out
    first, chains, studies = told.split("\n\n")
    assert "finetune_shoulder " in first and "random_shoulder_vit " in chains and "demo_shoulder " in studies
    assert "random_shoulder_vit" not in first


def test_a_stage_is_its_key():
    one, other = (Stage("ab" * 32, "tune", words, None, None, 0, True) for words in (["x"], ["y"]))
    assert one == other and len({one, other}) == 1
    assert one.name == f"tune-{'ab' * 6}"


def test_the_demo_study_plans_on_phantoms(tmp_path, performed, capsys):
    small = ["--chest.corpora", '{"phantom": {"body": "chest", "films": 24, "size": 48}}', "--shoulder.corpora",
             '{"phantom": {"body": "shoulder", "films": 24, "size": 48}}', "--model.backbone", "test_vit"]  # fmt: skip
    assert main(["chain", "--config", "demo_shoulder", "--plan", *small]) == 0
    assert "10 stages, each trained once; recipe by recipe there would be 12, 2 more." in capsys.readouterr().out


def test_a_chain_is_trained_from_stage_to_stage_and_not_again(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XRAYSSL_RUN", "")
    words = []
    monkeypatch.setattr(perform, "process", lambda some, lock, launcher=(): words.append(some[0]) or main(list(some)))
    config = written(tmp_path, {"mae": ["mae", "tune"]})
    assert main(["chain", "--config", config]) == 0
    assert words == ["fit", "fit", "test"]
    told = json.loads((tmp_path / "runs" / "studies" / "study" / "study.json").read_text())
    tuned = tmp_path / "runs" / "stages" / told["runs"][0]["stages"][1]
    start = yaml.safe_load((tuned / "config.yaml").read_text())["model"]["init_args"]["init_from"]
    assert start == str(tmp_path / "runs" / "stages" / told["runs"][0]["stages"][0])
    assert main(["chain", "--config", config]) == 0
    assert len(words) == 3
    capsys.readouterr()
    assert main(["chain", "--config", config, "--plan"]) == 0
    assert "2 exists." in capsys.readouterr().out


def test_the_packaged_chains_stand_beside_the_configurations():
    assert {path.parent.name for path in recipes.packaged("chains").values()} == {"chains"}
