import pytest
from stores import content, corpus

from xrayssl.cli import main
from xrayssl.errors import UserError
from xrayssl.prepare import prepare_command


@pytest.fixture
def raw(tmp_path):
    return corpus(tmp_path / "raw")


def prepared(raw, *more):
    return prepare_command(["--data.corpora.folder", str(raw), "--out", str(raw.parent / "out"), "--size", "32", *more])


def test_prepare_makes_a_store_and_says_how_to_use_it(raw, tmp_path, capsys):
    assert prepared(raw, "--workers", "2") == 0
    store = tmp_path / "out/folder"
    told = capsys.readouterr().out
    assert told.startswith("folder: 14 films, 0 MB in 1 shard (") and told.endswith(
        f"  --data.corpora.folder {store}\n"
    )
    assert (store / "store.json").is_file()


def test_the_same_command_again_says_that_nothing_is_left_to_do(raw, tmp_path, capsys):
    prepared(raw)
    before = content(tmp_path / "out/folder")
    assert prepared(raw, "--workers", "0") == 0
    assert "(complete already)" in capsys.readouterr().out
    assert content(tmp_path / "out/folder") == before


def test_a_relative_path_gives_the_same_store(raw, tmp_path, monkeypatch):
    prepared(raw)
    monkeypatch.chdir(tmp_path)
    prepare_command(["--data.corpora.folder=raw", "--out=again", "--size=32", "--workers=0"])
    assert content(tmp_path / "again/folder") == content(tmp_path / "out/folder")


def test_the_window_of_the_data_options_reaches_the_films(raw, tmp_path):
    prepared(raw, "--workers", "0")
    other = ["--data.window", "percentile", "--data.limits", "[20, 80]", "--out", str(tmp_path / "cut")]
    prepared(raw, "--workers", "0", *other)
    shards = [content(tmp_path / name / "folder")["shard-00000.bin"] for name in ("out", "cut")]
    assert len(shards[0]) == len(shards[1]) and shards[0] != shards[1]


def test_several_corpora_become_a_store_each(raw, tmp_path):
    prepared(raw, "--workers", "0", "--data.corpora.phantom", '{"films": 2, "size": 32}')
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["folder", "phantom"]


def test_unreadable_films_are_set_aside_and_told(raw, tmp_path, capsys):
    (raw / "A/00.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"add --data\.on_error quarantine"):
        prepared(raw, "--workers", "0")
    prepared(raw, "--workers", "0", "--data.on_error", "quarantine", "--data.max_quarantine", "0.1")
    assert f"1 set aside, see {tmp_path}/out/folder/quarantine.csv" in capsys.readouterr().out


def test_a_store_is_no_raw_corpus(raw, tmp_path):
    prepared(raw, "--workers", "0")
    with pytest.raises(UserError, match="this is a store already"):
        prepare_command(["--data.corpora.folder", str(tmp_path / "out/folder"), "--out", str(tmp_path / "more")])


def test_every_mistake_is_told_at_once(raw):
    with pytest.raises(UserError) as caught:
        prepare_command(["--data.corpora.folder", str(raw), "--workers", "-1"])
    assert [text.split(":")[0] for text in caught.value.messages] == [
        "prepare needs a folder for the stores", "--workers must be 0 or more, not -1."]  # fmt: skip


def test_without_a_corpus_there_is_nothing_to_prepare(tmp_path):
    with pytest.raises(UserError, match=r"prepare needs films: --data\.corpora\.NAME PATH"):
        prepare_command(["--out", str(tmp_path)])


def test_a_size_that_makes_no_sense_is_told(raw):
    with pytest.raises(UserError, match="--size must be 16 pixels or more, not 3"):
        prepared(raw, "--size", "3")


def test_help_names_what_there_is(capsys):
    with pytest.raises(SystemExit):
        prepare_command(["--help"])
    told = capsys.readouterr().out
    assert all(word in told for word in ("--out DIR", "--verify DIR", "--data.window", "--dtype", "--trim"))


def test_verify_takes_a_store_or_a_folder_of_them(raw, tmp_path, capsys):
    prepared(raw, "--workers", "0")
    for place in ("out", "out/folder"):
        assert prepare_command(["--verify", str(tmp_path / place), "--workers", "0"]) == 0
    told = capsys.readouterr().out
    assert told.count("14 films checked, 0 damaged; 14 raw files are here, 0 changed.") == 2


def test_verify_refuses_a_damaged_store_through_the_front_door(raw, tmp_path, capsys):
    prepared(raw, "--workers", "0")
    (tmp_path / "out/folder/shard-00000.bin").write_bytes(b"")
    assert main(["prepare", "--verify", str(tmp_path / "out")]) == 2
    assert "this part of the store has 0 bytes" in capsys.readouterr().err


def test_verify_without_a_store_is_told(tmp_path):
    with pytest.raises(UserError, match="there is no store here, nor in the folders in it"):
        prepare_command(["--verify", str(tmp_path)])


def test_verify_tells_a_number_of_workers_that_makes_no_sense(raw, tmp_path):
    prepared(raw, "--workers", "0")
    with pytest.raises(UserError, match="--workers must be 0 or more, not -1"):
        prepare_command(["--verify", str(tmp_path / "out"), "--workers", "-1"])
