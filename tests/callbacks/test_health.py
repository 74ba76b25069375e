"""Every pretraining is watched: the same figures as a plain computation, the same training, a collapse in words."""

import csv
import logging

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from watching import data, masked, one_and_two, trained

from xrayssl.callbacks import OnlineProbe, RepresentationHealth
from xrayssl.cli import main
from xrayssl.errors import UserError
from xrayssl.health import Health, health
from xrayssl.methods import Method, RelativePatch, RotationProxy
from xrayssl.optim import Optim

NAMES = ["health/std", "health/rank", "health/alignment", "health/uniformity"]


def rotation():
    torch.manual_seed(1)
    return RotationProxy(backbone="test_resnet", img_size=32, optim=Optim(warmup_epochs=0))


def logged(folder):
    with (folder / "metrics.csv").open() as lines:
        return [row for row in csv.DictReader(lines) if row.get("health/std")]


def test_the_start_every_second_and_the_last_epoch_are_measured(tmp_path):
    trained(tmp_path, [RepresentationHealth(every=2)])
    rows = logged(tmp_path)
    assert [row["epoch"] for row in rows] == ["", "1", "2"]
    assert rows[0]["health/films"] == str(float(len(data().manifest.rows("val"))))
    assert all(np.isfinite(float(row[name])) for row in rows for name in NAMES)


def test_without_an_interval_nothing_is_measured(tmp_path):
    trained(tmp_path, [RepresentationHealth(every=None)])
    assert logged(tmp_path) == []


class Draws(Callback):
    """What each step finds of the random numbers, and whether anything is left in evaluation."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, *args):
        self.seen.append((torch.get_rng_state(), [part.training for part in pl_module.modules()]))


@pytest.mark.parametrize("model", [masked, rotation])
def test_training_is_bitwise_the_same_with_and_without(tmp_path, model):
    states, draws = [], []
    for name, callbacks in (("with", [RepresentationHealth(every=1)]), ("without", [])):
        torch.manual_seed(1)
        draws.append(Draws())
        states.append(trained(tmp_path / name, [*callbacks, draws[-1]], model()).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    for one, other in zip(draws[0].seen, draws[1].seen, strict=True):
        assert torch.equal(one[0], other[0]) and one[1] == other[1]


def test_the_figures_are_those_of_a_plain_computation_on_validation_films(tmp_path):
    films = data()
    model = trained(tmp_path, [RepresentationHealth()], films=films)
    rows = films.manifest.rows("val")
    batch = [part["views"] for part in films.central(rows, beside=2)]
    views = [model.backbone.normalize(torch.cat(same)) for same in zip(*batch, strict=True)]
    with torch.no_grad():
        expected = health(*(model.eval().backbone(view).mean(dim=(2, 3)) for view in views))
    found = [float(logged(tmp_path)[-1][name]) for name in NAMES]
    assert found == pytest.approx([expected.std, expected.rank, expected.alignment, expected.uniformity], rel=1e-3)


def test_only_validation_films_are_read_and_only_once(tmp_path):
    films, read = data(), []
    plain, films.central = films.central, lambda rows, **kwargs: read.append(list(rows)) or plain(rows, **kwargs)
    trained(tmp_path, [RepresentationHealth(every=1)], films=films)
    assert read == [list(films.manifest.rows("val"))]


def test_a_cap_takes_the_films_that_the_online_probe_would_take(tmp_path):
    callback = RepresentationHealth(films=16)
    films = data(120)
    trained(tmp_path, [callback], films=films, epochs=1)
    from xrayssl.callbacks.online_probe import chosen

    assert 1 < len(callback._rows) <= 16
    assert list(callback._rows) == list(chosen(films.manifest, "val", 16))


def test_averaged_weights_are_measured_where_there_are_any(tmp_path, monkeypatch):
    seen = []

    def watch(model, images, size):
        seen.append(model.backbone.network.patch_embed.proj.weight.detach().clone())
        return images[:, 0].float().mean(dim=2)

    monkeypatch.setattr("xrayssl.callbacks.health.features", watch)
    model = trained(tmp_path, [RepresentationHealth()], masked(ema=0.9))
    assert torch.equal(seen[-1], model.backbone.network.patch_embed.proj.weight)


class Collapsing(Method):
    """Draws all films to one point: two views shall be alike, and nothing keeps others apart."""

    def losses(self, batch):
        feature_BD = nn.functional.normalize(self.backbone(batch["image"]).mean(dim=(2, 3)))
        return {"loss": (feature_BD - feature_BD.mean(dim=0)).square().sum(dim=1).mean()}


def collapsing(folder, **options):
    torch.manual_seed(1)
    model = Collapsing(backbone="test_vit", img_size=32, optim=Optim(lr=3e-3, reference_batch=None, warmup_epochs=0))
    callback = RepresentationHealth(every=1)
    trained(folder, [callback], model, data(120), **{"epochs": 4, "limit_train_batches": 8, **options})
    return callback


def test_a_collapse_is_named_in_words_once_with_the_figure_the_epoch_and_the_remedy(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="xrayssl"):
        callback = collapsing(tmp_path)
    assert callback.verdict.state == "point"
    warnings = [record.message for record in caplog.records if "collapsed" in record.message]
    assert len(warnings) == 1 and Method.remedy in warnings[0]
    assert "to a point since epoch" in warnings[0] and "health/std is" in warnings[0]


def test_a_recovery_is_told_and_a_second_collapse_again(caplog):
    callback, model, sound, point = RepresentationHealth(), masked(), Health(0.7, 20, 1, -1), Health(0.01, 1, 0, 0)
    callback._rows = np.arange(100)
    with caplog.at_level(logging.INFO, logger="xrayssl"):
        for epochs, figures in enumerate([sound, sound, point, point, point, sound, point, point]):
            before = callback.verdict
            callback.history[epochs] = figures
            callback._tell(before, callback.verdict, model)
    told = [next(word for word in ("hardly", "collapsed", "told apart") if word in r.message) for r in caplog.records]
    assert told == ["hardly", "collapsed", "told apart", "hardly", "collapsed"]
    assert "since epoch 6" in caplog.records[-1].message


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # of Lightning's own checkpoint callback
def test_what_was_before_the_training_is_known_to_a_resumed_run(tmp_path):
    callback = RepresentationHealth(every=1)
    trained(tmp_path / "cut", [callback], epochs=1, enable_checkpointing=True)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    resumed = RepresentationHealth(every=1)
    trained(tmp_path / "r", [resumed], epochs=2, resume=str(checkpoint))
    assert sorted(resumed.history) == [0, 1, 2]
    assert resumed.history[0] == callback.history[0]


class Compared(Method):
    """A sound backbone behind which everything becomes one point."""

    def losses(self, batch):
        return {"loss": self.backbone(batch["image"]).square().mean()}

    def project(self, feature_BD):
        return 1 + 1e-3 * feature_BD


def test_embeddings_behind_the_backbone_are_measured_where_a_method_compares_them(tmp_path):
    callback = RepresentationHealth()
    trained(tmp_path, [callback], Compared(backbone="test_resnet", img_size=32), data(120), epochs=1)
    assert float(logged(tmp_path)[-1]["health/embedding_std"]) < 0.02 < float(logged(tmp_path)[-1]["health/std"])
    assert callback.verdict.state in ("doubtful", "head")


def test_a_run_without_validation_films_is_not_disturbed(tmp_path):
    films = data()
    films.manifest.table["split"] = films.manifest.table["split"].replace("val", "train")
    trained(tmp_path, [RepresentationHealth()], films=films, limit_val_batches=0, epochs=1)
    assert logged(tmp_path) == []


def test_the_probe_and_the_health_go_together(tmp_path):
    trained(tmp_path, [OnlineProbe(every=1), RepresentationHealth(every=1)], epochs=1)
    assert logged(tmp_path)[-1]["probe/linear_auroc"]


CONFIG = """
model:
  class_path: %s
  init_args: {backbone: test_resnet}
data:
  class_path: ChestXrayDataModule
  init_args: {img_size: 32, batch_size: 4, num_workers: 0, corpora: {phantom: {films: 24, size: 48, seed: 2}}}
trainer: {max_epochs: 1, enable_progress_bar: false, accelerator: cpu, num_sanity_val_steps: 0, limit_train_batches: 1}
wandb: {mode: disabled}
"""


@pytest.mark.parametrize(
    ("method", "words", "epochs"),
    [
        ("RotationProxy", [], ["", "0"]),
        ("RotationProxy", ["--trainer.callbacks", "RepresentationHealth", "--trainer.callbacks.every", "null"], []),
        ("Finetune", [], []),
    ],
)
def test_every_pretraining_is_watched_unless_switched_off(tmp_path, method, words, epochs):
    (tmp_path / "some.yaml").write_text(CONFIG % method)
    assert main(["fit", "--config", str(tmp_path / "some.yaml"), "--out", str(tmp_path / "run"), *words]) == 0
    assert [row["epoch"] for row in logged(tmp_path / "run")] == epochs


@pytest.mark.parametrize("options", [{"every": 0}, {"films": 1}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(UserError, match="RepresentationHealth: "):
        RepresentationHealth(**options)


def tiles():
    """A method whose batch norms pool over processes, and are measured on whole films by one of them."""
    torch.manual_seed(1)
    return RelativePatch(backbone="test_resnet", img_size=32, optim=Optim(warmup_epochs=0))


@pytest.mark.filterwarnings("ignore:It is recommended to use")  # of the training loss
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork in a process with threads
@pytest.mark.parametrize("make", [None, tiles])
def test_two_processes_log_what_one_does(make, tmp_path):
    one_and_two(tmp_path, lambda: RepresentationHealth(every=1), make)
    first = [logged(tmp_path / name)[0] for name in ("one", "two")]
    assert [first[0][name] for name in NAMES] == [first[1][name] for name in NAMES]
    assert len(logged(tmp_path / "two")) == 2
