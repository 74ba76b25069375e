"""Momentum contrast: loss, queue, momentum encoder, shuffling."""

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from xrayssl import cli, handoff
from xrayssl.backbone import Backbone
from xrayssl.data.augment import Small
from xrayssl.errors import UserError
from xrayssl.methods import MoCo
from xrayssl.optim import Optim

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}  # fmt: skip
NETWORKS = ["resnet18", "vit_tiny_patch16_224"]


def moco(backbone="vit_tiny_patch16_224", queue=6, **kwargs):
    """A method whose copy and queue have come some way."""
    torch.manual_seed(0)
    method = MoCo(backbone=backbone, img_size=32, queue=queue, embedding=8, **kwargs)
    with torch.no_grad():
        for parameter in method.target_head.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    method.bank.enqueue(nn.functional.normalize(torch.randn(4, 8)), torch.tensor([10, 2, 11, 0]))
    return method


def films(count=4):
    torch.manual_seed(1)
    views = [torch.randn(count, 1, 32, 32) for _ in range(2)]
    return {"image": views[0], "views": views, "index": torch.arange(count)}


def embedded(backbone, head, image):
    rows = [head(backbone(film[None]).mean(dim=(2, 3)))[0] for film in image]
    return [row / row.norm() for row in rows]


def slow(method, one, two, index):
    """Cross-entropy of each query's own key among that and the queue without the film's own, in the mean."""
    queries = embedded(method.backbone, method.head, one)
    keys = embedded(method.target_backbone.copy, method.target_head.copy, two)
    terms = []
    for query, key, film in zip(queries, keys, index.tolist(), strict=True):
        bank = zip(method.bank.embedding_NE, method.bank.film_N.tolist(), strict=True)
        others = [torch.exp(query @ row / method.temperature) for row, whose in bank if whose != film]
        own = torch.exp(query @ key / method.temperature)
        terms.append(-torch.log(own / (own + sum(others))))
    return torch.stack(terms).mean(), torch.stack(queries)


@pytest.mark.parametrize("backbone", NETWORKS)
def test_the_loss_is_that_of_a_slow_recomputation(backbone):
    method, batch = moco(backbone, temperature=0.3).eval(), films()
    expected, _ = slow(method, *batch["views"], batch["index"])
    assert method.losses(batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_symmetric_loss_is_the_mean_of_both_directions_and_the_hinge_is_added():
    method, batch = moco(symmetric=True, variance=2.0).eval(), films()
    one, two = batch["views"]
    (forth, query), (back, other) = slow(method, one, two, batch["index"]), slow(method, two, one, batch["index"])
    hinges = [(1 - (8 * rows.var(dim=0) + 1e-4).sqrt()).relu().mean() for rows in (query, other)]
    found = method.losses(batch)
    assert found["loss"].item() == pytest.approx((forth + back + 2 * sum(hinges)).item() / 2, rel=1e-4)
    assert 0 < found["hinge"].item() <= 1


def test_earlier_keys_of_a_film_are_not_among_its_negatives():
    method, batch = moco().eval(), films()
    before = method.losses(batch)["loss"]
    method.bank.embedding_NE[3] = method.query(batch["views"][0])[0].detach()  # the query of film 0 itself
    assert (method.losses(batch)["loss"] - before).abs() > 1e-4  # others are pushed away from it
    method.bank.film_N[3] = 12
    single = {"image": None, "views": [view[:1] for view in batch["views"]], "index": torch.tensor([0])}
    pushed = method.losses(single)["loss"]
    method.bank.film_N[3] = 0
    assert pushed > method.losses(single)["loss"] + 0.1


def test_an_empty_queue_of_random_directions_gives_a_loss():
    method = MoCo(backbone="resnet18", img_size=32, queue=32).train()
    assert 0 < method.losses(films())["loss"].item() < 20


def test_the_copies_share_no_tensor_with_the_network_and_get_no_gradient():
    method = moco("resnet18", variance=1.0).train()
    online = {value.data_ptr() for part in (method.backbone, method.head) for value in part.parameters()}
    copies = [*method.target_backbone.parameters(), *method.target_head.parameters()]
    method.losses(films())["loss"].backward()
    assert len(copies) == len(online)
    assert not online & {value.data_ptr() for value in copies}
    assert all(value.grad is None for value in copies)
    assert all(value.grad is not None for value in (*method.backbone.parameters(), *method.head.parameters()))


def test_keys_are_put_in_after_the_gradient_and_in_training_only():
    method, batch = moco("resnet18", queue=8, symmetric=True), films(2)
    method.eval().losses(batch)
    method.on_after_backward()
    assert method.bank.count == 4
    loss = method.train().losses(batch)["loss"]
    assert method.bank.count == 4
    loss.backward()
    method.on_after_backward()
    assert method.bank.film_N.tolist() == [10, 2, 11, 0, 0, 1, 0, 1]
    method.on_after_backward()
    assert method.bank.count == 8


class Watch(Callback):
    """Notes the state at every turn."""

    def __init__(self):
        self.states, self.validated = [], []

    def on_train_start(self, trainer, method):
        self.note(method)

    def on_train_batch_end(self, trainer, method, *args):
        self.note(method)

    def on_validation_start(self, trainer, method):
        self.validated = [{name: value.clone() for name, value in method.state_dict().items()}]

    def on_validation_end(self, trainer, method):
        self.validated.append({name: value.clone() for name, value in method.state_dict().items()})

    def note(self, method):
        self.states.append({name: value.clone() for name, value in method.state_dict().items()})


def fit(folder, data, method, **kwargs):
    data.augment, watch = replace(data.augment, views=2), Watch()
    trainer = Trainer(default_root_dir=str(folder), max_epochs=1, callbacks=[watch], **QUIET, **kwargs)
    trainer.fit(method, datamodule=data)
    return watch


def test_each_step_moves_the_copy_by_exactly_one_minus_the_momentum_and_validation_moves_nothing(tmp_path, shoulder):
    method = MoCo(momentum=0.75, queue=7, backbone="resnet18", img_size=32, optim=Optim(lr=1e-2, warmup_epochs=0))
    watch = fit(tmp_path, shoulder, method)
    pairs = {f"target_{part}.copy.{name}": f"{part}.{name}" for part in ("backbone", "head")
             for name, _ in getattr(method, part).named_parameters()}  # fmt: skip
    for before, after in zip(watch.states, watch.states[1:], strict=False):
        for copy, online in pairs.items():
            assert torch.allclose(after[copy], 0.75 * before[copy] + 0.25 * after[online], atol=1e-6), copy
        assert after["bank.count"] == before["bank.count"] + 4
    assert [copy for copy in pairs if torch.equal(watch.states[0][copy], watch.states[-1][copy])] == []
    before, after = watch.validated
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_a_queue_longer_than_the_training_set_is_cut_and_says_so(tmp_path, shoulder, caplog):
    count = len(shoulder.manifest.rows("train"))
    method = MoCo(queue=1000, backbone="resnet18", img_size=32)
    fit(tmp_path, shoulder, method, max_steps=1, limit_val_batches=0)
    assert len(method.bank) == count
    assert f"--model.queue {count}" in caplog.text


def test_a_queue_that_fits_stays_and_nothing_is_said(tmp_path, shoulder, caplog):
    method = MoCo(queue=5, backbone="resnet18", img_size=32)
    fit(tmp_path, shoulder, method, max_steps=1, limit_val_batches=0)
    assert len(method.bank) == 5
    assert "queue" not in caplog.text


def test_films_in_one_view_are_refused_before_the_first_is_read(tmp_path, shoulder):
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=1, **QUIET)
    shoulder._films = None
    with pytest.raises(UserError, match=r"--data\.augment\.views 2"):
        trainer.fit(MoCo(backbone="resnet18", img_size=32), datamodule=shoulder)


def test_a_small_crop_is_no_second_view(shoulder):
    shoulder.augment = replace(shoulder.augment, small=Small(count=1, size=16))
    batch = next(iter(shoulder.val_dataloader()))
    with pytest.raises(UserError, match=r"--data\.augment\.views 2"):
        moco()._losses(batch)


def test_splits_are_batches_of_their_own_and_keys_are_shuffled_between_them():
    method, batch = moco("resnet18", splits=2).train(), films(8)
    image, sizes, seen = batch["views"][0], [], []
    method.backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0]))
    method.target_backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    query, key = method.query(image), method.key(image)
    assert torch.equal(torch.cat(sizes), image) and [len(part) for part in sizes] == [4, 4]
    assert [len(part) for part in seen] == [4, 4] and not torch.equal(torch.cat(seen), image)
    parts = [method.target_head(method.target_backbone(part).mean(dim=(2, 3))) for part in list(seen)]
    known = {film.sum().item(): nn.functional.normalize(row, dim=0) for part, rows in zip(seen, parts, strict=False)
             for film, row in zip(part, rows, strict=True)}  # fmt: skip
    assert all(torch.allclose(row, known[film.sum().item()], atol=1e-5) for row, film in zip(key, image, strict=True))
    assert query.shape == key.shape == (8, 8)


def test_a_vit_is_not_split_and_validation_is_not_either():
    for method in (moco(splits=2).train(), moco("resnet18", splits=2).eval()):
        sizes = []
        for part in (method.backbone, method.target_backbone):
            part.register_forward_pre_hook(lambda module, inputs, sizes=sizes: sizes.append(len(inputs[0])))
        method.losses(films())
        assert sizes == [4, 4]


def test_the_copy_starts_from_the_file_that_the_network_starts_from(tmp_path):
    path = handoff.save(Backbone("resnet18", 32), tmp_path / "start.safetensors")
    method = MoCo(queue=8, backbone="resnet18", img_size=32, init_from=str(path))
    method.start()
    copy = method.target_backbone.copy.state_dict()
    assert all(torch.equal(value, copy[name]) for name, value in method.backbone.state_dict().items())


def test_a_fixed_patch_projection_is_not_trained():
    method = moco(fixed_patches=True).train()
    method.losses(films())["loss"].backward()
    still = [name for name, value in method.backbone.named_parameters() if value.grad is None]
    assert still == ["network.patch_embed.proj.weight", "network.patch_embed.proj.bias"]


def test_every_argument_that_makes_no_sense_is_named_at_once():
    wrong = {"queue": 0, "momentum": 2.0, "temperature": 0.0, "variance": -1.0, "splits": 0, "fixed_patches": True,
             "embedding": 0, "hidden": -1}  # fmt: skip
    with pytest.raises(UserError) as caught:
        MoCo(backbone="resnet18", img_size=32, **wrong)
    assert [name for name in wrong if not any(f"model.{name}" in text for text in caught.value.messages)] == []


def test_parts_of_a_batch_need_two_films_each(shoulder, tmp_path):
    shoulder.augment = replace(shoulder.augment, views=2)
    method = MoCo(queue=8, splits=4, backbone="resnet18", img_size=32)
    with pytest.raises(UserError, match="batches of 8 or more films, not 4"):
        Trainer(default_root_dir=str(tmp_path), max_epochs=1, **QUIET).fit(method, datamodule=shoulder)
    assert [len(part) for part in method.train()._parts(films(9)["image"])] == [3, 2, 2, 2]


def test_a_run_is_validated_on_films_of_another_number(shoulder, tmp_path):
    shoulder.augment = replace(shoulder.augment, views=2)
    path = tmp_path / "last.ckpt"
    trainer = Trainer(default_root_dir=str(tmp_path), max_epochs=1, **QUIET)
    trainer.fit(MoCo(queue=8, backbone="test_vit", img_size=32), datamodule=shoulder)
    trainer.save_checkpoint(path)
    for queue in (9, 8):
        other = MoCo(queue=queue, backbone="test_vit", img_size=32)
        Trainer(default_root_dir=str(tmp_path), **QUIET).validate(
            other, datamodule=shoulder, ckpt_path=path, verbose=False
        )
        assert len(other.bank) == 8


def test_a_compiled_network_is_copied():
    method = MoCo(queue=8, backbone="resnet18", img_size=32, compile=True)
    assert not {id(part) for part in method.backbone.modules()} & {
        id(part) for part in method.target_backbone.modules()
    }


def test_a_missing_view_is_told_with_what_the_method_itself_refuses(capsys):
    words = ["--data.augment.views", "1", "--model.queue", "0", "--model.momentum", "1.5"]
    assert cli.main(["fit", "--config", "moco_chest", *words]) == 2
    said = capsys.readouterr().err
    assert all(part in said for part in ("model.queue", "model.momentum", "--data.augment.views 2"))
