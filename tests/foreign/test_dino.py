import pytest
import torch
from layouts import args, colours, draw, grid, linear, optimizer, same, under, vit, vit_grid, written

from xrayssl import handoff
from xrayssl.backbone import Backbone
from xrayssl.errors import UserError

IMAGE = colours()


def second(registers):
    """A ViT-S of DINOv2 at two by two patches."""
    tensors = vit(width=384, patch=14)
    scales = {f"blocks.{n}.ls{i}.gamma": draw(384, mean=0.5) for n in range(12) for i in (1, 2)}
    tokens = {"register_tokens": draw(1, registers, 384, scale=0.5)} if registers else {}
    return {**tensors, **scales, **tokens, "mask_token": draw(1, 384)}


def test_the_teacher_of_dino_is_taken_and_not_the_student(tmp_path):
    tensors = vit()
    student = {name: torch.zeros_like(value) for name, value in tensors.items()}
    head = {**linear("head.mlp.0", 192, 64), "head.last_layer.weight_g": draw(64, 1)}
    content = {
        "student": under("module.", under("backbone.", student) | head),
        "teacher": under("backbone.", tensors) | head,
        "optimizer": optimizer(), "epoch": 100, "args": args(arch="vit_tiny"), "dino_loss": {"center": draw(1, 64)},
    }  # fmt: skip
    ours, report = grid(content, tmp_path, "vit_tiny_patch16_224", IMAGE)
    assert same(ours, vit_grid(tensors, IMAGE))
    assert "layout: DINO, teacher" in report and "student: 153" in report and "center" not in report.split("(")[0]


def test_a_released_dino_vit_has_plain_names(tmp_path):
    tensors = vit()
    ours, report = grid(tensors, tmp_path, "vit_tiny_patch16_224", IMAGE)
    assert same(ours, vit_grid(tensors, IMAGE))
    assert "0 of the file's other tensors left out." in report and "ImageNet's" in report


@pytest.mark.parametrize(("registers", "name"), [(0, "vit_small_patch14_dinov2"), (4, "vit_small_patch14_reg4_dinov2")])
def test_dinov2_keeps_its_layer_scale_and_its_registers(tmp_path, registers, name):
    tensors, image = second(registers), colours(size=28)
    ours, report = grid(tensors, tmp_path, name, image)
    assert same(ours, vit_grid(tensors, image, heads=6))
    assert "layout: DINOv2" in report and "mask_token: 1" in report
    assert handoff.describe(tmp_path / "weights")["start_with"] == f"--model.backbone {name}"


def test_the_chunked_blocks_of_a_dinov2_teacher_are_counted_through(tmp_path):
    tensors, image = second(0), colours(size=28)
    chunked = {name: value for name, value in tensors.items() if not name.startswith("blocks.")}
    for name, value in tensors.items():
        if name.startswith("blocks."):
            chunked[f"blocks.{int(name.split('.')[1]) // 3}.{name.removeprefix('blocks.')}"] = value
    content = {"teacher": under("backbone.", chunked) | {"dino_head.last_layer.weight": draw(4, 4)}}
    ours, report = grid(content, tmp_path, "vit_small_patch14_dinov2", image)
    assert same(ours, vit_grid(tensors, image, heads=6))
    assert "layout: DINOv2, teacher" in report


def test_registers_and_layer_scale_are_never_dropped_in_silence(tmp_path):
    path = written(tmp_path, second(4))
    with pytest.raises(UserError, match=r"does not know.*set --model\.backbone vit_small_patch14_reg4_dinov2"):
        handoff.load(Backbone("vit_small_patch16_224", 32), path)
