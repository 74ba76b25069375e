import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xrayssl.cli import main
from xrayssl.data.corpora.phantom import manifest
from xrayssl.data.exclusion import exclude
from xrayssl.data.radiograph import read


@pytest.fixture(scope="module")
def phantoms():
    return manifest(None, body="chest", films=40, size=128, seed=3).table.drop_duplicates("patient")["path"].tolist()


@pytest.fixture
def corpus(phantoms, tmp_path):
    """Two classes, split by folder, no film twice."""
    for place, path in enumerate(phantoms[:16]):
        folder = tmp_path / "films" / ("train" if place < 12 else "test") / ("well" if place % 2 else "ill")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{place:02d}.png")
    return tmp_path / "films"


def check(corpus, *words, out="out"):
    folder = corpus.parent / out
    status = main(
        ["data", "check", "--data.corpora.folder", str(corpus), "--workers", "0", "--out", str(folder), *words]
    )
    return status, folder


def report(folder):
    return json.loads((folder / "report.json").read_text())


def copy_of(path, target):
    """Smaller and brighter."""
    small = Image.fromarray(read(path).pixels).resize((100, 120))
    Image.fromarray((255 * (np.asarray(small) / 255.0) ** 0.8).astype(np.uint8)).save(target)


def test_a_sound_corpus_is_counted_and_passes(corpus, capsys):
    status, folder = check(corpus)
    out = capsys.readouterr().out
    assert status == 0
    assert "copies      none" in out and "leaks       none" in out and "unreadable  none" in out
    counts = report(folder)["corpora"]["folder"]
    assert counts["films"]["all"] == 16 and counts["films"]["test"] == 4
    assert counts["labels"]["ill"]["all"] == 8
    assert counts["bits"] == {"8": 16}


def test_every_film_is_listed_with_what_is_known_of_it(corpus):
    films = pd.read_csv(check(corpus)[1] / "films.csv")
    assert len(films) == 16
    assert films["film_width"].min() == 128 and films["bits"].unique().tolist() == [8]
    assert films["checksum"].str.len().unique().tolist() == [64]


def test_the_contact_sheet_shows_every_class(corpus):
    with Image.open(check(corpus)[1] / "sheet.png") as sheet:
        assert sheet.width > 1000 and sheet.height > 2 * 176
        assert np.asarray(sheet.convert("L")).std() > 20


def test_films_that_cannot_be_read_are_named_and_fail_the_check(corpus, capsys):
    (corpus / "train" / "ill" / "00.png").write_bytes(b"no film")
    status, folder = check(corpus)
    assert status == 1
    assert "00.png: this is no image" in capsys.readouterr().out
    assert len(report(folder)["unreadable"]) == 1


@pytest.mark.parametrize("make", [shutil.copy, copy_of])
def test_a_copy_of_a_test_film_in_training_is_a_leak(make, corpus, capsys):
    make(corpus / "test" / "ill" / "12.png", corpus / "train" / "ill" / "sly.png")
    status, folder = check(corpus)
    leaks = pd.read_csv(folder / "leaks.csv")
    assert status == 1
    assert leaks["film"].tolist() == [str(corpus / "train" / "ill" / "sly.png")]
    assert leaks["other_split"].tolist() == ["test"]
    assert "leaks       1 film that is learned from is in another split" in capsys.readouterr().out


def test_the_list_of_leaks_is_one_that_training_takes(corpus, capsys):
    copy_of(corpus / "test" / "ill" / "12.png", corpus / "train" / "ill" / "sly.png")
    folder = check(corpus)[1]
    assert check(corpus, "--data.exclude", f"[{folder / 'exclude.csv'}]", out="again")[0] == 0


def test_copies_within_a_split_are_counted_and_pass(corpus, capsys):
    shutil.copy(corpus / "train" / "ill" / "00.png", corpus / "train" / "ill" / "twin.png")
    status, folder = check(corpus, "--data.val", "0")
    assert status == 0
    assert "copies      1 pair: same file 1; 0 across splits, 1 of different patients" in capsys.readouterr().out
    assert not (folder / "leaks.csv").exists()


def test_without_sight_only_equal_files_are_found(corpus):
    copy_of(corpus / "test" / "ill" / "12.png", corpus / "train" / "ill" / "sly.png")
    assert check(corpus, "--no-look-alikes")[0] == 0


def test_films_of_a_later_test_are_found_in_pretraining(corpus, phantoms, tmp_path):
    later = tmp_path / "later" / "test"
    later.mkdir(parents=True)
    shutil.copy(phantoms[18], later / "stranger.png")
    copy_of(corpus / "train" / "ill" / "02.png", later / "known.png")
    status, folder = check(corpus, "--against.corpora.folder", str(tmp_path / "later"))
    leaks = pd.read_csv(folder / "leaks.csv")
    assert status == 1
    assert leaks[["other", "other_split"]].to_numpy().tolist() == [[str(later / "known.png"), "later test"]]
    assert report(folder)["corpora"]["folder"]["films"]["all"] == 16


def test_the_films_of_a_finished_run_can_be_compared_with(corpus, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(
        f"data: {{class_path: ChestXrayDataModule, init_args: {{corpora: {{folder: {corpus}}}}}}}\nmodel: {{a: 1}}\n"
    )
    status, folder = check(corpus, "--against", str(tmp_path / "run"))
    assert status == 0  # its test films are test films here, too
    assert report(folder)["compared_with_a_later_test"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--against.corpora.nhi", "/x"], "Did you mean 'nih'?"),
        (["--against.vall", "0.1"], "--against.vall: XrayDataModule has no option vall. Did you mean val?"),
        (["--against", "/nowhere"], "--against /nowhere: there is no run in that folder"),
        (["--against"], "--against needs a value."),
        (["--workers", "-1"], "--workers must be 0 or more, not -1."),
    ],
)
def test_a_mistake_is_named_in_a_sentence(words, sentence, corpus, capsys):
    assert main(["data", "check", "--data.corpora.folder", str(corpus), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_mistyped_verb_is_suggested(capsys):
    assert main(["data", "chek"]) == 2
    assert "Did you mean check?" in capsys.readouterr().err


def test_labels_of_different_tasks_are_all_counted(corpus):
    words = ("--data.corpora.phantom.body", "chest", "--data.corpora.phantom.films", "24",
             "--data.corpora.phantom.size", "48", "--data.corpora.phantom.seed", "2")  # fmt: skip
    counts = report(check(corpus, *words)[1])["corpora"]
    assert counts["folder"]["labels"]["ill"]["all"] == 8
    assert sum(count["all"] for count in counts["phantom"]["labels"].values()) > 24


def test_a_store_is_checked_like_the_files_it_came_from(corpus, tmp_path, capsys):
    assert main(["prepare", "--data.corpora.folder", str(corpus), "--out", str(tmp_path / "s"), "--size", "64",
                 "--workers", "0"]) == 0  # fmt: skip
    status, folder = check(tmp_path / "s" / "folder")
    films = pd.read_csv(folder / "films.csv")
    assert status == 0
    assert films["film_width"].min() == 64 and films["checksum"].nunique() == 16


def test_what_is_left_out_can_be_read_back_by_the_exclusion(corpus):
    copy_of(corpus / "test" / "ill" / "12.png", corpus / "train" / "ill" / "sly.png")
    folder = check(corpus)[1]
    from xrayssl.data.corpora.folder import manifest as of_folder

    kept = exclude(of_folder(corpus), [folder / "exclude.csv"])
    assert not kept.table["path"].str.endswith("sly.png").any() and len(kept) == 16
