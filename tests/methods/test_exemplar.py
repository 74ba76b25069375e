import logging
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from xrayssl.contrast import nt_xent
from xrayssl.errors import UserError
from xrayssl.methods import Exemplar
from xrayssl.optim import Optim

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "num_sanity_val_steps": 0}  # fmt: skip
LOG = "lightning.pytorch.utilities.rank_zero"


def exemplar(kind="auto", backbone="vit_tiny_patch16_224", **kwargs):
    torch.manual_seed(1)
    return Exemplar(
        kind, backbone=backbone, img_size=32, hidden=16, embedding=8, optim=Optim(warmup_epochs=0), **kwargs
    )


def fit(method, data, folder, **kwargs):
    options = {"default_root_dir": folder, "max_epochs": 1, "enable_checkpointing": False, **QUIET, **kwargs}
    trainer = Trainer(**options)
    trainer.fit(method, datamodule=data)
    return trainer


def in_views(data):
    data.augment = replace(data.augment, views=2)


@pytest.mark.parametrize("count", [1, 3])
def test_the_surrogate_loss_is_that_of_a_slow_recomputation(count):
    method, terms, right = exemplar("surrogate").train(), [], []
    method.classify([40, 7, 12, 30])
    views, rows, places = [torch.randn(3, 1, 32, 32) for _ in range(count)], [12, 40, 7], {7: 0, 12: 1, 30: 2, 40: 3}
    for view in views:
        for film, row in zip(view, rows, strict=True):
            feature = method.backbone(film[None]).mean(dim=(2, 3))[0].double()
            logits = torch.stack([weight.double() @ feature for weight in method.head.weight]) + method.head.bias
            terms.append(-(logits[places[row]].exp() / logits.exp().sum()).log())
            right.append(logits.argmax().item() == places[row])
    batch = {"image": views[0], "index": torch.tensor(rows), **({"views": views} if count > 1 else {})}
    found = method.losses(batch)
    assert found["loss"].item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-4)
    assert found["accuracy"].item() == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "resnet18"])
def test_the_instance_loss_is_nt_xent_of_embeddings_a_film_at_a_time(backbone):
    method, views = exemplar("instance", backbone).eval(), [torch.randn(4, 1, 32, 32) for _ in range(2)]
    units = []
    for view in views:
        pooled = torch.cat([method.backbone(film[None]).mean(dim=(2, 3)) for film in view])
        units.append(torch.stack([one / one.norm() for one in method.head(pooled)]))
    found = method.losses({"image": views[0], "views": views, "index": torch.arange(4)})
    loss, accuracy = nt_xent(units[0], units[1], 0.1)
    assert found["loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert found["accuracy"] == accuracy


@pytest.mark.parametrize(("most", "kind"), [(13, "instance"), (14, "surrogate")])
def test_the_number_of_training_films_decides_and_the_log_says_so(most, kind, shoulder, tmp_path, caplog):
    in_views(shoulder)
    films = len(shoulder.manifest.rows("train"))
    method = exemplar(most_classes=most - 14 + films)
    with caplog.at_level(logging.INFO, LOG):
        fit(method, shoulder, tmp_path, fast_dev_run=True)
    said = [record.message for record in caplog.records if record.message.startswith("Exemplar")]
    assert method.kind == kind
    assert [f"{films} training films" in line and f"kind: {kind}" in line for line in said] == [True]


def test_there_is_a_class_for_every_training_film_and_its_layer_learns(shoulder, tmp_path):
    method = exemplar("surrogate")
    trainer = fit(method, shoulder, tmp_path)
    rows = shoulder.manifest.rows("train")
    assert method.head.out_features == len(rows)
    assert method.row_N.tolist() == sorted(rows.tolist())
    trained = {id(parameter) for group in trainer.optimizers[0].param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in method.parameters()} == trained


def test_validation_films_have_no_class_so_validation_matches_views(shoulder, tmp_path):
    in_views(shoulder)
    trainer = fit(exemplar("surrogate"), shoulder, tmp_path)
    names = {name for name in trainer.callback_metrics if name.startswith("val/")}
    assert names == {"val/matched"}
    assert {"train/loss", "train/accuracy"} <= set(trainer.callback_metrics)


def test_matched_is_the_share_of_films_whose_views_find_each_other():
    method = exemplar("surrogate").eval()
    method.classify(range(5))
    views = [torch.randn(5, 1, 32, 32) for _ in range(2)]
    with torch.no_grad():
        features = [nn.functional.normalize(method.backbone(view).mean(dim=(2, 3))) for view in views]
    found = [max(range(5), key=lambda k: (film @ features[1][k]).item()) for film in features[0]]
    expected = sum(k == b for b, k in enumerate(found)) / 5
    batch = {"image": views[0], "views": views, "index": torch.full((5,), 99)}
    assert method.losses(batch)["matched"].item() == pytest.approx(expected)
    assert method.losses({**batch, "views": [views[0], views[0] + 1e-4]})["matched"] == 1


def test_one_view_is_enough_for_classes_and_validation_then_measures_nothing(shoulder, tmp_path):
    trainer = fit(exemplar("surrogate"), shoulder, tmp_path)
    assert [name for name in trainer.callback_metrics if name.startswith("val/")] == []


@pytest.mark.parametrize("options", [{"kind": "instance"}, {"kind": "auto", "most_classes": 2}])
def test_comparing_films_in_one_view_is_refused_with_the_key_to_set(options, shoulder, tmp_path):
    with pytest.raises(UserError, match=r"kind: instance.*--data\.augment\.views 2"):
        fit(exemplar(**options), shoulder, tmp_path)


def test_all_wrong_numbers_are_named_at_once():
    with pytest.raises(UserError) as caught:
        exemplar(most_classes=-1, temperature=0.0)
    assert [message.split()[0] for message in caught.value.messages] == ["model.most_classes", "model.temperature"]


def test_a_run_of_classes_is_not_resumed_as_one_of_comparisons(shoulder, tmp_path):
    in_views(shoulder)
    fit(exemplar("auto"), shoulder, tmp_path).save_checkpoint(tmp_path / "cut.ckpt")
    trainer = Trainer(default_root_dir=tmp_path, max_epochs=2, enable_checkpointing=False, **QUIET)
    with pytest.raises(UserError, match=r"model\.kind surrogate, the config says instance"):
        trainer.fit(exemplar("instance"), datamodule=shoulder, ckpt_path=str(tmp_path / "cut.ckpt"))


def test_a_film_that_is_alone_in_its_batch_has_nothing_to_be_told_from(shoulder, tmp_path):
    in_views(shoulder)
    shoulder.batch_size = 1
    with pytest.raises(UserError, match=r"batches of 2 or more films, not 1: raise --data\.batch_size"):
        fit(exemplar("instance"), shoulder, tmp_path)
