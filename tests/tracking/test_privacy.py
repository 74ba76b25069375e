import stat
from pathlib import Path

import pytest

from xrayssl.tracking.privacy import Pseudonyms, keys


@pytest.fixture(autouse=True)
def _own_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def test_a_patient_has_one_pseudonym_in_all_runs_of_a_project():
    assert Pseudonyms("p")("patient", 7) == Pseudonyms("p")("patient", "7")


def test_pseudonyms_of_two_projects_cannot_be_joined():
    assert Pseudonyms("p")("patient", 7) != Pseudonyms("q")("patient", 7)


def test_a_patient_and_a_film_of_one_name_have_two_pseudonyms():
    hide = Pseudonyms("p")
    assert hide("patient", "a").partition("-")[2] != hide("film", "a").partition("-")[2]


def test_pseudonyms_need_the_key_that_only_its_owner_reads(tmp_path):
    before = Pseudonyms("p/q")("patient", 7)
    (key,) = keys().iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.unlink()
    assert Pseudonyms("p/q")("patient", 7) != before


@pytest.mark.parametrize("text", ["/data/films", "films/of/ward", "~/films", "C:\\films", "~alice"])
def test_paths_are_hidden_wherever_they_stand(text):
    hidden = Pseudonyms("p").hidden({"corpora": {"nih": text, "rsna": [{"root": text}]}, text: 1})
    assert text not in str(hidden)
    assert set(hidden) > {"corpora"}


def test_a_path_object_is_hidden_too():
    assert Pseudonyms("p").hidden([Path("films")])[0].startswith("path-")


def test_the_name_of_this_machine_is_hidden(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "ward7")
    assert Pseudonyms("p").hidden("node ward7:8080").startswith("path-")


@pytest.mark.parametrize("value", ["vit_small_patch16_224", "16-mixed", 0.1, None, True, "xrayssl.methods.Finetune"])
def test_what_is_no_path_stays(value):
    assert Pseudonyms("p").hidden(value) is value
