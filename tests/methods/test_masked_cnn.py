from functools import partial
from types import SimpleNamespace

import pytest
import timm
import torch
from lightning.pytorch import Callback, Trainer
from phantoms import small
from torch import nn

from xrayssl import handoff
from xrayssl.batchnorm import pool_batch_norms, recalibrate
from xrayssl.callbacks.reconstructions import reconstruction_sheet
from xrayssl.data import ShoulderXrayDataModule
from xrayssl.data.augment import Augment
from xrayssl.data.films import collate
from xrayssl.errors import UserError
from xrayssl.masking import Masking
from xrayssl.methods import MaskedCNNPretrain
from xrayssl.optim import Optim

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}  # fmt: skip
UNET = {"hiding": "zeros", "cell": 16, "finest": 2, "target": "pixels", "loss_on": "all"}


def tiny(backbone="resnet18", ratio=0.5, side=64, **kwargs):
    torch.manual_seed(0)
    return MaskedCNNPretrain(Masking(ratio=ratio), backbone=backbone, img_size=side, decoder_width=128, **kwargs)


def cells_of(image, cell):
    """Films cut into cells, one by one: (row, column, pixels)."""
    return [(r, c, image[:, r * cell : r * cell + cell, c * cell : c * cell + cell].flatten())
            for r in range(image.shape[1] // cell) for c in range(image.shape[2] // cell)]  # fmt: skip


def slow_loss(method, image, visible, hidden):
    """The loss film by film and cell by cell."""
    predicted, cell, total = method.predict(image, visible), method.cell[0], []
    for film, guess, numbers in zip(image, predicted, hidden, strict=True):
        pairs = list(zip(cells_of(film, cell), cells_of(guess, cell), strict=True))
        for (row, column, pixels), (_, _, guessed) in pairs:
            if row * method.grid[1] + column not in numbers and not method.all_cells:
                continue
            if type(method.target).__name__ == "NormPixels":
                pixels = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
            total.append((guessed - pixels).square().mean())
    return torch.stack(total).mean()


@pytest.mark.parametrize("options", [{}, {"loss_on": "all"}, {"target": "pixels"}, {"cell": 64, "side": 128}, UNET])
def test_the_loss_is_that_of_a_slow_recomputation(options):
    method, side = tiny(**options).eval(), options.get("side", 64)
    image = torch.randn(2, 1, side, side)
    torch.manual_seed(1)
    loss = method.losses({"image": image})["loss"]
    torch.manual_seed(1)
    drawn = method.masking.draw(method.grid, 2)
    assert loss.item() == pytest.approx(slow_loss(method, image, *drawn).item(), rel=1e-5)


def test_the_unet_sees_zeros_in_place_of_hidden_cells():
    method, seen = tiny(**UNET), []
    method.backbone.network.conv1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    image = torch.randn(2, 1, 64, 64) + 9
    method.predict(image, torch.tensor([[0], [5]]))
    expected = torch.zeros_like(image)
    expected[0, :, :16, :16], expected[1, :, 16:32, 16:32] = image[0, :, :16, :16], image[1, :, 16:32, 16:32]
    assert torch.equal(seen[0], expected)


@pytest.mark.parametrize("options", [{}, UNET])
def test_every_weight_on_the_way_learns(options):
    method = tiny(**options)
    method.losses({"image": torch.randn(4, 1, 64, 64)})["loss"].backward()
    assert [name for name, parameter in method.named_parameters() if parameter.grad is None] == []


def films(count=8, side=64):
    data = ShoulderXrayDataModule(small("shoulder"), img_size=side, batch_size=4, num_workers=0)
    dataset = data.val_dataloader().dataset
    return collate([dataset[(0, row)] for row in range(count)]), data


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto"])
def test_eight_films_are_learned_by_heart(backbone):  # that and resuming with zeros: test_learning
    method, (batch, _) = tiny(backbone, target="pixels").train(), films()
    optimizer = torch.optim.AdamW(method.parameters(), 5e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = method._losses(batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < sum(losses[:3]) / 2


def fit(folder, stop=None, ckpt_path=None, **options):
    torch.manual_seed(5)
    method = tiny(optim=Optim(lr=2e-3, warmup_epochs=0), **options)
    trainer = Trainer(default_root_dir=str(folder), max_epochs=2, **QUIET)
    if stop:
        method.on_train_batch_end = lambda *args: _stop(trainer, stop)
    trainer.fit(method, datamodule=films()[1], ckpt_path=ckpt_path)
    return method.state_dict()


def _stop(trainer, step):
    if trainer.global_step == step:
        trainer.save_checkpoint(trainer.default_root_dir + "/cut.ckpt")
        raise InterruptedError


@pytest.mark.parametrize("stop", [2, 3])
def test_straight_and_interrupted_training_give_bitwise_equal_weights(tmp_path, stop):
    straight = fit(tmp_path)
    with pytest.raises(InterruptedError):
        fit(tmp_path, stop=stop)
    resumed = fit(tmp_path, ckpt_path=str(tmp_path / "cut.ckpt"))
    assert [name for name in straight if not torch.equal(straight[name], resumed[name])] == []


def test_resuming_with_other_cells_or_another_target_is_refused(tmp_path):
    with pytest.raises(InterruptedError):
        fit(tmp_path, stop=1)
    with pytest.raises(UserError) as caught:
        fit(tmp_path, ckpt_path=str(tmp_path / "cut.ckpt"), target="pixels", loss_on="all")
    assert [name in str(caught.value.messages) for name in ("model.target", "model.loss_on")] == [True, True]


def agreement(network, image):
    """Correlation of features by running statistics with those by the batch's own, and their ratio of spread."""
    with torch.no_grad():
        kept, fresh = network.eval()(image), network.train()(image)
    both = torch.stack([kept.flatten(), fresh.flatten()])
    return torch.corrcoef(both)[0, 1].item(), (kept.std() / fresh.std()).item()


def test_what_is_handed_off_is_a_plain_network_whose_statistics_fit_whole_films(tmp_path):
    shares = []
    for batches in (0, 16):
        method, data = tiny("densenet121", whole_batches=batches), films()[1]
        data.augment = Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
        data.batch_size = len(data.manifest.rows("train"))  # one batch, so that its statistics are those of all films
        Trainer(default_root_dir=str(tmp_path), max_epochs=3, **QUIET).fit(method, datamodule=data)
        path = handoff.save(method.backbone, tmp_path / "backbone.safetensors")
        plain = timm.create_model("densenet121", num_classes=0, in_chans=1)
        plain.load_state_dict(handoff.read(path).tensors)
        shares.append(agreement(plain, method.backbone.normalize(next(iter(data.train_dataloader()))["image"])))
    (before, _), (after, spread) = shares
    assert before < 0.8
    assert after > 0.85  # the running variance is the unbiased one, which a hundred layers feel
    assert spread == pytest.approx(1, abs=0.1)


def test_averaged_weights_are_handed_off_with_statistics_of_whole_films(tmp_path):
    seen, method = {}, tiny(ema=0.9, optim=Optim(lr=1e-2, warmup_epochs=0))

    class Watch(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            with pl_module.averaged():
                seen.update({name: value.clone() for name, value in pl_module.state_dict().items()})

    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=1, callbacks=[Watch()], **QUIET)
    trainer.fit(method, datamodule=films()[1])
    found = method.state_dict()
    assert all(torch.equal(found[name], seen[name]) for name, _ in method.named_parameters())
    assert not torch.equal(found["backbone.network.bn1.running_mean"], seen["backbone.network.bn1.running_mean"])


def test_a_probe_beside_the_training_sees_the_statistics_that_would_be_handed_off_and_changes_nothing():
    method, image = tiny(), torch.rand(4, 1, 64, 64)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    with method.handed([image]):
        inside = method.backbone.network.bn1.running_mean.clone()
    expected = method.backbone.network.conv1(method.backbone.normalize(image)).mean(dim=(0, 2, 3))
    torch.testing.assert_close(inside, expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
@pytest.mark.filterwarnings("ignore:Grad strides do not match")  # of depthwise kernels, a matter of speed
def test_networks_with_layers_beside_the_way_train_on_two_processes(tmp_path):
    method, data = tiny("convnext_atto"), films(12)[1]
    data.batch_size = 1
    Trainer(default_root_dir=str(tmp_path), max_epochs=1, limit_train_batches=3, devices=2, strategy="ddp_fork",
            **QUIET).fit(method, datamodule=data)  # fmt: skip


def test_recalibrated_statistics_are_the_mean_over_batches_and_nothing_else_changes():
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.5))
    pool_batch_norms(network)
    films = [torch.randn(3, 2, 4, 4) * 2 + shift for shift in (0, 5)]
    recalibrate(network, films)
    assert torch.allclose(network[0].running_mean, torch.stack([film.mean((0, 2, 3)) for film in films]).mean(0))
    assert torch.allclose(network[0].running_var, torch.stack([film.var((0, 2, 3)) for film in films]).mean(0))
    assert (network.training, network[0].training, network[0].momentum) == (True, True, 0.1)


def test_recalibrating_on_no_films_keeps_the_statistics():
    network = nn.Sequential(nn.BatchNorm2d(2))
    pool_batch_norms(network)
    network(torch.randn(3, 2, 4, 4) + 5)
    before = network[0].running_mean.clone()
    recalibrate(network, [])
    assert torch.equal(network[0].running_mean, before)


def test_a_perfect_prediction_reconstructs_the_film():
    method, image = tiny(ratio=0.75, side=128), torch.randn(2, 1, 128, 128)
    cut = image.view(2, 1, 4, 32, 4, 32)
    mean, deviation = cut.mean((3, 5), keepdim=True), (cut.var((3, 5), keepdim=True) + 1e-6).sqrt()
    method.predict = lambda *args: ((cut - mean) / deviation).view(2, 1, 128, 128)
    filled, mask = method.reconstruct(image)
    assert torch.allclose(filled, image, atol=1e-4)
    assert mask.float().mean() == 0.75


@pytest.mark.parametrize("options", [{}, UNET])
def test_visible_cells_pass_through_a_reconstruction_unchanged(options):
    method, image = tiny(**options).eval(), torch.randn(2, 1, 64, 64)
    filled, mask = method.reconstruct(image)
    assert torch.equal(filled[~mask], image[~mask])
    assert not torch.isclose(filled[mask], image[mask]).all()
    assert reconstruction_sheet(method, torch.zeros(2, 1, 64, 64, dtype=torch.uint8)).shape == (4 * 64, 2 * 64)


def test_films_need_not_be_square_and_ratios_may_change():
    method = MaskedCNNPretrain(Masking(ratio=0.3, ratio_end=0.7), backbone="resnet18", img_size=(64, 128))
    assert method.grid == (2, 4)
    counts = []
    method.sparse.hiding, plain = (
        lambda cells: (counts.append(cells.visible_BV.shape[1]), plain(cells))[1],
        method.sparse.hiding,
    )
    for training in (True, False):
        assert method.train(training).losses({"image": torch.randn(2, 1, 64, 128)})["loss"].isfinite()
    assert counts == [6, 2]


def test_under_bfloat16_autocast_the_loss_is_about_the_same():
    method, image = tiny().eval(), torch.randn(4, 1, 64, 64)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(method.losses({"image": image})["loss"].item())
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("more", [{}, UNET])
def test_compiling_changes_no_loss(more, monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    losses = []
    for options in (more, {**more, "compile": True}):
        method = tiny(**options)
        torch.manual_seed(1)
        losses.append(method.losses({"image": torch.randn(2, 1, 64, 64)})["loss"].item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backbone": "vit_tiny_patch16_224"}, "for a ViT take MAEPretrain"),
        ({"side": 112}, r"112 x 112 px cannot be halved.*n x 32 px"),
        ({"cell": 48, "side": 96}, "48 px is no multiple of 32 px"),
        ({"cell": 64, "side": 96}, r"cannot be cut into cells of 64 px.*--data\.img_size"),
        ({"cell": 24, **{k: UNET[k] for k in UNET if k != "cell"}}, "cannot be cut into cells of 24 px"),
    ],
)
def test_cells_and_networks_that_do_not_fit_are_refused_in_a_sentence(options, words):
    with pytest.raises(UserError, match=words):
        tiny(**options)


@pytest.mark.parametrize("options", [{"side": 32}, {"ratio": 0.01}])
def test_a_ratio_that_leaves_nothing_to_see_or_predict_is_refused(options):
    with pytest.raises(UserError, match=r"--model\.masking\.ratio: .*some must be hidden"):
        tiny(**options)


def test_a_decoder_too_narrow_to_be_halved_is_refused():
    with pytest.raises(UserError, match=r"--model\.decoder_width: .*too small to be halved 3 times; set 64 or more"):
        MaskedCNNPretrain(backbone="resnet18", img_size=64, decoder_width=32)


def _gradients(rank, folder, image, draws):
    """One of two processes: the loss of its half, its gradients averaged as DDP does."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    part = slice(2 * rank, 2 * rank + 2)
    result = _one(image[part], tuple(draw[part] for draw in draws))
    for gradient in result.gradients.values():
        torch.distributed.all_reduce(gradient)
        gradient /= 2
    torch.save(vars(result), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _one(image, draws):
    method = tiny().double().train()
    method._draw = lambda image: draws
    loss = method.losses({"image": image})["loss"]
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in method.named_parameters()}
    return SimpleNamespace(loss=loss.item(), gradients=gradients, buffers=dict(method.named_buffers()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_two_processes_train_as_one(tmp_path):
    image, draws = torch.randn(4, 1, 64, 64, dtype=torch.float64), Masking(ratio=0.5).draw((2, 2), 4)
    torch.multiprocessing.start_processes(_gradients, (str(tmp_path), image, draws), nprocs=2, start_method="fork")
    parts, whole = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)], _one(image, draws)
    assert (parts[0]["loss"] + parts[1]["loss"]) / 2 == pytest.approx(whole.loss, rel=1e-4)
    for part in parts:
        for ours, theirs in ((whole.gradients, part["gradients"]), (whole.buffers, part["buffers"])):
            for name, value in ours.items():
                scale = value.abs().max() if value.is_floating_point() else 1
                assert torch.allclose(value, theirs[name], rtol=1e-3, atol=1e-3 * float(scale)), name
