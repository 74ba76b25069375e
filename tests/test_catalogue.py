"""The catalogue of methods is generated from the code, complete, up to date and true."""

import re
from pathlib import Path

import pytest

from xrayssl import catalogue, methods, recipes
from xrayssl.catalogue import Entry, entries, kinds, markdown, paragraph, row, sentence
from xrayssl.cli import main
from xrayssl.errors import UserError

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"
BACKBONES = {"ViT": "vit_tiny_patch16_224", "CNN": "resnet18"}


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text() == markdown(), "run `xrayssl methods --write docs/methods.md`"


def test_every_method_of_the_package_is_listed_and_method_itself_is_not():
    assert {stage.name for stage in entries()} == set(methods.__all__) - {"Method"}


def test_every_packaged_configuration_is_listed_once():
    listed = [name for stage in entries() for name in stage.configs]
    assert sorted(listed) == sorted(recipes.packaged())


@pytest.mark.parametrize("stage", entries(), ids=lambda stage: stage.name)
def test_every_method_says_what_it_does_its_loss_its_papers_and_has_a_configuration(stage):
    assert 15 < len(stage.does) < 200 and 15 < len(stage.loss) < 200
    assert stage.papers and stage.configs and stage.needs
    assert "arXiv" not in stage.does + stage.loss and not stage.does.endswith(".")


def build(kind, network):
    given = {"classes": ["a", "b"], "task": "multiclass"} if kind is methods.Finetune else {}
    return kind(backbone=BACKBONES[network], img_size=96, **given)


@pytest.mark.parametrize("network", BACKBONES)
@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_a_method_takes_the_networks_it_names_and_refuses_the_other_kind(kind, network):
    if network in kind.networks:
        assert build(kind, network).backbone.width
    else:
        with pytest.raises((UserError, ValueError)):
            build(kind, network)


def test_a_first_sentence_is_free_of_papers_and_of_its_full_stop():
    doc = "Hides patches (He et al. 2021, arXiv:2111.06377), as Xiao et al. did. More\nof it (eq. 2)."
    assert sentence(doc) == "Hides patches, as Xiao et al. did"


def test_papers_are_found_however_they_are_written():
    said = "A (Noroozi & Favaro 2016, arXiv:1603.09246). Xiao et al. 2022 (arXiv:2210.12843); Jang et al. 2014, "
    found = dict(catalogue.PAPER.findall(f"{said}arXiv:1406.6909."))
    assert found == {"Noroozi & Favaro 2016": "1603.09246", "Xiao et al. 2022": "2210.12843",
                     "Jang et al. 2014": "1406.6909"}  # fmt: skip


def test_papers_of_arguments_alone_are_not_the_methods(monkeypatch):
    class Silent(methods.Method):
        """Does it (Doe et al. 2001, arXiv:0101.00001).

        Args:
            way: As others (Roe et al. 2002, arXiv:0202.00002).
        """

        def losses(self, batch):
            """Nothing. At all."""

    assert catalogue.entry(Silent, ["x"]) == Entry(
        "Silent", "Does it", "Nothing", {"Doe et al. 2001": "0101.00001"}, ["x"], ["ViT or CNN"]
    )


STAGE = Entry("Some", "Does a | b", "A loss", {"Doe et al. 2001": "0101.00001"}, ["one", "two"], ["CNN", "labels"])


def test_a_row_links_its_papers_and_keeps_its_columns():
    assert row(STAGE) == (
        "| Does a \\| b | `Some` | A loss | [Doe et al. 2001](https://arxiv.org/abs/0101.00001) | `one`, `two` "
        "| CNN; labels |\n"
    )


def test_a_paragraph_fits_a_terminal_and_names_everything():
    long = Entry("Some", "word " * 40, "loss " * 40, STAGE.papers, ["config"] * 30, ["needs"] * 30)
    assert max(map(len, paragraph(long).splitlines())) <= 120
    assert re.findall(r"^  (\w+) ", paragraph(STAGE), re.MULTILINE) == ["Does", "loss", "papers", "configs", "needs"]


def test_the_verb_prints_every_method_and_writes_the_page(tmp_path, capsys):
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{kind.__name__}\n" in printed for kind in kinds())
    assert main(["methods", "--write", str(tmp_path / "methods.md")]) == 0
    assert (tmp_path / "methods.md").read_text() == markdown()


def test_a_place_that_cannot_be_written_is_refused(tmp_path, capsys):
    assert main(["methods", "--write", str(tmp_path / "none" / "methods.md")]) == 2
    assert "cannot be written" in capsys.readouterr().err
