import logging

import pytest
import torch
from lightning.pytorch import Trainer
from tokenizers import untrained

from xrayssl import checkpoint, tokenizer
from xrayssl.errors import UserError
from xrayssl.methods import DVAE
from xrayssl.methods.dvae import _divergence

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
         "use_distributed_sampler": False, "enable_checkpointing": False}  # fmt: skip


def tiny(**kwargs):
    torch.manual_seed(2)
    return DVAE(**{"backbone": "vit_tiny_patch16_224", "img_size": 32, "codes": 12, "code_width": 8, **kwargs})


def fit(method, data, folder, **kwargs):
    trainer = Trainer(default_root_dir=folder, **{"max_epochs": 1, **QUIET, **kwargs})
    trainer.fit(method, datamodule=data)
    return trainer


def test_validation_takes_the_likeliest_code_of_each_place():
    method, image = tiny().eval(), torch.randn(3, 1, 32, 32)
    code_Bhw = method.codes.logits(method.backbone(image)).argmax(1)
    features_BEhw = method.codes.book.weight[:, :, 0, 0].T[code_Bhw].movedim(-1, 1)
    cells = method.codes.pixels(method.codes.blocks(features_BEhw))
    error = [
        ((cells[film, :, row, column].view(16, 16) - image[film, 0, 16 * row :, 16 * column :][:16, :16]) ** 2).mean()
        for film in range(3) for row in range(2) for column in range(2)
    ]  # fmt: skip
    torch.testing.assert_close(method.losses({"image": image})["loss"], torch.stack(error).mean())


def test_the_divergence_is_that_from_a_uniform_distribution():
    logits = torch.randn(2, 6, 3, 3)
    uniform = torch.full((2, 3, 3, 6), 1 / 6)
    posterior = torch.distributions.Categorical(logits=logits.movedim(1, -1))
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Categorical(uniform)).mean()
    torch.testing.assert_close(_divergence(logits), expected)


def test_the_loss_in_training_is_the_error_and_the_weighted_divergence():
    losses = tiny(kl_weight=0.5).train().losses({"image": torch.randn(2, 1, 32, 32)})
    torch.testing.assert_close(losses["loss"], losses["error"] + 0.5 * losses["divergence"])


def test_the_temperature_falls_by_half_a_cosine_and_then_stays(monkeypatch):
    method, heats = tiny(temperature=1.0, temperature_end=0.2, anneal=0.5), []
    for progress in (0.0, 0.25, 0.5, 1.0):
        monkeypatch.setattr(DVAE, "progress", progress)
        heats.append(method.heat)
    assert heats == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_a_cold_mixture_is_a_single_code(monkeypatch):
    mixtures, method = [], tiny(temperature=1e-4, temperature_end=1e-4).train()
    monkeypatch.setattr(method.codes, "decode", lambda share: mixtures.append(share) or torch.zeros(2, 1, 32, 32))
    method.losses({"image": torch.randn(2, 1, 32, 32)})
    assert mixtures[0].amax(1).min() > 0.99


def test_the_use_of_the_codebook_is_logged(chest, tmp_path):
    trainer = fit(tiny(), chest, tmp_path)
    figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert 1 <= figures["val/perplexity"] <= figures["val/codes_used"] <= 12


@pytest.fixture
def validated(monkeypatch, caplog):
    """Ends a validation in which codes were used so often; gives the figures and the warnings."""
    state = type("F", (), {"fn": "fit"})
    reduce = staticmethod(lambda value, reduce_op: value)
    monkeypatch.setattr(DVAE, "trainer", type("T", (), {"strategy": type("S", (), {"reduce": reduce}), "state": state}))
    monkeypatch.setattr(DVAE, "progress", 1.0)

    def end(method, used):
        logged = {}
        monkeypatch.setattr(method, "log", lambda name, value, **_: logged.update({name: float(value)}))
        method.used_K.zero_()[: len(used)] = torch.tensor(used, dtype=torch.float32)
        method.on_validation_epoch_end()
        return logged, [record.getMessage() for record in caplog.records if "collapsed" in record.getMessage()]

    return end


def test_the_perplexity_counts_codes_that_are_used_alike(validated):
    assert validated(tiny(), [5, 5, 5, 5])[0] == {"val/codes_used": 4, "val/perplexity": pytest.approx(4)}


def test_a_collapsed_codebook_is_said_in_words_once_and_a_lively_one_is_not(validated):
    method = tiny(codes=12)
    assert validated(method, [3] * 12)[1] == []
    assert ["use 2 of 12 codes, as unevenly as 1.1" in text for text in validated(method, [99, 1])[1]] == [True]
    assert len(validated(method, [99, 1])[1]) == 1


def test_a_codebook_that_collapses_in_training_is_said_so(chest, tmp_path, caplog):
    method = tiny(codes=200)
    with torch.no_grad():
        method.codes.logits.bias[3] += 1000
    with caplog.at_level(logging.WARNING, "xrayssl.methods.dvae"):
        fit(method, chest, tmp_path, max_epochs=3)
    assert ["use 1 of 200 codes" in r.getMessage() for r in caplog.records if "collapsed" in r.getMessage()] == [True]


def test_its_checkpoint_is_the_tokenizer(tmp_path, chest):
    method = tiny()
    fit(method, chest, tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    reader, grey = tokenizer.load(tmp_path / "last.ckpt"), torch.rand(2, 1, 32, 32)
    method.eval()
    expected = method.codes.logits(method.backbone(method.backbone.normalize(grey))).argmax(1).flatten(1)
    assert torch.equal(reader.encode(grey), expected)


def test_a_run_is_read_at_its_last_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    untrained(tmp_path / "checkpoints" / "last.ckpt", codes=7)
    assert tokenizer.load(tmp_path).codes.book.in_channels == 7
    assert "codes.book.weight" in checkpoint.load(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.mark.parametrize(("backbone", "size"), [("vit_tiny_patch16_224", (32, 64)), ("resnet18", (64, 96))])
def test_any_backbone_and_shape_of_film_will_do(backbone, size):
    method, image = tiny(backbone=backbone, img_size=size).train(), torch.randn(2, 1, *size)
    method.losses({"image": image})["loss"].backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    painted, mask = method.eval().reconstruct(image)
    assert (painted.shape, mask.any().item()) == (image.shape, False)


def test_a_grid_that_does_not_divide_the_film_is_refused():
    with pytest.raises(UserError, match="no whole number of pixels"):
        tiny(backbone="resnet18", img_size=70)


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(UserError) as caught:
        tiny(codes=1, temperature=0.0, anneal=2.0, kl_weight=-1.0, code_width=0)
    assert len(caught.value.messages) == 5
