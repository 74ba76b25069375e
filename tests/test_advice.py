"""What is suggested works."""

import json

import pytest
import timm
import yaml
from phantoms import small

from xrayssl import advice, recipes
from xrayssl.backbone import Backbone
from xrayssl.cli import main

SAME = {"model.backbone": "vit_small_patch16_224", "data.img_size": 224}


@pytest.mark.parametrize("title", ["mae_shoulder", "rotation_shoulder", "mine", None])
def test_pretraining_on_shoulders_leads_to_the_shoulder(title, tmp_path):
    command = f"xrayssl fit --config finetune_shoulder --model.init_from {tmp_path}"
    assert advice.finetune(tmp_path, title, SAME, {"phantom": {}}, "shoulder") == command


@pytest.mark.parametrize("title", ["mae_chest", "rotation_chest", "mine"])
def test_pretraining_on_chests_leads_to_the_chest_or_to_the_shoulder(title, tmp_path):
    first, second = advice.finetune(tmp_path, title, SAME, {"phantom": {}}, "chest").splitlines()
    assert first == f"xrayssl fit --config finetune_chest --model.init_from {tmp_path}"
    assert second == f"or, for films of the shoulder: {first.replace('finetune_chest', 'finetune_shoulder')}"


@pytest.mark.parametrize(("network", "takes"), [("densenet121", False), ("test_vit", True), ("test_resnet", True)])
def test_a_network_without_stochastic_depth_demands_none(network, takes, tmp_path):
    demands = advice.demands(timm.create_model(network, num_classes=0))
    assert demands == ({} if takes else {"model.drop_path": 0})
    told = advice.finetune(tmp_path, "spark_chest", {"model.backbone": network, **demands}, {}).splitlines()
    assert ["--model.drop_path 0" in line for line in told] == [not takes] * 2


@pytest.mark.parametrize("network", ["resnet50", "densenet121"])
def test_a_cnn_is_sent_to_its_own_recipe(network, tmp_path):
    settings = {"model.backbone": network, **advice.demands(timm.create_model(network, num_classes=0))}
    first, second = advice.finetune(tmp_path, "spark_chest", settings, {"phantom": {}}, "chest", cnn=True).splitlines()
    other = f" --model.backbone {network}" if network != "densenet121" else ""
    assert first == f"xrayssl fit --config finetune_chest_cnn --model.init_from {tmp_path}{other}"
    assert "--config finetune_shoulder_cnn" in second


def test_codes_lead_to_a_masked_autoencoder_that_predicts_them_on_the_same_films(tmp_path):
    command = advice.predict_codes(tmp_path, {**SAME, "data.img_size": 64}, {"nih": str(tmp_path / "nih")})
    options = f"--model.tokenizer {tmp_path} --data.img_size 64 --data.corpora.nih {tmp_path}/nih"
    assert command == f"xrayssl fit --config mae_chest_tokens {options}"


def test_the_demo_leads_to_the_demos_second_stage(tmp_path):
    settings = {"model.backbone": "vit_tiny_patch16_224", "data.img_size": 128}
    command = advice.finetune(tmp_path, "demo_mae_chest", settings, {"phantom": {}})
    assert command == f"xrayssl fit --config demo_finetune_shoulder --model.init_from {tmp_path}"


@pytest.mark.parametrize(("tokenizer", "reader"), [("vit_tiny_patch16_224", "vit_small_patch16_224"),
                                                   ("resnet18", "vit_small_patch32_224"),
                                                   ("vit_small_patch32_224", "vit_small_patch32_224")])  # fmt: skip
def test_who_predicts_codes_has_a_patch_for_each(tokenizer, reader):
    grid = Backbone(tokenizer, 64).grid_size
    assert advice.reader(Backbone(tokenizer, 64)) == reader and Backbone(reader, 64).grid_size == grid


def test_what_differs_from_the_configuration_is_told(tmp_path):
    other = {"model.backbone": "resnet50", "data.img_size": [64, 48]}
    command = advice.finetune(tmp_path / "a b", "mae_shoulder", other, {"nih": "/films"}, "shoulder")
    assert f"--model.init_from '{tmp_path}/a b' --model.backbone resnet50 --data.img_size '[64,48]'" in command
    assert command.endswith("--data.corpora.NAME PATH")


def test_every_suggested_configuration_is_packaged():
    cnns = {name + advice.CNN for name in advice.GOALS.values()}
    assert {*advice.GOALS.values(), *cnns, advice.DEMO, advice.TOKENS} <= set(recipes.packaged())


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


def told(capsys, *words):
    """The commands that a fit ends with."""
    assert main(["fit", *map(str, words)]) == 0
    lines = capsys.readouterr().err.rpartition("Next: ")[2].splitlines()
    return [line.partition("xrayssl ")[2].split() for line in lines if "xrayssl fit" in line]


def test_the_commands_after_pretraining_run_as_they_stand(pretrained, tmp_path, capsys):
    first, second = told(capsys, "--config", pretrained / "config.yaml", "--out", tmp_path / "again")
    assert first[:3] == ["fit", "--config", "finetune_chest"]
    assert second[:3] == ["fit", "--config", "finetune_shoulder"]
    assert main([*second, *FAST, "--out", str(tmp_path / "next")]) == 0


def test_the_command_after_a_network_without_stochastic_depth_runs_as_it_stands(pretrained, tmp_path, capsys):
    words = ["--config", pretrained / "config.yaml", "--model.backbone", "densenet121", "--data.img_size", "32"]
    _, second = told(capsys, *words, "--out", tmp_path / "dense")
    assert second[:3] == ["fit", "--config", "finetune_shoulder_cnn"]  # whose drop path is 0
    assert main([*second, *FAST, "--out", str(tmp_path / "next")]) == 0


def test_the_command_after_a_discrete_autoencoder_runs_as_it_stands(pretrained, tmp_path, capsys):
    codes = ["--model", "DVAE", "--model.codes", "8", "--model.code_width", "8", "--model.optim.warmup_epochs", "0"]
    words = ["--config", pretrained / "config.yaml", *codes, "--model.backbone", "test_vit"]
    (command,) = told(capsys, *words, "--out", tmp_path / "codes")
    assert command[:5] == ["fit", "--config", "mae_chest_tokens", "--model.tokenizer", str(tmp_path / "codes")]
    small = ["--model.backbone", "vit_tiny_patch16_224", "--model.decoder_width", "32", "--model.decoder_heads", "2"]
    assert main([*command, *small, *FAST, "--out", str(tmp_path / "next")]) == 0


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_a_stage_without_labels_is_refused_and_told_how_to_get_them(verb, pretrained, capsys):
    assert main([verb, "--run", str(pretrained)]) == 2
    assert (said := capsys.readouterr().err).startswith(
        f"xrayssl: RotationProxy learns without labels and has nothing to {verb}."
    )
    for body in ("chest", "shoulder"):
        assert f"xrayssl fit --config finetune_{body} --model.init_from {pretrained}" in said
    assert said.count("\n") == 1
    assert not (pretrained / verb).exists()


def test_a_stage_without_labels_is_validated_by_its_loss(pretrained, capsys):
    assert main(["validate", "--run", str(pretrained)]) == 0
    assert "val/loss" in capsys.readouterr().err
    figures = json.loads((pretrained / "validate" / "metrics.json").read_text())
    assert figures["metrics"]["val/loss"]["value"] > 0
