import argparse

import pytest

from xrayssl import diagnose
from xrayssl.cli import main
from xrayssl.data import XrayDataModule
from xrayssl.methods import MAEPretrain, Method
from xrayssl.spelling import english

GOOD = ["--model", "MAEPretrain", "--data", "ChestXrayDataModule"]
KNOWN = argparse.Namespace(seed_everything=0, trainer=None, model=None, data=None, wandb=None, ckpt_path=None)


class Parser:
    def get_defaults(self, skip_validation):
        return KNOWN


def explained(*words):
    return diagnose.explain(words, {"model": Method, "data": XrayDataModule}, Parser())


def test_what_is_right_is_not_complained_about():
    assert explained(*GOOD, "--data.batch_size", "8", "--model.optim.lr", "1e-3", "--data.corpora.nih", "/x") == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model.decoder_widht", "3"], "MAEPretrain has no option decoder_widht. Did you mean decoder_width?"),
        (["--model.optim.lrr", "3"], "Optim has no option lrr. Did you mean lr?"),
        (["--model.optim.lr", "fast"], "--model.optim.lr: expected a number, got 'fast'."),
        (
            ["--model.masking.plus", '[{"kind": "grid"}, {"kind": "centre"}]'],
            "--model.masking.plus[1].kind: expected one of uniform, center, image, block, grid, got 'centre'.",
        ),
        (["--model.masking.plus", '[{"kid": "grid"}]'], "plus[0].kid: Map has no option kid. Did you mean kind?"),
        (["--model.masking.plus", "[center]"], "--model.masking.plus: expected a list"),
        (["--model.masking.plus", "[center"], "--model.masking.plus: expected a list"),
        (["--model.masking", '{"ratio": "high"}'], "--model.masking.ratio: expected a number, got 'high'."),
        (["--data.batch_size", "x"], "--data.batch_size: expected a whole number, got 'x'."),
        (["--data.on_error", "ignore"], "expected one of raise, quarantine"),
        (["--trainer.max_epoch", "3"], "Trainer has no option max_epoch. Did you mean max_epochs?"),
        (["--trainer.max_epochs", "many"], "expected a whole number or null"),
        (["--wandb.mode", "no"], "expected one of auto, offline, online, disabled"),
        (["--seed", "3"], "Did you mean seed_everything?"),
        (["--lr", "3"], "Did you mean --model.optim.lr?"),
        (["--batch_size", "3"], "Did you mean --data.batch_size?"),
        (["stray"], "the word 'stray' stands alone"),
        (["--model.optim.lr"], "needs a value"),
    ],
)
def test_a_mistake_is_named_in_a_sentence(words, sentence):
    (message,) = explained(*GOOD, *words)
    assert sentence in message


def test_a_class_that_does_not_exist_is_suggested():
    assert "Did you mean MAEPretrain?" in explained("--model", "MAEPretrian", "--data", "ChestXrayDataModule")[0]
    assert "Did you mean ChestXrayDataModule?" in explained("--model", "MAEPretrain", "--data", "ChestDataModule")[0]


def test_a_class_of_another_kind_is_refused():
    assert "is no Method" in explained("--model", "torch.nn.Linear", "--data", "ChestXrayDataModule")[0]


def test_without_model_and_data_both_are_asked_for():
    assert [message.split(":")[0] for message in explained()] == ["no model is named", "no data is named"]


BAD = """
seed: 3
model:
  class_path: MAEPretrain
  backbone: vit
  init_args: {decoder_widht: 3, masking: {ratio: hi, knd: 3}}
data:
  class_path: ChestXrayDataModule
  init_args: {batch_size: x}
trainer: {max_epochs: many, precison: 32}
"""


def test_every_mistake_of_a_file_is_listed_with_its_place(tmp_path):
    (tmp_path / "bad.yaml").write_text(BAD)
    found = explained("--config", str(tmp_path / "bad.yaml"))
    places = {message.split(": ")[1] for message in found}
    assert places == {
        "seed", "model.backbone", "model.init_args.decoder_widht", "model.init_args.masking.ratio",
        "model.init_args.masking.knd", "data.init_args.batch_size", "trainer.max_epochs", "trainer.precison",
    }  # fmt: skip
    assert len(found) == len(places)


def test_values_for_a_class_that_is_replaced_later_are_not_checked(tmp_path):
    (tmp_path / "mae.yaml").write_text("model: {class_path: MAEPretrain, init_args: {target: pixels}}")
    words = ["--config", str(tmp_path / "mae.yaml"), "--model", "RotationProxy", "--data", "ChestXrayDataModule"]
    assert explained(*words) == []


@pytest.mark.parametrize(("text", "sentence"), [("a: [", "line 1"), ("- 1", "maps names to values")])
def test_a_file_that_is_no_configuration_is_named(tmp_path, text, sentence):
    (tmp_path / "bad.yaml").write_text(text)
    assert sentence in explained("--config", str(tmp_path / "bad.yaml"), *GOOD)[0]


@pytest.mark.parametrize("name", ["classes", "task", "img_size"])
def test_what_comes_from_the_data_is_not_set_on_the_model(name):
    (message,) = diagnose.derived([*GOOD, f"--model.{name}", "3"], ("classes", "task", "img_size"))
    assert f"the model takes {name} from the data" in message


def test_all_mistakes_reach_stderr_without_a_stack_trace(capsys):
    assert main(["fit", *GOOD, "--model.img_size", "3", "--data.batch_size", "x", "--lr", "1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("xrayssl: ") for line in lines)


def test_a_derived_value_alone_is_refused_too(capsys, tmp_path):
    assert main(["fit", *GOOD, "--model.img_size", "3", "--out", str(tmp_path / "r")]) == 2
    assert "set data.img_size" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_what_a_constructor_refuses_is_told_in_its_own_words(capsys):
    assert main(["fit", *GOOD, "--data.corpora.folder", "/nowhere/at/all"]) == 2
    assert "xrayssl: /nowhere/at/all" in capsys.readouterr().err


def test_values_that_a_mask_a_decoder_and_an_optimiser_refuse_are_told_at_once(capsys):
    words = ["--data.corpora.folder", "/nowhere", "--model.masking.ratio", "1", "--model.decoder_depth", "13",
             "--model.masking.plus", '[{"kind": "center", "floor": 2}, {"kind": "image"}]', "--model.optim.lr", "-1",
             "--model.backbone", "vit_tiny_patch16_224", "--data.img_size", "32"]  # fmt: skip
    assert main(["fit", *GOOD, *words]) == 2
    told = [line.removeprefix("xrayssl: ").split(" ")[0] for line in capsys.readouterr().err.splitlines()]
    assert set(told) >= {"/nowhere:", "--model.masking.ratio", "--model.masking.plus.floor", "model.optim.lr",
                         "--model.masking.plus.kind", "--model.decoder_depth:"}  # fmt: skip
    assert len(told) == len(set(told))


def test_arguments_of_parents_count_as_accepted():
    assert {"backbone", "init_from", "decoder_width", "optim"} <= set(diagnose.parameters(MAEPretrain))


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int | None, "a whole number or null"),
        (list[str], "a list, each text"),
        (tuple[float, float], "a list of 2 values, each a number"),
        (dict[str, int], "a mapping of names to values"),
        (bool, "true or false"),
    ],
)
def test_types_are_said_in_words(hint, words):
    assert english(hint) == words
