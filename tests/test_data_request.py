import subprocess
import sys
from pathlib import Path

import pytest
from phantoms import small

from xrayssl.data import ChestXrayDataModule, ShoulderXrayDataModule, XrayDataModule
from xrayssl.data_request import Options, parse
from xrayssl.errors import UserError


@pytest.fixture
def options():
    options = Options("prepare", "--out DIR", "What it does.")
    options.add_argument("--out", type=Path)
    options.add_argument("--size", type=int, default=512)
    options.add_argument("--trim", action="store_true")
    return options


def refusals(options, *words):
    with pytest.raises(UserError) as raised:
        parse(options, words)
    return raised.value.messages


def test_corpora_and_own_options_may_stand_in_any_order(options):
    request = parse(options, ["--trim", "--data.corpora.nih", "/a", "--out=/o", "--data.corpora.folder.root", "/b"])
    assert request.corpora == {"nih": "/a", "folder": {"root": "/b"}}
    assert (request.own.out, request.own.size, request.own.trim) == (Path("/o"), 512, True)
    assert request.kind is XrayDataModule


def test_the_options_of_a_corpus_come_as_they_were_typed(options):
    words = ["--data.corpora.folder", "/b", "--data.corpora.folder.patient", r"(\w+)\\\d"]
    assert parse(options, words).corpora == {"folder": {"root": "/b", "patient": r"(\w+)\\\d"}}


def test_a_configuration_gives_its_data_and_nothing_else(options):
    request = parse(options, ["-c", "finetune_shoulder", "--data.augment.flip", "0", "--data.augment.randaug", "null"])
    assert request.kind is ShoulderXrayDataModule
    assert request.arguments["augment"]["flip"] == 0 and request.arguments["augment"]["randaug"] is None
    assert request.corpora == {"phantom": {"body": "shoulder"}}


def test_later_configurations_and_options_win(options, tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {init_args: {split_seed: 3, val: 0.3}}\nmodel: {class_path: Nowhere}\n")
    request = parse(options, ["--config", "mae_chest", "--config", str(tmp_path / "mine.yaml"), "--data.val", "0.1"])
    assert request.kind is ChestXrayDataModule
    assert (request.arguments["split_seed"], request.arguments["val"]) == (3, 0.1)


def test_the_module_is_what_fit_would_make(options):
    words = [f"--data.corpora.phantom.{name}={value}" for name, value in small("shoulder")["phantom"].items()]
    request = parse(options, ["--data", "ShoulderXrayDataModule", *words])
    assert isinstance(request.module, ShoulderXrayDataModule)
    assert len(request.manifest) == 24


def test_what_a_constructor_refuses_is_said_in_its_words(options):
    with pytest.raises(UserError, match=r"--data\.val must be a share"):
        _ = parse(options, ["--data.val", "2"]).module


def test_a_corpus_with_two_folders_is_refused_for_one_would_be_forgotten(options):
    told = refusals(options, "--data.corpora.folder", "/a", "--data.corpora.nih", "/n", "--data.corpora.folder=/b")
    assert len(told) == 1 and told[0].startswith("--data.corpora.folder is given 2 times and takes one folder;")


def test_every_mistake_is_told_at_once(options):
    told = refusals(options, "--size", "x", "--config", "mae_chst", "--data.labls", "3", "--data.batch_size", "y")
    assert len(told) == 4
    assert told[0].startswith("--size: ") and told[3].startswith("--data.batch_size: ")
    assert "Did you mean mae_chest?" in told[1] and "Did you mean labels?" in told[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--sise", "3"], "Did you mean size?"),
        (["--batch_size", "3"], "Did you mean --data.batch_size?"),
        (["--out"], "--out: expected a value."),
        (["--data.val"], "--data.val needs a value."),
        (["stray"], "the word 'stray' stands alone"),
        (["--data", "ChestDataModule"], "Did you mean ChestXrayDataModule?"),
    ],
)
def test_a_mistake_is_named_in_a_sentence(words, sentence, options):
    (message,) = refusals(options, *words)
    assert sentence in message


def test_a_mistake_in_a_file_is_told_with_its_place(options, tmp_path):
    (tmp_path / "mine.yaml").write_text("trainer: 3\ndata: {class_path: ChestXrayDataModule, init_args: {valt: 1}}\n")
    assert refusals(options, "--config", str(tmp_path / "mine.yaml")) == [
        "mine.yaml: data.init_args.valt: ChestXrayDataModule has no option valt. Did you mean val?"
    ]


def test_help_answers_without_anything_heavy():
    code = (
        "import sys; from xrayssl.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert end.code == 0\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'yaml', 'numpy', 'requests')))"
    )
    for words in (["data"], ["data", "check", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "usage: xrayssl data" in done.stdout
