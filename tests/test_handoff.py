import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from xrayssl import cli, handoff
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


def test_a_checkpoint_that_test_films_selected_is_a_marked_parent_and_the_load_says_so(tmp_path, shoulder):
    source = Finetune(shoulder.classes, shoulder.task, backbone="test_resnet", img_size=32, select_on="test")
    quiet(tmp_path, max_steps=1, limit_val_batches=1, limit_test_batches=1).fit(source, datamodule=shoulder)
    source.trainer.save_checkpoint(tmp_path / "best.ckpt")
    report, weights = handoff.load(Backbone("test_resnet", 32), tmp_path / "best.ckpt")
    assert weights.lineage()[-1]["selected_on"] == "test"
    assert "selected on test films (--model.select_on test)" in str(report)


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


@pytest.mark.parametrize("size", [(48, 48), (32, 64)])
def test_another_input_size_resamples_the_positions_of_our_own_vit_and_nothing_else(tmp_path, size):
    source = Backbone("vit_tiny_patch16_224", (64, 32))
    path = handoff.save(source, tmp_path / "backbone.safetensors")
    backbone = Backbone("vit_tiny_patch16_224", size)
    report, _ = handoff.load(backbone, path)
    ours, theirs = backbone.network.state_dict(), source.network.state_dict()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == ["pos_embed"]
    cells = (size[0] // 16, size[1] // 16)
    assert torch.equal(ours["pos_embed"], resample_abs_pos_embed(theirs["pos_embed"], cells, (4, 2)))
    assert f"positions resampled from 4 x 2 to {cells[0]} x {cells[1]} patches" in str(report)


def test_the_same_input_size_leaves_everything_as_it_is(tmp_path):
    source, backbone = Backbone("vit_tiny_patch16_224", (64, 32)), Backbone("vit_tiny_patch16_224", (64, 32))
    report, _ = handoff.load(backbone, handoff.save(source, tmp_path / "backbone.safetensors"))
    assert handoff.fingerprint(backbone) == handoff.fingerprint(source)
    assert report.notes == []


def test_what_has_no_positions_to_resample_is_still_refused_at_another_size(tmp_path):
    path = handoff.save(Backbone("mixer_s32_224", 64), tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match=r"another shape.*trained at 64 x 64 px, so set --data\.img_size to that"):
        handoff.load(Backbone("mixer_s32_224", 32), path)


def test_more_channels_of_our_own_are_not_folded(tmp_path):
    path = handoff.save(Backbone("resnet18", 32, in_chans=3), tmp_path / "backbone.safetensors")
    with pytest.raises(UserError, match=r"another shape, such as 'conv1\.weight'"):
        handoff.load(Backbone("resnet18", 32), path)


@pytest.mark.parametrize("address", ["https://a.b/c.pth", "s3://bucket/c.pth", "hf-hub:timm/resnet18"])
def test_an_address_is_refused_in_one_sentence_and_nothing_is_fetched(address):
    with pytest.raises(UserError, match="nothing is downloaded") as caught:
        handoff.load(Backbone("resnet18", 32), address)
    assert str(caught.value).count(".\n") == 0 and len(caught.value.messages) == 1


def test_the_kind_of_a_file_is_told_by_its_bytes_and_not_by_its_name(tmp_path):
    path = handoff.save(Backbone("resnet18", 32), tmp_path / "weights.ckpt")
    assert handoff.describe(path)["architecture"] == "resnet18"
    torch.save(Backbone("resnet18", 32).network.state_dict(), tmp_path / "weights.safetensors")
    assert handoff.describe(tmp_path / "weights.safetensors")["architecture"] == "resnet18"


def test_a_file_of_another_program_becomes_the_parent_of_the_next_stage(tmp_path):
    torch.save({"state_dict": Backbone("resnet18", 32).network.state_dict()}, tmp_path / "x.pth")
    _, weights = handoff.load(Backbone("resnet18", 32), tmp_path / "x.pth")
    (parent,) = weights.lineage()
    assert parent == {"method": weights.layout.name, "sha256": handoff.sha256(tmp_path / "x.pth")}


def test_inspect_says_how_to_start_from_a_file_of_another_program(tmp_path, capsys):
    state = {f"module.encoder_q.{name}": v for name, v in Backbone("resnet18", 32).network.state_dict().items()}
    torch.save({"state_dict": {**state, "module.queue": torch.ones(2)}}, tmp_path / "x.pth.tar")
    assert cli.main(["inspect", str(tmp_path / "x.pth.tar")]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["layout"] == "MoCo v2" and said["left_out"] == "queue: 1"
    assert said["start_with"] == "--model.backbone resnet18"


def test_a_fit_starts_from_a_file_of_another_program(tmp_path, shoulder):
    state = Backbone("resnet18", 32, in_chans=3).network.state_dict()
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    method = RotationProxy(backbone="resnet18", img_size=32, init_from=str(tmp_path / "x.pth"))
    method.start()
    assert torch.equal(method.backbone.network.layer4[0].conv1.weight, state["layer4.0.conv1.weight"])
    assert method.backbone.mean.item() == pytest.approx(0.449)


@pytest.mark.parametrize("header", ["[1]", '{"mean": "x"}', '{"std": [0.0]}', '{"std": []}'])
def test_a_forged_header_is_refused_in_a_sentence(tmp_path, header):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "forged.safetensors", metadata={"xrayssl": header})
    with pytest.raises(UserError, match="its header"):
        handoff.read(tmp_path / "forged.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    backbone = Backbone("test_resnet", 32)
    with torch.no_grad():
        next(backbone.network.parameters())[0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        handoff.load(Backbone("test_resnet", 32), handoff.save(backbone, tmp_path / "b.safetensors"))


def test_a_file_of_containers_within_containers_is_refused_in_a_sentence(tmp_path):
    nested = torch.zeros(1)
    for _ in range(300):
        nested = [nested]
    torch.save({"deep": nested}, tmp_path / "deep.pth")
    with pytest.raises(UserError, match="no network that xrayssl knows"):
        handoff.read(tmp_path / "deep.pth")
