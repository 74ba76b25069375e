"""How a classifier is trained: what it may minimise, what rests at first, and what selects it."""

import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from phantoms import small

from xrayssl.callbacks.checkpoints import BestCheckpoint
from xrayssl.data import ShoulderXrayDataModule
from xrayssl.data.films import collate
from xrayssl.errors import UserError
from xrayssl.finetuning.losses import LabelLoss
from xrayssl.finetuning.mixing import Mixing
from xrayssl.finetuning.tta import TTA
from xrayssl.methods import Finetune
from xrayssl.metrics import Gathered, auroc
from xrayssl.optim import Optim
from xrayssl.statistics.operating import fit

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "num_sanity_val_steps": 0}  # fmt: skip


def tuned(data, backbone="test_resnet", lr=2e-3, **options):
    torch.manual_seed(5)
    optim = Optim(lr=lr, warmup_epochs=0, layer_decay=0.9)
    return Finetune(data.classes, data.task, backbone=backbone, img_size=32, **{"optim": optim, **options})


def fitted(folder, method, data, resume=None, callbacks=(), **options):
    chosen = {"max_epochs": 3, "enable_checkpointing": False, "limit_val_batches": 1, **options}
    trainer = Trainer(default_root_dir=str(folder), callbacks=list(callbacks), **QUIET, **chosen)
    trainer.fit(method, datamodule=data, ckpt_path=resume)
    return trainer


def equal(left, right):
    return [name for name in left if not torch.equal(left[name], right[name])] == []


@pytest.fixture
def makers():
    """Shoulder phantoms of which every class is among the training films."""
    return ShoulderXrayDataModule(small("shoulder", 40), img_size=32, batch_size=8, num_workers=0)


@pytest.mark.parametrize(
    ("films", "options"),
    [
        ("chest", {"loss": LabelLoss("focal")}),
        ("chest", {"loss": LabelLoss("asymmetric")}),
        ("chest", {"loss": LabelLoss(class_weights="balanced", smoothing=0.01)}),
        ("shoulder", {"loss": LabelLoss("focal")}),
        ("shoulder", {"loss": LabelLoss(class_weights=[1.0, 2.0, 1.0, 3.0], smoothing=0.01)}),
        ("shoulder", {"pooling": "attentive", "backbone": "vit_tiny_patch16_224"}),
        ("shoulder", {"head_hidden": 32, "pooling": "attentive"}),
    ],
    ids=str,
)
def test_eight_films_are_learned_by_heart(films, options, request):
    data = request.getfixturevalue(films)
    method = tuned(data, **options).train()
    dataset = data.val_dataloader().dataset
    batch = collate([dataset[(0, row)] for row in range(8)])
    optimizer = torch.optim.AdamW(method.parameters(), 1e-3)
    losses = []
    for _ in range(40):
        losses.append(method._losses(batch)["loss"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2


def test_films_are_mixed_in_training_alone(shoulder, monkeypatch):
    method, seen = tuned(shoulder, mixing=Mixing(mixup=1.0)), []
    monkeypatch.setattr(method, "_loss", lambda logits, label: seen.append(label) or logits.sum())
    batch = collate([shoulder.val_dataloader().dataset[(0, row)] for row in range(8)])
    torch.manual_seed(0)
    for training in (True, False):
        method.train(training)
        method._losses(batch)
    pure = [bool(((label == 0) | (label == 1)).all()) for label in seen]
    assert pure == [False, True]


@pytest.mark.parametrize("options", [{"mixing": Mixing(0.4, 1.0), "ema": 0.9},
                                     {"loss": LabelLoss(class_weights="balanced"), "pooling": "attentive"},
                                     {"unfreeze_after": 1}, {"unfreeze_after": 2, "ema": 0.9}], ids=str)  # fmt: skip
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_straight_and_interrupted_training_give_bitwise_equal_weights(options, cut, tmp_path, makers):
    straight = tuned(makers, **options)
    fitted(tmp_path, straight, makers)  # 3 epochs of 2 steps
    with pytest.raises(InterruptedError):
        fitted(tmp_path, tuned(makers, **options), makers, callbacks=[Interrupt(cut)])
    resumed = tuned(makers, **options)
    torch.manual_seed(99)
    fitted(tmp_path, resumed, makers, resume=str(tmp_path / "cut.ckpt"))
    assert equal(straight.state_dict(), resumed.state_dict())


class Interrupt(Callback):
    """Raises after a number of steps, as a kill would."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(trainer.default_root_dir + "/cut.ckpt")
            raise InterruptedError


class Watch(Callback):
    """What the network and the optimiser hold at the end of each epoch."""

    def __init__(self):
        self.states, self.steps, self.rates = [], [], []

    def on_train_epoch_end(self, trainer, pl_module):
        optimizer = trainer.optimizers[0]
        self.states.append({name: value.clone() for name, value in pl_module.state_dict().items()})
        held = optimizer.state.get(next(pl_module.backbone.parameters()), {})
        self.steps.append(int(held.get("step", 0)))
        self.rates.append([group["lr"] for group in optimizer.param_groups])


def test_a_resting_backbone_does_not_move_nor_do_its_batch_norms_and_then_it_learns(tmp_path, shoulder):
    method, watch = tuned(shoulder, unfreeze_after=2), Watch()
    before = {name: value.clone() for name, value in method.state_dict().items() if name.startswith("backbone")}
    fitted(tmp_path, method, shoulder, callbacks=[watch])
    assert [equal(before, state) for state in watch.states] == [True, True, False]
    norms = [name for name in before if name.endswith("running_mean")]
    assert all(not torch.equal(before[name], watch.states[2][name]) for name in norms)
    assert not torch.equal(watch.states[0]["head.linear.weight"], watch.states[1]["head.linear.weight"])
    assert watch.steps == [0, 0, 3]  # its moments begin with its first step, and are corrected from there
    assert watch.rates[0][0] == 0 < watch.rates[0][-1]


def test_a_resting_backbone_counts_no_gradient_and_a_finished_one_gives_them(tmp_path, shoulder):
    method = tuned(shoulder, unfreeze_after=1)
    method(torch.randn(2, 1, 32, 32)).sum().backward()  # outside a fit, as for Grad-CAM
    assert next(method.backbone.parameters()).grad is not None
    fitted(tmp_path, method, shoulder, max_epochs=2)
    assert method.train().backbone.training


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"unfreeze_after": -1}, "number of epochs"), ({"unfreeze_after": 1, "mode": "linear"}, "of the mode full"),
     ({"loss": LabelLoss("asymmetric")}, "take focal")],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(options, sentence, shoulder):
    with pytest.raises(UserError, match=sentence):
        tuned(shoulder, **options)


@pytest.mark.parametrize("epochs", [3, 5])
def test_a_backbone_that_would_never_be_trained_is_refused(epochs, tmp_path, shoulder):
    with pytest.raises(UserError, match="leaves no epoch"):
        fitted(tmp_path, tuned(shoulder, unfreeze_after=epochs), shoulder)  # of 3


def test_balanced_classes_are_those_of_the_training_films_and_stay_with_the_checkpoint(tmp_path, makers):
    method = tuned(makers, loss=LabelLoss(class_weights="balanced"))
    fitted(tmp_path, method, makers, max_epochs=1, limit_val_batches=1.0)
    count = np.nansum(makers.manifest.labels()[makers.manifest.rows("train")], axis=0)
    assert method.state_dict()["class_weight_2K"][1].numpy() == pytest.approx(count.sum() / (len(count) * count))
    assert "class_weight_2K" not in tuned(makers).state_dict()


def test_resuming_with_another_loss_is_refused(tmp_path, shoulder):
    with pytest.raises(InterruptedError):
        fitted(tmp_path, tuned(shoulder), shoulder, callbacks=[Interrupt(1)])
    other = tuned(shoulder, loss=LabelLoss("focal"), unfreeze_after=1)
    with pytest.raises(UserError) as caught:
        fitted(tmp_path, other, shoulder, resume=str(tmp_path / "cut.ckpt"))
    assert ["model.loss" in caught.value.messages[0], "unfreeze_after" in caught.value.messages[1]] == [True, True]


# --- what selects, and what is tested


def by_hand(method, data, split, views=lambda image: [image]):
    """Labels and probabilities of a split, film by film."""
    found = []
    method.eval()
    for batch in getattr(data, f"{split}_dataloader")():
        image = method.backbone.normalize(batch["image"])
        with torch.no_grad():
            seen = torch.stack([method.probabilities(method(view)) for view in views(image)])
        found.append((batch["index"], seen.mean(dim=0), batch["label"]))
    return Gathered(*(torch.cat(part).numpy() for part in zip(*found, strict=True)))


@pytest.mark.parametrize("tta", [TTA(), TTA(flip=True, crops=(0.8,))])
def test_a_test_fits_thresholds_and_temperature_on_the_validation_films_with_the_same_views(tta, tmp_path, chest):
    method = tuned(chest, tta=tta)
    Trainer(default_root_dir=tmp_path, **QUIET).test(method, datamodule=chest, verbose=False)
    wanted = fit(by_hand(method, chest, "val", lambda image: [image, *tta.views(image)]), chest.task, chest.classes)
    wrote = json.loads((tmp_path / "metrics.json").read_text())
    assert wrote["operating"]["temperature"] == pytest.approx(wanted.temperature, rel=1e-4)
    known = {name: value for name, value in wanted.threshold.items() if value is not None}
    assert {name: wrote["operating"]["threshold"][name] for name in known} == pytest.approx(known, rel=1e-4)
    assert (wrote["split"], wrote["selected_on"], wrote["operating"]["films"]) == ("test", "val", wanted.films)
    assert wrote["films"] == len(chest.manifest.rows("test"))


def test_without_validation_films_nothing_is_fitted_on_them(tmp_path, chest):
    chest.manifest.table["split"] = chest.manifest.table["split"].replace("val", "train")
    Trainer(default_root_dir=tmp_path, **QUIET).test(tuned(chest), datamodule=chest, verbose=False)
    assert json.loads((tmp_path / "metrics.json").read_text())["operating"] is None


def test_the_views_of_a_test_are_averaged_and_the_fit_goes_without(tmp_path, shoulder):
    method = tuned(shoulder, tta=TTA(flip=True))
    trainer = Trainer(default_root_dir=tmp_path, **QUIET)
    probability = torch.cat(trainer.predict(method, datamodule=shoulder)).numpy()
    averaged = by_hand(method, shoulder, "test", lambda image: [image, image.flip(3)]).probability
    assert probability == pytest.approx(averaged, abs=1e-6)
    assert not np.allclose(probability, by_hand(method, shoulder, "test").probability, atol=1e-5)
    calls = []
    method.tta.__class__.views, views = lambda self, image: calls.append(1) or [], method.tta.__class__.views
    try:
        fitted(tmp_path, method, shoulder, max_epochs=1)
    finally:
        TTA.views = views
    assert not calls


def test_selection_on_the_test_films_is_possible_told_and_marked(tmp_path, shoulder, caplog):
    method = tuned(shoulder, select_on="test")
    best = BestCheckpoint(tmp_path, *method.monitor)
    trainer = fitted(tmp_path, method, shoulder, callbacks=[best], enable_checkpointing=True, limit_val_batches=1.0)
    assert "The test films select the checkpoint" in caplog.text
    films = by_hand(method, shoulder, "test")
    each = [auroc(p, y) for p, y in zip(films.probability.T, films.label.T, strict=True)]
    assert trainer.callback_metrics["test/auroc"].item() == pytest.approx(np.nanmean(each), abs=1e-6)
    assert best.best_model_score >= trainer.callback_metrics["test/auroc"]
    again = tuned(shoulder)  # the checkpoint stays marked, whatever is typed later
    trainer.test(again, datamodule=shoulder, ckpt_path=best.best_model_path, verbose=False)
    assert json.loads((tmp_path / "metrics.json").read_text())["selected_on"] == "test"


def test_looking_at_the_test_films_changes_nothing_of_the_training(tmp_path, shoulder):
    states = []
    for films in ("val", "test"):
        states.append(tuned(shoulder, select_on=films))
        fitted(tmp_path, states[-1], shoulder, max_epochs=2)
    assert equal(states[0].state_dict(), states[1].state_dict())


def test_validation_selects_by_default():
    assert Finetune(["a"], "multilabel", backbone="test_vit", img_size=32).monitor == ("val/auroc", "max")


# --- Lightning's finders


def search(**options):
    return LearningRateFinder(**{"num_training_steps": 8, "min_lr": 1e-5, "max_lr": 1e-2, **options})


class Rates(Callback):
    """The rates of every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, *args):
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def test_a_found_rate_gives_the_run_that_this_rate_gives(tmp_path, shoulder, monkeypatch, caplog):
    monkeypatch.setattr("lightning.pytorch.tuner.lr_finder._LRFinder.suggestion", lambda self: 3e-3)
    searching, plain, rates = tuned(shoulder), tuned(shoulder, lr=3e-3), (Rates(), Rates())
    with caplog.at_level("INFO"):
        fitted(tmp_path, searching, shoulder, callbacks=[search(), rates[0]])
    fitted(tmp_path, plain, shoulder, callbacks=[rates[1]])
    assert rates[0].seen == rates[1].seen and len(rates[0].seen) == 9
    assert equal(searching.state_dict(), plain.state_dict())
    assert "--model.optim.lr 0.003 --data.batch_size 4" in caplog.text


def test_the_search_itself_keeps_the_decay_over_layers(tmp_path, shoulder, monkeypatch):
    seen, step = [], Finetune.optimizer_step

    def watched(self, epoch, batch_idx, optimizer, closure):
        seen.append([group["lr"] / group.get("lr_scale", 1.0) for group in optimizer.param_groups])
        step(self, epoch, batch_idx, optimizer, closure)

    monkeypatch.setattr(Finetune, "optimizer_step", watched)
    monkeypatch.setattr("lightning.pytorch.tuner.lr_finder._LRFinder.suggestion", lambda self: 3e-3)
    fitted(tmp_path, tuned(shoulder), shoulder, callbacks=[search()], max_steps=1)
    assert len(seen) == 9 and seen[3][-1] > seen[1][-1]
    assert all(rates == pytest.approx([rates[-1]] * len(rates)) for rates in seen[1:])


def test_a_rate_per_reference_batch_is_found_as_such(tmp_path, shoulder, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.tuner.lr_finder._LRFinder.suggestion", lambda self: 3e-3)
    method = tuned(shoulder, optim=Optim(lr=1e-3, reference_batch=8, warmup_epochs=0))
    trainer = fitted(tmp_path, method, shoulder, callbacks=[search()])
    assert method.optim.lr == pytest.approx(6e-3)  # batches of 4
    assert trainer.optimizers[0].param_groups[-1]["initial_lr"] == pytest.approx(3e-3)


def test_a_found_batch_gives_the_run_that_this_batch_gives(tmp_path, shoulder):
    options = {"optim": Optim(lr=1e-3, reference_batch=8, warmup_epochs=1)}
    searching, plain, rates = tuned(shoulder, **options), tuned(shoulder, **options), (Rates(), Rates())
    finder = BatchSizeFinder(init_val=1, steps_per_trial=1, max_trials=2)
    fitted(tmp_path, searching, shoulder, callbacks=[finder, rates[0]], limit_val_batches=1.0)
    assert shoulder.batch_size == finder.optimal_batch_size == 2
    shoulder.load_state_dict({})  # the search has restored a checkpoint, the other run has none
    fitted(tmp_path, plain, shoulder, callbacks=[rates[1]], limit_val_batches=1.0)
    assert rates[0].seen == rates[1].seen
    assert equal(searching.state_dict(), plain.state_dict())


def test_a_run_that_goes_on_looks_for_nothing(tmp_path, shoulder):
    with pytest.raises(InterruptedError):
        fitted(tmp_path, tuned(shoulder), shoulder, callbacks=[Interrupt(1)])
    with pytest.raises(UserError, match="leave the finders out"):
        fitted(tmp_path, tuned(shoulder), shoulder, resume=str(tmp_path / "cut.ckpt"), callbacks=[search()])


def test_a_search_that_finds_no_rate_is_no_search(tmp_path, shoulder):
    with pytest.raises(UserError, match="No rate was found"):
        fitted(tmp_path, tuned(shoulder), shoulder, callbacks=[search(num_training_steps=4)])


def test_a_rate_is_looked_for_after_its_batch(tmp_path, shoulder):
    finders = [search(num_training_steps=16), BatchSizeFinder(init_val=1, steps_per_trial=1, max_trials=2)]
    with pytest.raises(UserError, match="BatchSizeFinder before LearningRateFinder"):
        fitted(tmp_path, tuned(shoulder), shoulder, callbacks=finders)
    method = tuned(shoulder)
    trainer = fitted(tmp_path, method, shoulder, callbacks=finders[::-1], limit_val_batches=1.0, max_epochs=30)
    assert shoulder.batch_size == 2
    assert trainer.optimizers[0].param_groups[-1]["initial_lr"] == method.optim.lr != 2e-3


@pytest.mark.filterwarnings("ignore:It is recommended to use `self.log")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
def test_two_processes_let_a_backbone_rest_too(tmp_path):
    ends = []
    for batch, options in ((8, {}), (4, {"devices": 2, "strategy": "ddp_fork"})):
        data = ShoulderXrayDataModule(small("shoulder", 40), img_size=32, batch_size=batch, num_workers=0)
        method = tuned(data, "test_vit", unfreeze_after=1)
        fitted(tmp_path, method, data, max_epochs=2, limit_train_batches=2, limit_val_batches=0, **options)
        ends.append(method.state_dict())
    assert all(torch.allclose(one, ends[1][name], atol=2e-3) for name, one in ends[0].items())
