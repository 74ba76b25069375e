"""What a saved configuration says in another folder."""

from jsonargparse import Namespace

from xrayssl.settings import anchor


def config(**model):
    return Namespace(data=Namespace(init_args=Namespace(corpora=None)), model=Namespace(init_args=Namespace(**model)))


def test_files_that_a_model_reads_are_named_so_that_every_folder_finds_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("run", "lungs.png", "ribs.png"):
        (tmp_path / name).touch()
    masking = Namespace(path="lungs.png", plus=[Namespace(path="ribs.png"), Namespace(path=None), Namespace()])
    masking.plus[2] = Namespace(class_path="xrayssl.masking.Map", init_args=Namespace(path="ribs.png"))
    given = config(init_from=None, tokenizer="run", masking=masking)
    anchor(given)
    assert given.model.init_args.tokenizer == str(tmp_path / "run")
    assert masking.path == str(tmp_path / "lungs.png")
    assert [one.path for one in masking.plus[:2]] == [str(tmp_path / "ribs.png"), None]
    assert masking.plus[2].init_args.path == str(tmp_path / "ribs.png")


def test_a_model_without_masks_or_a_word_that_is_no_file_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = config(init_from="timm")
    anchor(given)
    assert given.model.init_args.init_from == "timm"


def test_the_films_of_a_callback_are_named_so_that_every_folder_finds_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpora = {"folder": "films", "nih": {"root": "nih"}, "phantom": {"films": 8}}
    probe = Namespace(class_path="OnlineProbe", init_args=Namespace(corpora=corpora))
    given = config()
    given.trainer = Namespace(callbacks=[Namespace(class_path="Progress"), probe])
    anchor(given)
    assert corpora == {"folder": f"{tmp_path}/films", "nih": {"root": f"{tmp_path}/nih"}, "phantom": {"films": 8}}
