import pytest
import torch
from lightning.pytorch import Trainer

from xrayssl.errors import UserError
from xrayssl.masking import Masking
from xrayssl.methods import MAEPretrain, MaskedCNNPretrain, RotationProxy
from xrayssl.optim import Optim

DECODER = {"decoder_width": 32, "decoder_depth": 2, "decoder_heads": 2, "masking": Masking(0.5)}


def method(kind, again, **options):
    torch.manual_seed(1)
    options = {"img_size": 32, "optim": Optim(warmup_epochs=0), **options}
    return kind(grad_checkpointing=again, **options)


def stepped(model, image):
    """Loss and gradients of one step, and how many numbers were held for the backward pass."""
    held = []

    def pack(tensor):
        held.append(tensor.numel())
        return tensor

    torch.manual_seed(2)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.train().losses({"image": image})["loss"]
    loss.backward()
    return loss, [p.grad for p in model.parameters() if p.grad is not None], sum(held)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (MAEPretrain, {"backbone": "test_vit", "drop_path": 0.3, **DECODER}),
        (MAEPretrain, {"backbone": "test_vit", "decoder": "cross", **DECODER}),
        (MAEPretrain, {"backbone": "test_vit", "encoder_mask_tokens": True, **DECODER}),
        (RotationProxy, {"backbone": "test_vit", "drop_path": 0.3}),
        (RotationProxy, {"backbone": "test_resnet"}),
        (RotationProxy, {"backbone": "densenet121"}),
        (RotationProxy, {"backbone": "convnext_atto"}),
        (MaskedCNNPretrain, {"backbone": "resnet18", "hiding": "zeros", "decoder_width": 128, "img_size": 64}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(map(str, value.values()))[:30],
)
def test_losses_and_gradients_are_the_same_and_less_is_held(kind, options):
    side = options.get("img_size", 32)
    image = torch.randn(4, 1, side, side)
    loss, grads, held = stepped(method(kind, False, **options), image)
    again, grads_again, held_again = stepped(method(kind, True, **options), image)
    torch.testing.assert_close(again, loss, rtol=0, atol=1e-6)
    for one, other in zip(grads, grads_again, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    assert held_again < 0.8 * held


def test_both_decoder_and_encoder_hold_less():
    options, image = {"backbone": "test_vit", **DECODER}, torch.randn(4, 1, 32, 32)
    both = stepped(method(MAEPretrain, True, **options), image)[2]
    model = method(MAEPretrain, True, **options)
    model.backbone.network.set_grad_checkpointing(False)
    decoder = stepped(model, image)[2]
    assert both < decoder < stepped(method(MAEPretrain, False, **options), image)[2]


def test_running_statistics_move_once_a_step(tmp_path, chest):
    states = []
    for again in (False, True):
        model = method(RotationProxy, again, backbone="test_resnet")
        Trainer(default_root_dir=tmp_path, max_epochs=1, limit_train_batches=2, limit_val_batches=0, logger=False,
                enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                accelerator="cpu").fit(model, datamodule=chest)  # fmt: skip
        states.append({k: v for k, v in model.state_dict().items() if "running" in k or "tracked" in k})
    assert any("running_mean" in name for name in states[0])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)


def test_a_second_fit_moves_the_statistics_as_the_first_did(tmp_path, chest):
    model = method(RotationProxy, True, backbone="test_resnet")
    for _ in range(2):
        model.setup("fit")
        before = model.backbone.network.bn1.running_mean.clone()
        loss = model.train().losses({"image": torch.randn(4, 1, 32, 32)})["loss"]
        loss.backward()
        assert not torch.equal(before, model.backbone.network.bn1.running_mean)
    assert {norm.momentum for norm in model.modules() if isinstance(norm, torch.nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize("backbone", ["vgg11", "inception_v3"])
def test_a_network_that_cannot_is_refused(backbone):
    with pytest.raises(UserError, match=f"{backbone} has no gradient checkpointing"):
        RotationProxy(backbone=backbone, img_size=96, grad_checkpointing=True)


def test_sparse_hiding_is_refused():
    with pytest.raises(UserError, match="Sparse hiding has no gradient checkpointing"):
        MaskedCNNPretrain(backbone="resnet18", img_size=64, grad_checkpointing=True)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch 2.14 while it compiles
def test_a_compiled_network_recomputes_too():
    torch.compiler.reset()
    model = method(MAEPretrain, True, backbone="test_vit", **DECODER)
    image = torch.randn(4, 1, 32, 32)
    expected = stepped(method(MAEPretrain, False, backbone="test_vit", **DECODER), image)[0]
    model.decoder.compile(backend="aot_eager")
    torch.testing.assert_close(stepped(model, image)[0], expected, rtol=0, atol=1e-5)
