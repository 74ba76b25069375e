"""What is suggested works."""

import json

import pytest
import yaml
from phantoms import small

from xrayssl import advice, recipes
from xrayssl.cli import main

SAME = {"model.backbone": "vit_small_patch16_224", "data.img_size": 224}


@pytest.mark.parametrize("title", ["mae_chest", "rotation_chest", "mae_shoulder", "mae_shoulder_center", "mine", None])
def test_pretraining_leads_to_the_shoulder(title, tmp_path):
    command = f"xrayssl fit --config finetune_shoulder --model.init_from {tmp_path}"
    assert advice.finetune(tmp_path, title, SAME, {"phantom": {}}) == command


def test_the_demo_leads_to_the_demos_second_stage(tmp_path):
    settings = {"model.backbone": "vit_tiny_patch16_224", "data.img_size": 128}
    command = advice.finetune(tmp_path, "demo_mae_chest", settings, {"phantom": {}})
    assert command == f"xrayssl fit --config demo_finetune_shoulder --model.init_from {tmp_path}"


def test_what_differs_from_the_configuration_is_told(tmp_path):
    other = {"model.backbone": "resnet50", "data.img_size": [64, 48]}
    command = advice.finetune(tmp_path / "a b", "mae_chest", other, {"nih": "/films"})
    assert f"--model.init_from '{tmp_path}/a b' --model.backbone resnet50 --data.img_size '[64,48]'" in command
    assert command.endswith("--data.corpora.NAME PATH")


def test_every_suggested_configuration_is_packaged():
    assert {"finetune_shoulder", "demo_finetune_shoulder"} <= set(recipes.packaged())


CONFIG = {
    "model": {"class_path": "RotationProxy", "init_args": {"backbone": "test_vit", "optim": {"warmup_epochs": 0}}},
    "data": {"class_path": "ChestXrayDataModule",
             "init_args": {"img_size": 64, "batch_size": 4, "num_workers": 0, "corpora": small("chest")}},
    "trainer": {"max_epochs": 1, "limit_train_batches": 1, "accelerator": "cpu", "enable_progress_bar": False},
    "wandb": {"mode": "disabled"},
}  # fmt: skip
FAST = ["--data.corpora", json.dumps(small("shoulder")), "--data.num_workers", "0", "--wandb.mode", "disabled",
        "--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "mine.yaml").write_text(yaml.safe_dump(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XRAYSSL_RUN", "")
        assert main(["fit", "--config", str(folder / "mine.yaml"), "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_the_command_after_pretraining_runs_as_it_stands(pretrained, tmp_path, capsys):
    words = ["--config", str(pretrained / "config.yaml"), "--out", str(tmp_path / "again")]
    assert main(["fit", *words]) == 0
    command = capsys.readouterr().err.rpartition("Next: xrayssl ")[2].split()
    assert command[:3] == ["fit", "--config", "finetune_shoulder"]
    assert main([*command, *FAST, "--out", str(tmp_path / "next")]) == 0


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_a_stage_without_labels_is_refused_and_told_how_to_get_them(verb, pretrained, capsys):
    assert main([verb, "--run", str(pretrained)]) == 2
    assert (said := capsys.readouterr().err).startswith(
        f"xrayssl: RotationProxy learns without labels and has nothing to {verb}."
    )
    assert f"xrayssl fit --config finetune_shoulder --model.init_from {pretrained}" in said
    assert not (pretrained / verb).exists()


def test_a_stage_without_labels_is_validated_by_its_loss(pretrained, capsys):
    assert main(["validate", "--run", str(pretrained)]) == 0
    assert "val/loss" in capsys.readouterr().err
    figures = json.loads((pretrained / "validate" / "metrics.json").read_text())
    assert figures["metrics"]["val/loss"]["value"] > 0
