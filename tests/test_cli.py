import resource
import subprocess
import sys
import time

import pytest

from xrayssl import cli, recipes
from xrayssl.cli import main
from xrayssl.errors import UserError


def test_help_names_every_verb(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in cli.VERBS)


def test_no_words_at_all_show_the_help(capsys):
    assert main([]) == 0
    assert "usage: xrayssl VERB" in capsys.readouterr().out


def test_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("xrayssl 0.")


def test_a_mistyped_verb_is_suggested(capsys):
    assert main(["tset"]) == 2
    assert "Did you mean test?" in capsys.readouterr().err


def test_an_unknown_verb_points_to_the_help(capsys):
    assert main(["zzzz"]) == 2
    assert "xrayssl --help" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["configs"], ["--version"], ["fit", "--help"]])
def test_what_needs_no_training_answers_at_once(words):
    walls, works = [], []
    for _ in range(5):
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "xrayssl", *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - start)
        works.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(works) < 0.3
    assert min(walls) < 1.0


def test_the_front_door_imports_nothing_heavy():
    code = "import sys, xrayssl.cli, xrayssl.train; sys.exit(any(n in sys.modules for n in ('torch', 'yaml', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def raising(error):
    def function(argv):
        raise error

    return function


def test_every_message_of_a_mistake_stands_on_its_own_line(monkeypatch, capsys):
    monkeypatch.setattr(cli, "command", lambda name: raising(UserError("one.", "two.")))
    assert main(["fit"]) == 2
    assert capsys.readouterr().err == "xrayssl: one.\nxrayssl: two.\n"


def test_ctrl_c_exits_130_with_the_sentence_on_how_to_go_on(monkeypatch, capsys):
    monkeypatch.setattr(cli, "command", lambda name: raising(KeyboardInterrupt("go on like this")))
    assert main(["fit"]) == 130
    assert "go on like this" in capsys.readouterr().err


def test_a_bug_is_not_dressed_up_as_a_mistake(monkeypatch):
    monkeypatch.setattr(cli, "command", lambda name: raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main(["fit"])


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    (tmp_path / "mae_chest.yaml").write_text("# A masked autoencoder\nmodel: x\n")
    (tmp_path / "silent.yaml").write_text("model: x\n")
    monkeypatch.setattr(recipes, "folders", lambda: [tmp_path])
    return tmp_path


def test_configs_lists_names_with_their_first_comment(shelf, capsys):
    assert main(["configs"]) == 0
    assert capsys.readouterr().out == "mae_chest  A masked autoencoder\nsilent\n"


def test_a_packaged_configuration_is_found_with_and_without_its_suffix(shelf):
    assert recipes.find("mae_chest") == recipes.find("mae_chest.yaml") == shelf / "mae_chest.yaml"


def test_an_existing_file_goes_before_a_packaged_name(shelf, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "mae_chest.yaml").write_text("")
    assert recipes.find("mae_chest.yaml").resolve() == tmp_path / "here" / "mae_chest.yaml"


def test_an_unknown_configuration_is_suggested(shelf):
    with pytest.raises(UserError, match="Did you mean mae_chest") as error:
        recipes.find("mae_chets.yaml")
    assert "xrayssl configs" in str(error.value)


def test_every_packaged_configuration_says_what_it_is():
    assert all(recipes.describe(path) for path in recipes.packaged().values())


PARENTS = [{"method": "MAE", "sha256": "ab"}]
FACTS = {"architecture": "vit", "parameters": 22000000, "parents": PARENTS, "keys": {"w": [1]}}


def test_inspect_prints_facts_for_reading(monkeypatch, capsys):
    monkeypatch.setattr("xrayssl.handoff.describe", lambda path: FACTS)
    assert main(["inspect", "x.ckpt"]) == 0
    assert "22,000,000" in (out := capsys.readouterr().out)
    assert "method: MAE" in out
    assert "keys" not in out


def test_inspect_prints_json_on_request(monkeypatch, capsys):
    monkeypatch.setattr("xrayssl.handoff.describe", lambda path: FACTS)
    assert main(["inspect", "x.ckpt", "--json"]) == 0
    assert '"parameters": 22000000' in capsys.readouterr().out


def test_inspect_wants_one_file(capsys):
    assert main(["inspect"]) == 2
    assert "takes one" in capsys.readouterr().err
