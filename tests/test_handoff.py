import pytest
import torch
from lightning.pytorch import Trainer

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.methods import Finetune, RotationProxy


def quiet(folder, **kwargs):
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Trainer(default_root_dir=folder, **{**options, **kwargs})


def test_the_next_stage_starts_bitwise_equal_and_knows_where_it_comes_from(tmp_path):
    source = Backbone("resnet18", 32, mean=0.3, std=0.1)
    path = handoff.save(source, tmp_path / "backbone.safetensors", method="RotationProxy", parents=[{"sha256": "x"}])
    method = Finetune(classes=["a"], task="multilabel", backbone="resnet18", img_size=32, init_from=str(path))
    method.start()
    pairs = zip(source.state_dict().values(), method.backbone.state_dict().values(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert method.backbone.mean.item() == pytest.approx(0.3)
    assert [parent["sha256"] for parent in method.parents] == ["x", handoff.sha256(path)]


def test_a_resnet_does_not_start_a_vit(tmp_path):
    path = handoff.save(Backbone("resnet18", 32), tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match="holds a resnet18, but the model is a vit_tiny_patch16_224") as caught:
        handoff.load(Backbone("vit_tiny_patch16_224", 32), path)
    assert len(caught.value.messages) == 1


def test_missing_foreign_and_reshaped_tensors_are_all_named(tmp_path):
    backbone = Backbone("resnet18", 32)
    del backbone.network.layer4
    backbone.network.extra = torch.nn.Linear(2, 2)
    backbone.network.conv1 = torch.nn.Conv2d(2, 64, 7, bias=False)
    path = handoff.save(backbone, tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match=r"lacks 30 of .*extra.*another shape, such as 'conv1"):
        handoff.load(Backbone("resnet18", 32), path)


@pytest.mark.parametrize("name", ["backbone.safetensors", "last.ckpt"])
def test_a_truncated_file_is_refused_by_name(tmp_path, name):
    whole = handoff.save(Backbone("resnet18", 32), tmp_path / "whole.safetensors").read_bytes()
    path = tmp_path / name
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=name):
        handoff.load(Backbone("resnet18", 32), path)


def test_a_run_directory_and_a_checkpoint_serve_as_well(tmp_path, shoulder):
    method = RotationProxy(backbone="resnet18", img_size=32)
    trainer = quiet(tmp_path, max_steps=1, limit_val_batches=0)
    trainer.fit(method, datamodule=shoulder)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    handoff.save(method.backbone, tmp_path / handoff.FILE, method="RotationProxy")
    for source in (tmp_path, tmp_path / "last.ckpt"):
        backbone = Backbone("resnet18", 32)
        report, weights = handoff.load(backbone, source)
        assert torch.equal(backbone.network.conv1.weight, method.backbone.network.conv1.weight)
        assert weights.metadata["method"] == "RotationProxy"
        assert "0 missing" in str(report)


def test_a_description_says_what_is_inside(tmp_path):
    path = handoff.save(Backbone("resnet18", 32), tmp_path / "backbone.safetensors", method="RotationProxy")
    facts = handoff.describe(path)
    assert facts["architecture"] == "resnet18"
    assert facts["parameters"] == sum(value.numel() for value in Backbone("resnet18", 32).network.state_dict().values())


def test_a_file_with_code_in_it_is_refused(tmp_path):
    torch.save({"state_dict": {}, "code": quiet}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil\.ckpt"):
        handoff.read(tmp_path / "evil.ckpt")
