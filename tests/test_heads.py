import re

import pytest
import torch

from xrayssl import handoff
from xrayssl.errors import UserError
from xrayssl.heads import AttentivePooling, LinearHead, inherit
from xrayssl.methods import Finetune, RotationProxy

NAMES = ["a", "b", "c"]


def test_the_default_head_is_the_mean_and_one_linear_layer():
    head, grid = LinearHead(8, 3), torch.randn(2, 8, 4, 5)
    assert torch.allclose(head(grid), head.linear(grid.flatten(2).mean(dim=2)))
    assert set(head.state_dict()) == {"linear.weight", "linear.bias"}


def test_a_hidden_layer_stands_between_pooling_and_logits():
    head, grid = LinearHead(8, 3, hidden=16), torch.randn(2, 8, 4, 5)
    hidden = torch.nn.functional.gelu(head.hidden[0](grid.mean(dim=(2, 3))))
    assert hidden.shape == (2, 16)
    assert torch.allclose(head(grid), head.linear(hidden))
    with pytest.raises(UserError, match="head_hidden is a width of 1 or more, not 0"):
        LinearHead(8, 3, hidden=0)


@pytest.mark.parametrize("width", [128, 192, 320, 7])
def test_attention_over_the_grid_is_torchs_with_one_query(width):
    torch.manual_seed(0)
    pool, grid = AttentivePooling(width), torch.randn(3, width, 2, 5)
    theirs = torch.nn.MultiheadAttention(width, pool.heads, batch_first=True)
    eye = torch.eye(width)
    theirs.load_state_dict({
        "in_proj_weight": torch.cat([eye, pool.key_value.weight]),
        "in_proj_bias": torch.cat([torch.zeros(width), pool.key_value.bias]),
        "out_proj.weight": pool.join.weight, "out_proj.bias": pool.join.bias,
    })  # fmt: skip
    places = pool.norm(grid.flatten(2).transpose(1, 2))
    expected = theirs(pool.query.expand(3, 1, width), places, places)[0][:, 0]
    assert torch.allclose(pool(grid), expected, atol=1e-5)


def test_attention_does_not_care_where_a_place_lies_but_what_it_holds():
    pool, grid = AttentivePooling(64), torch.randn(2, 64, 3, 3)
    assert torch.allclose(pool(grid), pool(grid.flip(2, 3)), atol=1e-6)
    assert not torch.allclose(pool(grid), pool(grid.roll(1, dims=1)), atol=1e-3)


@pytest.mark.parametrize("backbone", ["resnet18", "test_vit"])
@pytest.mark.parametrize("options", [{"pooling": "attentive"}, {"head_hidden": 12}])
def test_every_head_stands_on_cnn_and_vit(backbone, options):
    method = Finetune(NAMES, "multilabel", backbone=backbone, img_size=64, **options)
    logits = method(torch.randn(2, 1, 64, 64))
    logits.sum().backward()
    assert logits.shape == (2, 3)
    assert all(value.grad is not None for value in method.head.parameters())


def saved(folder, classes=NAMES, **options):
    method = Finetune(list(classes), **{"task": "multilabel", **options}, backbone="test_vit", img_size=32)
    content = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(content)
    torch.save(content, folder / "best.ckpt")
    return method


def started(folder, classes=NAMES, task="multilabel", **options):
    torch.manual_seed(9)
    method = Finetune(list(classes), task, backbone="test_vit", img_size=32, init_from=str(folder), **options)
    method.start()
    return method


@pytest.mark.parametrize("options", [{}, {"pooling": "attentive", "head_hidden": 8}, {"mode": "linear"}])
def test_a_head_goes_on_with_its_rows_in_the_order_of_the_names(options, tmp_path):
    source, film = saved(tmp_path, **options), torch.randn(2, 1, 32, 32)
    other = started(tmp_path / "best.ckpt", ["c", "a", "b"], **options)
    assert torch.allclose(other.eval()(film), source.eval()(film)[:, [2, 0, 1]])


@pytest.mark.parametrize(
    ("classes", "options", "reason"),
    [
        (["a", "b", "d"], {}, "names a, b, c; these data have a, b, d"),
        (["a", "b"], {}, "names a, b, c; these data have a, b"),
        (NAMES, {"task": "multiclass"}, "learned a multilabel task, these data pose a multiclass one"),
        (NAMES, {"head_hidden": 8}, r"is built otherwise \(hidden.0.weight\)"),
        (NAMES, {"mode": "linear"}, r"is built otherwise \(norm.running_mean\)"),
    ],
)
def test_another_head_starts_anew_and_the_log_says_why(classes, options, reason, tmp_path, caplog):
    source = saved(tmp_path)
    with caplog.at_level("INFO"):
        other = started(tmp_path / "best.ckpt", classes, **options)
    assert torch.equal(other.backbone.network.cls_token, source.backbone.network.cls_token)
    assert not torch.equal(other.head.linear.weight[:2, :8], source.head.linear.weight[:2, :8])
    assert len([line for line in caplog.messages if "starts anew" in line]) == 1
    assert re.search(reason, caplog.text)


def test_a_fine_tuned_backbone_alone_says_that_its_head_is_elsewhere(tmp_path):
    method = saved(tmp_path)
    handoff.save(method.backbone, tmp_path / handoff.FILE, method="Finetune", parents=[])
    assert "holds a backbone alone" in inherit(method.head, str(tmp_path), NAMES, "multilabel")
    assert "holds a backbone alone" in inherit(method.head, str(tmp_path / handoff.FILE), NAMES, "multilabel")


def test_a_pretrained_backbone_has_no_head_to_speak_of(tmp_path):
    method, content = RotationProxy(backbone="test_vit", img_size=32), {}
    content["state_dict"] = method.state_dict()
    method.on_save_checkpoint(content)
    torch.save(content, tmp_path / "last.ckpt")
    handoff.save(method.backbone, tmp_path / handoff.FILE, method="RotationProxy", parents=[])
    head = Finetune(NAMES, "multilabel", backbone="test_vit", img_size=32).head
    assert [inherit(head, str(path), NAMES, "multilabel") for path in (tmp_path, tmp_path / "last.ckpt")] == ["", ""]
    assert [inherit(head, origin, NAMES, "multilabel") for origin in (None, "timm")] == ["", ""]
