import html
import json
import re

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from phantoms import small

from xrayssl import cli
from xrayssl.border import bordering, finding
from xrayssl.data import ChestXrayDataModule
from xrayssl.data.augment import Augment
from xrayssl.data.resizing import in_circle
from xrayssl.errors import UserError
from xrayssl.methods import RotationProxy
from xrayssl.optim import Optim
from xrayssl.study.report import write_report

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "num_sanity_val_steps": 0, "enable_checkpointing": False}  # fmt: skip


def test_all_four_turns_of_every_film_stand_in_the_batch():
    method, seen = RotationProxy(backbone="resnet18", img_size=32).eval(), []
    method.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.randn(3, 1, 32, 32)
    method.losses({"image": image})
    turned = seen[0].reshape(4, 3, 1, 32, 32)
    assert all(torch.equal(turned[k], torch.rot90(image, k, (2, 3))) for k in range(4))


def test_four_quarter_turns_are_the_identity():
    image = torch.randn(2, 1, 8, 8)
    assert torch.equal(image.rot90(1, (2, 3)).rot90(3, (2, 3)), image)


def test_the_loss_is_that_of_a_slow_recomputation():
    method, image = RotationProxy(backbone="resnet18", img_size=32).eval(), torch.randn(2, 1, 32, 32)
    found, terms = method.losses({"image": image}), []
    for turn in range(4):
        for film in image:
            logits = method.head(method.backbone(torch.rot90(film[None], turn, (2, 3))))[0]
            terms.append(-logits.log_softmax(0)[turn])
    assert found["loss"].item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-4)


def test_films_that_are_not_square_are_refused():
    with pytest.raises(UserError, match="square"):
        RotationProxy(backbone="resnet18", img_size=(32, 64))


def test_all_that_makes_no_sense_is_said_at_once():
    with pytest.raises(UserError) as caught:
        RotationProxy(see="nothing", border=0.5, backbone="resnet18", img_size=(32, 64))
    assert all(word in text for word, text in zip(["square", "see", "border"], caught.value.messages, strict=True))
    with pytest.raises(UserError, match="less than a pixel"):
        RotationProxy(see="border", border=0.01, backbone="resnet18", img_size=32)


@pytest.mark.parametrize("side", [*range(1, 66), 224, 255])
def test_no_turn_changes_the_circle_or_the_border(side):
    circle = in_circle(np.full((side, side), 255, np.uint8))
    shapes = [circle, *(bordering(side, 0.125, ring).numpy() for ring in (False, True))]
    assert all(np.array_equal(shape, np.rot90(shape, turns)) for shape in shapes for turns in range(1, 4))


def test_nothing_outside_the_circle_depends_on_the_film_after_any_turn():
    rng = np.random.default_rng(0)
    films = [torch.from_numpy(in_circle(rng.integers(1, 256, (224, 224), dtype=np.uint8))) for _ in range(2)]
    outside = torch.from_numpy(in_circle(np.full((224, 224), 255, np.uint8))) == 0
    for turns in range(4):
        turned = [film.rot90(turns) for film in films]
        assert torch.equal(turned[0][outside], turned[1][outside])
        corners = [film.unfold(0, 16, 16).unfold(1, 16, 16)[[0, 0, -1, -1], [0, -1, 0, -1]] for film in turned]
        assert corners[0].eq(0).all()  # a ViT's corner patches are one and the same
        assert corners[1].eq(0).all()


def test_the_frame_is_as_wide_as_was_asked_for():
    frame = bordering(32, 0.125, circle=False)
    assert (frame[4:28, 4:28].sum().item(), frame.sum().item()) == (0, 32**2 - 24**2)


def test_the_ring_lies_inside_the_circle_and_is_as_wide_as_was_asked_for():
    ring = bordering(64, 0.125, circle=True)
    inside = torch.from_numpy(in_circle(np.full((64, 64), 1, np.uint8))).bool()
    assert not ring[~inside].any()
    assert (ring[32].nonzero().flatten().tolist()) == [*range(8), *range(56, 64)]
    assert ring.sum().item() == pytest.approx(np.pi * (32**2 - 24**2), rel=0.02)


@pytest.mark.parametrize("circle", [False, True])
def test_the_control_sees_the_border_and_nothing_else(circle):
    method = RotationProxy(see="border", backbone="resnet18", img_size=32).train()
    method.circle, seen = circle, []
    method.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    border, one, two = bordering(32, 0.125, circle), torch.randn(2, 1, 32, 32), torch.randn(2, 1, 32, 32)
    for image in (one, torch.where(border, one, two), torch.where(border, two, one)):
        method.losses({"image": image})
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert seen[0][:, :, ~border].eq(0).all()


def control(folder, augment=Augment(), **kwargs):  # noqa: B008 - frozen
    data = ChestXrayDataModule(small("chest", 48), img_size=32, batch_size=4, num_workers=0, augment=augment)
    method = RotationProxy(see="border", backbone="resnet18", img_size=32, optim=Optim(lr=1e-3, warmup_epochs=0))
    trainer = Trainer(default_root_dir=folder, max_epochs=1, **{**QUIET, **kwargs})
    trainer.fit(method, datamodule=data)
    return trainer, data


def test_a_control_says_at_its_end_how_much_the_border_tells(tmp_path, caplog):
    caplog.set_level("INFO")
    trainer, data = control(tmp_path)
    (sentence,) = [record.message for record in caplog.records if "border alone" in record.message]
    value, low, high, films, patients = re.search(
        r"wide\) ([\d.]+) %.*interval ([\d.]+)-([\d.]+) %; (\d+) validation films, bootstrap over (\d+) patients",
        sentence,
    ).groups()
    rows = data.manifest.rows("val")
    assert (int(films), int(patients)) == (len(rows), data.manifest.table["patient"].iloc[rows].nunique())
    assert float(value) == pytest.approx(100 * trainer.callback_metrics["val/accuracy"].item(), abs=0.051)
    assert float(low) <= float(value) <= float(high)
    assert "frame" in sentence


def test_a_control_sees_a_ring_where_the_data_show_a_circle(tmp_path, caplog):
    caplog.set_level("INFO")
    control(tmp_path, Augment(circle=True), fast_dev_run=True)
    assert "(ring inside the circle, 0.125 of the side wide)" in caplog.text


def test_a_control_without_validation_says_that_it_found_nothing(tmp_path, caplog):
    caplog.set_level("INFO")
    control(tmp_path, check_val_every_n_epoch=2, num_sanity_val_steps=1)
    assert "nothing is known of the border" in caplog.text


ABOVE, CHANCE = {"value": 0.6, "low": 0.5, "high": 0.7}, {"value": 0.27, "low": 0.22, "high": 0.32}


def test_a_shortcut_is_named_with_the_remedies_that_are_off():
    sentence = finding(ABOVE, "9 films", "frame", ["circle", "gamma"])
    assert sentence.endswith("--data.augment.circle true --data.augment.gamma 0.2")
    assert "60.0 %" in sentence
    assert "every remedy in use" in finding(ABOVE, "9 films", "frame", [])


def test_what_the_border_tells_a_little_is_called_a_little():
    slight = {"value": 0.261, "low": 0.253, "high": 0.271}
    assert "a little of rotation can be learned there" in finding(slight, "9 films", "frame", ["circle"])
    assert "a little" not in finding(ABOVE, "9 films", "frame", ["circle"])


def test_a_network_that_is_not_ready_gives_no_all_clear():
    constant = {"value": 0.25, "low": 0.25, "high": 0.25}
    unready = finding(constant, "9 films", "frame", [], trained=0.52)
    assert "52 % of the training films': no verdict" in unready and "--trainer.max_epochs" in unready
    assert "no shortcut" in finding(constant, "9 films", "frame", [], trained=0.27)


def test_a_control_keeps_its_answer_and_hands_nothing_on(tmp_path, caplog):
    caplog.set_level("INFO")
    data = {"data.corpora": json.dumps(small("chest", 48)), "data.img_size": "32", "data.batch_size": "4",
            "data.num_workers": "0", "trainer.max_epochs": "1", "trainer.accelerator": "cpu"}  # fmt: skip
    words = [word for name, value in data.items() for word in (f"--{name}", value)]
    assert cli.main(["fit", "--config", "rotation_border_control", "--out", str(tmp_path / "run"), *words]) == 0
    kept = json.loads((tmp_path / "run" / "border.json").read_text())
    assert kept["words"] in caplog.text and kept["chance"] == 0.25
    assert kept["accuracy"]["low"] <= kept["accuracy"]["value"] <= kept["accuracy"]["high"]
    assert not (tmp_path / "run" / "backbone.safetensors").exists()
    assert "Next:" not in caplog.text and "It was a control" in caplog.text
    write_report([tmp_path / "run"], tmp_path / "page.html")
    assert html.escape(kept["words"], quote=False)[:60] in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("accuracy", [CHANCE, {"value": 0.9, "low": None, "high": None}])
def test_what_chance_can_do_is_no_shortcut(accuracy):
    assert finding(accuracy, "9 films", "frame", ["circle"]).endswith("show no shortcut there.")
