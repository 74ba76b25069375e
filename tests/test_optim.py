import math

import pytest
import torch
from lightning.pytorch import Trainer

from xrayssl.backbone import Backbone
from xrayssl.errors import UserError
from xrayssl.methods import Finetune
from xrayssl.optim import Optim, effective_batch, warmup_cosine


def rates(layer_decay, backbone="vit_tiny_patch16_224", **kwargs):
    method = Finetune(classes=["a", "b"], task="multiclass", backbone=backbone, img_size=32)
    optim = Optim(lr=1.0, warmup_epochs=0, layer_decay=layer_decay, **kwargs)
    optimizer, _ = optim.build(method, method.backbone, 1, 10, 1)
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }, method


def test_the_first_layer_of_a_vit_learns_at_the_thirteenth_power_of_the_decay():
    found, _ = rates(0.55, min_layer_scale=0.0)
    assert found["backbone.network.patch_embed.proj.weight"][0] == pytest.approx(0.55**13)
    assert found["backbone.network.blocks.11.mlp.fc1.weight"][0] == pytest.approx(0.55)
    assert found["head.linear.weight"][0] == 1.0


def test_a_floor_keeps_the_first_layers_of_a_deep_cnn_learning():
    found, _ = rates(0.55, "resnet18", min_layer_scale=0.01)
    assert min(rate for rate, _ in found.values()) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("backbone", "stem", "last"),
    [("densenet121", "features.conv0.weight", "features.norm5.weight"),
     ("resnet50", "conv1.weight", "layer4.2.conv3.weight"),
     ("vit_tiny_patch16_224", "patch_embed.proj.weight", "blocks.11.mlp.fc2.weight")],
)  # fmt: skip
def test_rates_rise_from_the_stem_to_the_head_in_every_network(backbone, stem, last):
    found, method = rates(0.55, backbone, min_layer_scale=0.01)
    order = [found[f"backbone.network.{name}"][0] for name in (stem, last)] + [found["head.linear.weight"][0]]
    assert order[0] < order[1] <= 0.55 and order[2] == 1.0
    assert min(rate for rate, _ in found.values()) == pytest.approx(max(0.01, order[0]))
    assert len({rate for rate, _ in found.values()}) > 5
    assert set(found) == {name for name, _ in method.named_parameters()}


def test_without_a_floor_the_stem_of_a_densenet_would_stand_still():
    free, kept = (rates(0.55, "densenet121", min_layer_scale=floor)[0] for floor in (0.0, 1e-4))
    stem = "backbone.network.features.conv0.weight"
    assert free[stem][0] < 1e-12 and kept[stem][0] == pytest.approx(1e-4)


def test_a_group_says_the_scale_of_its_rate_so_that_a_finders_schedule_can_keep_it():
    method = Finetune(classes=["a"], task="multilabel", backbone="test_vit", img_size=32)
    optimizer, _ = Optim(lr=0.5, layer_decay=0.5, warmup_epochs=0).build(method, method.backbone, 1, 10, 1)
    assert all(group["lr"] == pytest.approx(0.5 * group.get("lr_scale", 1.0)) for group in optimizer.param_groups)
    assert min(group.get("lr_scale", 1.0) for group in optimizer.param_groups) < 0.2


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_a_backbone_that_rests_at_first_has_no_rate_then_warms_up_and_joins_the_schedule(layer_decay):
    method = Finetune(classes=["a"], task="multilabel", backbone="test_vit", img_size=32)
    optim = Optim(lr=1.0, warmup_epochs=1, layer_decay=layer_decay)
    _, schedule = optim.build(method, method.backbone, 1, 50, 5, unfreeze_after=2)
    below, head = schedule.lr_lambdas[0], schedule.lr_lambdas[-1]
    assert [below(step) for step in range(10)] == [0.0] * 10
    assert [below(step) / head(step) for step in (10, 12, 14, 30)] == pytest.approx([0.2, 0.6, 1.0, 1.0])
    assert head(0) == pytest.approx(0.2)
    parameters = [id(p) for group in schedule.optimizer.param_groups for p in group["params"]]
    assert sorted(parameters) == sorted(id(p) for p in method.parameters())


@pytest.mark.parametrize("layer_decay", [None, 0.75])
def test_every_trainable_parameter_is_in_exactly_one_group(layer_decay):
    found, method = rates(layer_decay)
    assert set(found) == {name for name, parameter in method.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("layer_decay", [None, 0.75])
def test_biases_norms_and_positions_do_not_decay(layer_decay):
    found, method = rates(layer_decay)
    shapes = dict(method.named_parameters())
    exempt = {name for name, (_, decay) in found.items() if decay == 0}
    assert exempt == {n for n in found if shapes[n].ndim == 1 or n.endswith(("pos_embed", "cls_token"))}


def test_the_schedule_warms_up_and_ends_at_its_floor():
    factors = [warmup_cosine(step, 5, 105, 0.1) for step in range(106)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[55] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert factors[105] == pytest.approx(0.1)


def test_the_rate_scales_with_the_batch_only_where_a_reference_is_given():
    assert Optim(lr=1e-3, reference_batch=256).peak(1024) == pytest.approx(4e-3)
    assert Optim(lr=1e-3).peak(1024) == 1e-3


def test_accumulated_batches_enter_the_rate(tmp_path, shoulder):
    options = {"backbone": "test_vit", "img_size": 32, "optim": Optim(lr=1e-3, reference_batch=256, warmup_epochs=0)}
    method = Finetune(shoulder.classes, shoulder.task, **options)
    trainer = Trainer(default_root_dir=tmp_path, max_epochs=1, accumulate_grad_batches=3, limit_val_batches=0,
                      logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
                      enable_checkpointing=False)  # fmt: skip
    trainer.fit(method, datamodule=shoulder)
    assert effective_batch(trainer) == 12  # four films a batch
    assert trainer.optimizers[0].param_groups[-1]["initial_lr"] == pytest.approx(1e-3 * 12 / 256)


def test_frozen_parameters_are_left_out():
    method = Finetune(classes=["a"], task="multilabel", mode="linear", backbone="resnet18", img_size=32)
    optimizer, _ = Optim(layer_decay=None).build(method, method.backbone, 1, 1, 1)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    assert isinstance(optimizer, torch.optim.AdamW)


def test_every_number_outside_its_range_is_named_at_once():
    with pytest.raises(UserError) as caught:
        Optim(lr=0, weight_decay=-1, layer_decay=2, min_layer_scale=2, betas=(0.9, 1.0))
    assert len(caught.value.messages) == 5


def test_gradients_can_be_clipped_in_mixed_precision():
    from lightning.pytorch.plugins.precision import MixedPrecision

    backbone = Backbone("resnet18", 32)
    optimizer, _ = Optim().build(backbone, backbone, 8, 10, 5)
    for parameter in backbone.parameters():
        parameter.grad = torch.ones_like(parameter)
    MixedPrecision("bf16-mixed", "cpu").clip_gradients(optimizer, 1.0)
    assert torch.nn.utils.get_total_norm([p.grad for p in backbone.parameters()]) < 1.001
