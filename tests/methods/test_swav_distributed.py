"""Two processes, each with half of the films, against one with all of them."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from phantoms import small
from torch import nn

from xrayssl.data import ChestXrayDataModule
from xrayssl.methods import Exemplar, SwAV
from xrayssl.optim import Optim

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "num_sanity_val_steps": 0, "enable_checkpointing": False}  # fmt: skip


def swav():
    torch.manual_seed(3)
    method = SwAV(
        prototypes=5, hidden=16, embedding=8, queue=7, queue_after=0, variance=0.5, backbone="resnet18", img_size=32
    )
    for bank in method.queues:
        bank.enqueue(nn.functional.normalize(torch.randn(7, 8)))
    return method.train()


def outcome(method, views):
    """Loss, gradients, queue and running statistics of a step."""
    loss = method.losses({"image": views[0], "views": views})["loss"]
    loss.backward()
    grads = {name: parameter.grad for name, parameter in method.named_parameters()}
    return {"loss": loss.detach(), "grads": grads, "state": method.state_dict()}


def _half(rank, folder, views):
    method = swav()  # before there are two processes, as the queue is filled with all rows at once
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(outcome(method, [view.tensor_split(2)[rank] for view in views]), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_two_processes_have_loss_gradient_and_queue_of_one_on_the_joined_batch(tmp_path):
    torch.manual_seed(0)
    views = [torch.randn(6, 1, side, side) for side in (32, 32, 16)]
    torch.multiprocessing.start_processes(_half, (str(tmp_path), views), nprocs=2, start_method="fork")
    one, halves = outcome(swav(), views), [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.allclose((halves[0]["loss"] + halves[1]["loss"]) / 2, one["loss"], atol=1e-5)
    for name, grad in one["grads"].items():  # DDP takes the mean of the processes' gradients
        mean = (halves[0]["grads"][name] + halves[1]["grads"][name]) / 2
        assert torch.allclose(mean, grad, atol=1e-4 * max(1.0, grad.abs().max().item())), name
    for half in halves:
        assert all(torch.allclose(half["state"][name], value, atol=1e-4) for name, value in one["state"].items())


class Keep(Callback):
    """Writes what a process has in the end."""

    def on_train_end(self, trainer, pl_module):
        torch.save(pl_module.state_dict(), f"{trainer.default_root_dir}/{trainer.global_rank}.pt")


def train_on_two(folder, method):
    data = ChestXrayDataModule(small("chest"), img_size=32, batch_size=4, num_workers=0)
    data.augment = replace(data.augment, views=2)
    trainer = Trainer(
        default_root_dir=folder, max_epochs=2, devices=2, strategy="ddp_fork", callbacks=[Keep()], **QUIET
    )
    trainer.fit(method, datamodule=data)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_after_training_both_processes_have_the_same_queue_prototypes_and_statistics(tmp_path):
    first, second = train_on_two(tmp_path, swav())
    start = swav().state_dict()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert not torch.equal(first["queues.0.embedding_NE"], start["queues.0.embedding_NE"])
    assert not torch.equal(first["prototype_KE"], start["prototype_KE"])


def instance():
    torch.manual_seed(3)
    return Exemplar("instance", hidden=16, embedding=8, backbone="resnet18", img_size=32).train()


def _half_of_exemplar(rank, folder, views):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(outcome(instance(), [view.tensor_split(2)[rank] for view in views])["loss"], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_exemplar_has_the_loss_of_one_process_on_the_joined_batch_in_two(tmp_path):
    torch.manual_seed(0)
    views = [torch.randn(6, 1, 32, 32) for _ in range(2)]
    torch.multiprocessing.start_processes(_half_of_exemplar, (str(tmp_path), views), nprocs=2, start_method="fork")
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.allclose(sum(halves) / 2, outcome(instance(), views)["loss"], atol=1e-4)


@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
@pytest.mark.parametrize("kind", ["surrogate", "instance"])
def test_exemplar_trains_on_two_processes(kind, tmp_path):
    torch.manual_seed(3)
    method = Exemplar(kind, backbone="vit_tiny_patch16_224", img_size=32, optim=Optim(warmup_epochs=0))
    first, second = train_on_two(tmp_path, method)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
