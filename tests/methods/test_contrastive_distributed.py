"""MoCo and BYOL in two processes, each with half of the films, against one with all of them."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from phantoms import small
from torch import nn

from xrayssl.data import ChestXrayDataModule
from xrayssl.gathering import shuffled
from xrayssl.memory_bank import MemoryBank
from xrayssl.methods import BYOL, MoCo
from xrayssl.optim import Optim

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "num_sanity_val_steps": 0, "enable_checkpointing": False}  # fmt: skip
VIT, CNN = "vit_tiny_patch16_224", "resnet18"


def moco():
    torch.manual_seed(3)
    method = MoCo(queue=9, embedding=8, variance=0.5, backbone=VIT, img_size=32)
    method.bank.enqueue(nn.functional.normalize(torch.randn(7, 8)), torch.arange(7))
    return method.train()


def byol():
    torch.manual_seed(3)
    return BYOL(hidden=16, embedding=8, variance=0.5, backbone=CNN, img_size=32).train()


def outcome(method, views, index):
    """Loss, gradients and state after a step's two passes."""
    loss = method.losses({"image": views[0], "views": views, "index": index})["loss"]
    loss.backward()
    method.on_after_backward()
    grads = {name: value.grad for name, value in method.named_parameters() if value.requires_grad}
    return {"loss": loss.detach(), "grads": grads, "state": method.state_dict()}


def _half(rank, folder, views):
    methods = {make.__name__: make() for make in (moco, byol)}  # before there are two processes to gather from
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    parts, index = [view.tensor_split(2)[rank] for view in views], torch.arange(len(views[0])).tensor_split(2)[rank]
    found = {name: outcome(method, parts, index) for name, method in methods.items()}
    bank, rows = MemoryBank(5, 3), torch.arange(12.0).view(4, 3)
    bank.enqueue(rows[: 1 + rank], torch.arange(1 + rank) + 10 * rank)  # one row there, two here
    found["bank"] = bank.state_dict()
    seen = []
    torch.manual_seed(rank)
    found["image"] = rows[: 3 + rank] + 100 * rank
    found["dealt"] = shuffled(lambda dealt: seen.append(dealt) or 2 * dealt, found["image"])
    found["seen"] = seen[0]
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def films():
    torch.manual_seed(0)
    return [torch.randn(6, 1, 32, 32) for _ in range(2)]


@pytest.fixture(scope="module")
def halves(films, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("halves"))
    torch.multiprocessing.start_processes(_half, (folder, films), nprocs=2, start_method="fork")
    return [torch.load(f"{folder}/{rank}.pt") for rank in range(2)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
@pytest.mark.parametrize("make", [moco, byol])
def test_two_processes_have_loss_gradient_and_state_of_one_on_the_joined_batch(make, films, halves):
    one, (first, second) = outcome(make(), films, torch.arange(6)), (half[make.__name__] for half in halves)
    assert torch.allclose((first["loss"] + second["loss"]) / 2, one["loss"], atol=1e-5)
    for name, grad in one["grads"].items():  # DDP takes the mean of the processes' gradients
        mean = (first["grads"][name] + second["grads"][name]) / 2
        assert torch.allclose(mean, grad, atol=1e-4 * max(1.0, grad.abs().max().item())), name
    for half in (first, second):
        assert all(torch.allclose(half["state"][name], value, atol=1e-4) for name, value in one["state"].items())


def test_both_processes_hold_the_rows_of_both_in_their_order(halves):
    assert halves[0]["bank"]["film_N"].tolist() == [0, 10, 11, -1, -1]
    assert all(torch.equal(value, halves[1]["bank"][name]) for name, value in halves[0]["bank"].items())


def test_shuffled_rows_are_dealt_to_all_and_results_come_back_to_their_own(halves):
    for half in halves:
        assert torch.equal(half["dealt"], 2 * half["image"])
    dealt, owned = (torch.cat([half[name] for half in halves]) for name in ("seen", "image"))
    assert torch.equal(dealt.sort(dim=0).values, owned.sort(dim=0).values)
    assert not torch.equal(dealt, owned)
    assert [len(half["seen"]) for half in halves] == [4, 3]


class Keep(Callback):
    """Writes what a process has in the end."""

    def on_train_end(self, trainer, method):
        torch.save(method.state_dict(), f"{trainer.default_root_dir}/{trainer.global_rank}.pt")


def shuffling():
    return MoCo(queue=10, momentum=0.5, embedding=8, backbone=CNN, img_size=32, optim=Optim(warmup_epochs=0))


def predicting():
    return BYOL(momentum=0.5, hidden=16, embedding=8, backbone=CNN, img_size=32, optim=Optim(warmup_epochs=0))


@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
@pytest.mark.parametrize("make", [shuffling, predicting])
def test_queue_and_copy_are_equal_in_both_processes_after_a_training(make, tmp_path):
    data = ChestXrayDataModule(small("chest"), img_size=32, batch_size=2, num_workers=0)
    data.augment = replace(data.augment, views=2)
    torch.manual_seed(3)
    method = make()
    start = {name: value.clone() for name, value in method.state_dict().items()}
    trainer = Trainer(default_root_dir=str(tmp_path), max_steps=3, devices=2, strategy="ddp_fork", callbacks=[Keep()],
                      limit_val_batches=0, **QUIET)  # fmt: skip
    trainer.fit(method, datamodule=data)
    one, two = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    kept = {name for name, _ in method.named_parameters()} | {name for name in one if name.startswith("bank.")}
    assert [name for name in kept if not torch.equal(one[name], two[name])] == []
    name = "target_backbone.copy.network.conv1.weight"
    assert not torch.equal(one[name], start[name])
    if make is shuffling:
        assert one["bank.count"] == 3 * 4 and len(set(one["bank.film_N"].tolist())) > 4
