import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections import namedtuple
from dataclasses import replace

import pytest
from loopback import serving

from xrayssl.cli import main
from xrayssl.data.fetch.catalogue import COLLECTIONS, Part
from xrayssl.data.fetch.collection import fetch, next_command, terms
from xrayssl.errors import UserError


class Terminal(io.StringIO):
    def isatty(self):
        return True


def archive(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return data.getvalue()


def tarball(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return data.getvalue()


ZIP = archive({f"set/{maker}.1.jpg": maker.encode() for maker in ("Cofield", "Depuy", "Tornier", "Zimmer")})
TAR = tarball({"images/00000001_000.png": b"film"})


@pytest.fixture
def host():
    with serving({"/a.zip": ZIP, "/b.gz": TAR, "/list": b"00000001_000.png\n"}) as host:
        yield host


@pytest.fixture
def collection(host):
    """Like a true one, at this host."""
    parts = (
        Part(f"{host.url}/list", "list.txt", 10),
        Part(f"{host.url}/a.zip", "a.zip", len(ZIP), f"sha256:{hashlib.sha256(ZIP).hexdigest()}", "dataset"),
        Part(f"{host.url}/b.gz", "b.tar.gz", len(TAR), f"md5:{hashlib.md5(TAR).hexdigest()}", "images_001/images"),
    )
    return replace(COLLECTIONS["uci_shoulder"], parts=parts)


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_films_come_to_lie_where_the_readers_look_for_them(collection, tmp_path):
    fetch(collection, tmp_path)
    assert [name for name in files(tmp_path) if not name.split("/")[-1].startswith(".")] == [
        "dataset/Cofield.1.jpg", "dataset/Depuy.1.jpg", "dataset/Tornier.1.jpg", "dataset/Zimmer.1.jpg",
        "fetched.json", "images_001/images/00000001_000.png", "list.txt",
    ]  # fmt: skip


def test_what_was_fetched_is_written_down_with_its_checksum(collection, tmp_path):
    fetch(collection, tmp_path)
    known = json.loads((tmp_path / "fetched.json").read_text())["files"]
    assert known["a.zip"]["sha256"] == hashlib.sha256(ZIP).hexdigest()
    assert known["list.txt"]["compared_with"] is None


def test_what_is_there_is_not_fetched_again(collection, tmp_path, host):
    fetch(collection, tmp_path)
    asked = len(host.asked)
    fetch(collection, tmp_path)
    assert len(host.asked) == asked


def test_an_interrupted_fetch_goes_on(collection, tmp_path, host):
    broken = replace(collection, parts=(*collection.parts[:2], replace(collection.parts[2], url=f"{host.url}/no")))
    with pytest.raises(UserError, match="404"):
        fetch(broken, tmp_path)
    asked = len(host.asked)
    fetch(collection, tmp_path)
    assert [path for path, _ in host.asked[asked:]] == ["/b.gz"]


def test_a_fetch_killed_between_unpacking_and_its_record_goes_on(collection, tmp_path):
    fetch(collection, tmp_path)
    (tmp_path / "fetched.json").unlink()
    fetch(collection, tmp_path)
    assert "dataset/Cofield.1.jpg" in files(tmp_path)


def test_films_that_were_there_before_are_not_touched(collection, tmp_path):
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "mine.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="dataset is there already, from elsewhere"):
        fetch(collection, tmp_path)
    assert (tmp_path / "dataset" / "mine.jpg").read_bytes() == b"x"


def test_a_wrong_archive_is_neither_unpacked_nor_kept(collection, tmp_path, host):
    host.files["/a.zip"] = archive({"set/Other.jpg": b"x"})
    with pytest.raises(UserError, match=r"a\.zip has the SHA256"):
        fetch(collection, tmp_path)
    assert files(tmp_path) == ["fetched.json", "list.txt"]


def test_a_disk_without_room_is_told_before_anything_is_asked_for(collection, tmp_path, host, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 5))
    with pytest.raises(UserError, match="are needed"):
        fetch(collection, tmp_path)
    assert host.asked == []


def test_licence_size_source_and_checksums_are_told(collection, tmp_path):
    text = terms(COLLECTIONS["nih"], tmp_path)
    assert "45.1 GB" in text and "no restriction on use" in text and "nihcc.app.box.com" in text
    assert "not known for Data_Entry_2017_v2020.csv, train_val_list.txt, test_list.txt" in text


@pytest.mark.parametrize("answer", ["\n", "n\n", ""])
def test_nothing_is_downloaded_without_a_yes(answer, collection, tmp_path, host, monkeypatch, capsys):
    monkeypatch.setitem(COLLECTIONS, "uci_shoulder", collection)
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert main(["data", "fetch", "uci_shoulder", "--to", str(tmp_path / "x")]) == 0
    assert "Nothing was downloaded" in capsys.readouterr().out
    assert host.asked == []


def test_without_a_terminal_yes_must_be_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["data", "fetch", "uci_shoulder", "--to", str(tmp_path)]) == 2
    assert "add --yes" in capsys.readouterr().err


def test_the_verb_fetches_and_says_what_to_type_next(collection, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(COLLECTIONS, "uci_shoulder", collection)
    assert main(["data", "fetch", "uci_shoulder", "--to", str(tmp_path / "x"), "--yes"]) == 0
    assert f"xrayssl data check --data.corpora.uci_shoulder {tmp_path}/x" in capsys.readouterr().out


def test_the_next_command_reads_what_was_fetched(collection, tmp_path):
    from xrayssl.data.corpora.uci_shoulder import manifest

    fetch(collection, tmp_path)
    assert len(manifest(tmp_path)) == 4
    assert next_command(COLLECTIONS["kermany"], tmp_path).endswith("'(.*(?:person|IM-)\\d+)'")


def test_an_unknown_collection_is_suggested(capsys):
    assert main(["data", "fetch", "kermani", "--yes"]) == 2
    assert "Did you mean kermany?" in capsys.readouterr().err


def test_without_a_name_the_collections_are_listed(capsys):
    assert main(["data", "fetch"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name} " in told for name in COLLECTIONS)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_every_collection_names_a_reader_and_is_fetched_over_an_encrypted_line(name):
    from xrayssl.data.corpora import names

    collection = COLLECTIONS[name]
    assert collection.corpus in names()
    assert all(part.url.startswith("https://") for part in collection.parts)
    assert all(len(part.checksum.partition(":")[2]) in (0, 32, 64) for part in collection.parts)
