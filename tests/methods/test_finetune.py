import json

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional

from xrayssl.errors import UserError
from xrayssl.methods import Finetune

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def tiny(task="multilabel", **kwargs):
    return Finetune(classes=["a", "b"], task=task, backbone="resnet18", img_size=32, **kwargs)


def test_unknown_labels_do_not_enter_the_loss_of_findings():
    logits, label = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([[1.0, float("nan")], [0.0, 1.0]])
    known = [
        functional.binary_cross_entropy_with_logits(logits[i, k], label[i, k]) for i, k in ((0, 0), (1, 0), (1, 1))
    ]
    assert tiny()._loss(logits, label).item() == pytest.approx(sum(known).item() / 3)


def test_the_loss_of_classes_is_cross_entropy_over_labelled_films():
    logits, label = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([[0.0, 1.0], [float("nan")] * 2])
    expected = functional.cross_entropy(logits[:1], torch.tensor([1]))
    assert tiny("multiclass")._loss(logits, label).item() == pytest.approx(expected.item())


def test_a_batch_without_any_label_costs_nothing_and_breaks_nothing():
    loss = tiny()._loss(torch.zeros(2, 2, requires_grad=True), torch.full((2, 2), float("nan")))
    loss.backward()
    assert loss.item() == 0


def test_probabilities_sum_to_one_for_classes_only():
    logits = torch.randn(5, 2)
    assert torch.allclose(tiny("multiclass").probabilities(logits).sum(1), torch.ones(5))
    assert torch.equal(tiny().probabilities(logits), logits.sigmoid())


def test_a_linear_probe_moves_the_head_and_nothing_of_the_backbone(tmp_path, shoulder):
    method = Finetune(shoulder.classes, shoulder.task, mode="linear", backbone="resnet18", img_size=32)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    Trainer(default_root_dir=tmp_path, max_steps=3, limit_val_batches=0, **QUIET).fit(method, datamodule=shoulder)
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"head.linear.weight", "head.linear.bias", "head.norm.running_mean", "head.norm.running_var",
                     "head.norm.num_batches_tracked"}  # fmt: skip


def test_a_test_leaves_predictions_of_every_film_and_figures_with_intervals(tmp_path, shoulder):
    method = Finetune(shoulder.classes, shoulder.task, backbone="resnet18", img_size=32)
    Trainer(default_root_dir=tmp_path, **QUIET).test(method, datamodule=shoulder, verbose=False)
    predictions, figures = (
        pd.read_parquet(tmp_path / "predictions.parquet"),
        json.loads((tmp_path / "metrics.json").read_text()),
    )
    assert list(predictions["index"]) == list(shoulder.manifest.rows("test"))
    assert predictions.filter(like="probability/").sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert {"auroc_macro", "balanced_accuracy", "kappa"} <= set(figures["metrics"])
    assert figures["split"] == "test"


def test_data_without_labels_are_refused():
    with pytest.raises(UserError, match="needs labels"):
        Finetune(classes=[], task=None, backbone="resnet18", img_size=32)


def checkpoint(**kwargs):
    method, content = tiny(**kwargs), {}
    content["state_dict"] = method.state_dict()
    method.on_save_checkpoint(content)
    return content


def test_a_head_for_other_classes_is_refused():
    other = Finetune(classes=["a", "c"], task="multilabel", backbone="resnet18", img_size=32)
    with pytest.raises(UserError, match="names a, b; these data have a, c"):
        other.on_load_checkpoint(checkpoint())


def test_a_head_for_another_task_is_refused():
    with pytest.raises(UserError, match="learned a multiclass task; these data pose a multilabel one"):
        tiny().on_load_checkpoint(checkpoint(task="multiclass"))


def test_a_checkpoint_that_does_not_fit_is_one_sentence_and_no_trace():
    with pytest.raises(
        UserError, match=r"head\.norm\.running_mean is \(512,\) there and absent here \(3 tensors differ\)"
    ):
        tiny().on_load_checkpoint(checkpoint(mode="linear"))


def test_validation_films_that_define_no_auroc_stop_the_run_at_once(tmp_path, shoulder):
    table = shoulder.manifest.table
    val = shoulder.manifest.rows("val")
    table.loc[val, shoulder.classes] = table.loc[val[:1], shoulder.classes].to_numpy()
    method = Finetune(shoulder.classes, shoulder.task, backbone="resnet18", img_size=32)
    with pytest.raises(UserError, match="define no AUROC"):
        Trainer(default_root_dir=tmp_path, max_epochs=1, num_sanity_val_steps=0, **QUIET).fit(
            method, datamodule=shoulder
        )


@pytest.mark.parametrize("early", [True, False])
def test_a_limit_that_leaves_no_auroc_is_named_before_anything_is_learned(early, tmp_path, shoulder, monkeypatch):
    table, val = shoulder.manifest.table, shoulder.manifest.rows("val")
    table.loc[val, shoulder.classes] = 0.0
    table.loc[val[-1], shoulder.classes[0]] = 1.0
    shoulder.batch_size, learned = 2, []
    method = Finetune(shoulder.classes, "multilabel", backbone="resnet18", img_size=32)
    monkeypatch.setattr(method, "on_train_batch_start", lambda *_: learned.append(1), raising=False)
    if not early:
        monkeypatch.setattr(method, "on_train_start", lambda: None)
    fit = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1, **QUIET}
    with pytest.raises(UserError, match=rf"first 2 of {len(val)} .*Raise --trainer.limit_val_batches"):
        Trainer(default_root_dir=tmp_path, **fit).fit(method, datamodule=shoulder)
    assert bool(learned) != early


def test_a_training_that_never_validates_needs_no_auroc(tmp_path, shoulder):
    shoulder.manifest.table[shoulder.classes] = 0.0
    method = Finetune(shoulder.classes, "multilabel", backbone="resnet18", img_size=32)
    Trainer(default_root_dir=tmp_path, max_steps=1, **QUIET).fit(method, datamodule=shoulder)


def test_validation_and_test_score_studies_where_the_data_say_so(tmp_path, shoulder):
    table, train = shoulder.manifest.table, shoulder.manifest.rows("train")
    label = shoulder.manifest.labels().argmax(axis=1)
    table["patient"] = table["study"] = [f"{split}{kind}" for split, kind in zip(table["split"], label, strict=True)]
    table.loc[train, "study"] = table.loc[train, "path"]
    method = Finetune(shoulder.classes, shoulder.task, score="study", backbone="resnet18", img_size=32)
    trainer = Trainer(default_root_dir=tmp_path, max_epochs=1, limit_train_batches=1, num_sanity_val_steps=0, **QUIET)
    trainer.fit(method, datamodule=shoulder)
    selected = trainer.callback_metrics["val/auroc"].item()
    trainer.validate(method, datamodule=shoulder, verbose=False)
    figures = json.loads((tmp_path / "metrics.json").read_text())
    rows = shoulder.manifest.rows("val")
    assert figures["metrics"]["auroc_macro"]["value"] == pytest.approx(selected)
    assert (figures["unit"], figures["studies"], figures["films"]) == ("study", len(set(label[rows])), len(rows))
