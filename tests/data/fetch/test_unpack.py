import io
import random
import tarfile
import zipfile

import pytest

from xrayssl.data.fetch.unpack import unpack
from xrayssl.errors import UserError

FILES = {"set/a.jpg": b"a" * 100, "set/deep/b.jpg": b"b"}


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path, files, **changes):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in changes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(("name", "pack"), [("a.zip", zipped), ("a.tar.gz", tarred), ("file_downloaded", zipped)])
def test_an_archive_is_unpacked_whatever_its_name(name, pack, tmp_path):
    assert unpack(pack(tmp_path / name, FILES), tmp_path / "out") == 2
    assert {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*.jpg")
    } == FILES


def test_an_archive_in_an_archive_is_unpacked(tmp_path):
    inner = zipped(tmp_path / "inner.zip", FILES).read_bytes()
    assert unpack(zipped(tmp_path / "a.zip", {"data.zip": inner}), tmp_path / "out") == 2
    assert (tmp_path / "out" / "set" / "a.jpg").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "inner.zip", "out"]


def test_what_operating_systems_leave_behind_is_left_out(tmp_path):
    junk = {"__MACOSX/set/._a.jpg": b"x", "set/.DS_Store": b"x", "set/._a.jpg": b"x", "set/a.jpg": b"film"}
    assert unpack(zipped(tmp_path / "a.zip", junk), tmp_path / "out") == 1


@pytest.mark.parametrize("name", ["../out.jpg", "/etc/out.jpg", "set/../../out.jpg", "..\\out.jpg", "C:/out.jpg", "."])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_name_that_leads_out_of_the_folder_is_refused(pack, name, tmp_path):
    with pytest.raises(UserError, match="would lie elsewhere"):
        unpack(pack(tmp_path / "a", {name: b"x"}), tmp_path / "out")
    assert not list(tmp_path.rglob("out.jpg"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind, tmp_path):
    with pytest.raises(UserError, match="a link or device"):
        unpack(tarred(tmp_path / "a.tar.gz", {"a.jpg": b""}, type=kind, linkname="/etc/passwd"), tmp_path / "out")


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("a.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="holds a link"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_bomb_is_refused_before_it_unpacks(pack, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", bytes(5_000_000))
    path = tmp_path / "a.zip" if pack is zipped else tarred(tmp_path / "a.tar.gz", {"a.jpg": bytes(5_000_000)})
    with pytest.raises(UserError, match="more than 20 times its size"):
        unpack(path, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.jpg"))


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_damaged_archive_ends_in_one_sentence(pack, tmp_path):
    whole = pack(tmp_path / "a", {f"{i}.jpg": random.Random(i).randbytes(9000) for i in range(9)}).read_bytes()
    (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="a cannot be unpacked") as raised:
        unpack(tmp_path / "a", tmp_path / "out")
    assert "\n" not in str(raised.value)
