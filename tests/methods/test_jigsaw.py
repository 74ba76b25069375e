import pytest
import torch
from lightning.pytorch import Trainer

from xrayssl.data import ChestXrayDataModule
from xrayssl.data.augment import Augment
from xrayssl.errors import UserError
from xrayssl.methods import Jigsaw, RelativePatch
from xrayssl.optim import Optim

NETWORKS = ["resnet18", "vit_tiny_patch16_224"]


def jigsaw(network="resnet18", **kwargs):
    torch.manual_seed(0)
    options = {"permutations": 24, "embedding": 16, "hidden": 32, "img_size": 64, **kwargs}
    return Jigsaw(backbone=network, **options).eval()


@pytest.mark.parametrize("network", NETWORKS)
def test_the_loss_is_that_of_a_slow_recomputation(network):
    method, image, terms = jigsaw(network), torch.randn(3, 1, 64, 64), []
    torch.manual_seed(7)
    found = method.losses({"image": image})
    torch.manual_seed(7)
    tiles_BTCHW, order_B = method.tiles(image), torch.randint(24, (3,))
    for film, order in zip(tiles_BTCHW, order_B, strict=True):
        shuffled = [film[number] for number in method.permutations_KT[order]]  # the pixels, not what becomes of them
        seen = [method.embed(method.backbone(tile[None]).mean(dim=(2, 3))) for tile in shuffled]
        terms.append(-method.head(torch.cat(seen, dim=1))[0].log_softmax(dim=0)[order])
    assert found["loss"].item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-3)


def test_every_tile_passes_the_backbone_once():
    method, seen = jigsaw(), []
    method.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    method.losses({"image": torch.randn(2, 1, 64, 64)})
    assert seen == [(18, 1, 18, 18)]


def test_the_order_cannot_be_told_where_all_tiles_are_alike():
    method = jigsaw(jitter=0)
    tile = torch.randn(1, 1, 21, 21)
    image = torch.nn.functional.pad(tile.repeat(1, 1, 3, 3), (0, 1, 0, 1)).repeat(4, 1, 1, 1)
    method.head[-1].bias.data.zero_()
    losses = [method.losses({"image": image})["loss"].item() for _ in range(20)]  # as many draws of orders
    assert sum(losses) / 20 == pytest.approx(torch.tensor(24.0).log().item(), abs=0.1)


@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_reach_every_weight(network):
    method = jigsaw(network, cells=2, permutations=4).train()
    method.losses({"image": torch.randn(4, 1, 64, 64)})["loss"].backward()
    assert [name for name, weight in method.named_parameters() if weight.grad is None] == []


def test_the_orders_are_in_the_checkpoint_and_come_from_it():
    one, other = jigsaw(), jigsaw(permutation_seed=1)
    assert not torch.equal(one.permutations_KT, other.permutations_KT)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.permutations_KT, other.permutations_KT)


def test_what_makes_the_puzzles_must_not_change_when_a_run_goes_on():
    changed = jigsaw(permutation_seed=1, permutations=25, jitter=1, tile=16)._settings()
    names = {name for name, value in jigsaw()._settings().items() if changed[name] != value}
    assert names == {"model.permutations", "model.permutation_seed", "model.jitter", "model.tile"}


def test_validation_poses_the_same_puzzles_in_every_epoch(monkeypatch):
    method, losses = jigsaw(), []
    monkeypatch.setattr(method, "_log", lambda stage, found, batch: losses.append(found["loss"].item()))
    batch = {"image": torch.randint(256, (4, 1, 64, 64), dtype=torch.uint8)}
    for number in (0, 0, 1):
        method.validation_step(batch, number)
    assert losses[0] == losses[1] != losses[2]


def test_a_head_without_width_is_refused():
    with pytest.raises(UserError, match=r"model\.hidden must be 1 or more, not 0"):
        jigsaw(hidden=0)


def test_more_cells_than_orders_of_bytes_can_number_are_refused():
    with pytest.raises(UserError, match=r"model\.cells must be 15 or fewer, not 16"):
        jigsaw(cells=16)


@pytest.mark.parametrize("kind", [Jigsaw, RelativePatch])
def test_what_is_handed_on_has_running_statistics_of_whole_films(kind, tmp_path):
    data = ChestXrayDataModule(
        {"phantom": {"films": 12, "size": 64}}, img_size=64, batch_size=4, num_workers=0,
        augment=Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0),
    )  # fmt: skip
    method = kind(backbone="resnet18", img_size=64, optim=Optim(lr=1e-6))
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=1, accelerator="cpu", logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                      limit_val_batches=0, num_sanity_val_steps=0, use_distributed_sampler=False)  # fmt: skip
    trainer.fit(method, datamodule=data)
    films = torch.cat([batch["image"] for batch in data.train_dataloader()])
    with torch.no_grad():
        maps = method.backbone.network.conv1(method.backbone.normalize(films))
    assert torch.allclose(method.backbone.network.bn1.running_mean, maps.mean(dim=(0, 2, 3)), rtol=0.02, atol=0.005)
