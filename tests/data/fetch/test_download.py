import errno
import hashlib
import socket

import pytest
from loopback import serving

from xrayssl.data.fetch import download as module
from xrayssl.data.fetch.download import download
from xrayssl.errors import UserError

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)


@pytest.fixture
def host():
    with serving({"/a.zip": CONTENT}) as host:
        yield host


def test_a_file_comes_whole_and_its_checksum_is_told(host, tmp_path):
    assert download(f"{host.url}/a.zip", tmp_path / "a.zip") == SHA256
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_broken_connection_is_resumed_where_it_broke(host, tmp_path):
    host.break_after = [300_000, 200_000]
    assert download(f"{host.url}/a.zip", tmp_path / "a.zip", f"sha256:{SHA256}") == SHA256
    starts = [int(span.removeprefix("bytes=").rstrip("-") or 0) for span in host.range_of("/a.zip")]
    assert len(starts) == 3
    assert 0 == starts[0] < starts[1] <= 300_000 < starts[2] <= 500_000


def test_what_an_earlier_process_left_is_completed(host, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    (tmp_path / "a.zip.tag").write_text(host.tag)
    assert download(f"{host.url}/a.zip", tmp_path / "a.zip") == SHA256
    assert host.range_of("/a.zip") == ["bytes=1000-"]


def test_a_part_that_is_the_whole_file_is_not_fetched_again(host, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert download(f"{host.url}/a.zip", tmp_path / "a.zip") == SHA256
    assert len(host.asked) == 1


def test_another_version_of_the_file_is_not_mixed_with_the_part_of_the_old_one(host, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"old" * 100)
    (tmp_path / "a.zip.tag").write_text('"old"')
    assert download(f"{host.url}/a.zip", tmp_path / "a.zip") == SHA256


def test_a_part_longer_than_the_file_is_thrown_away(host, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    assert download(f"{host.url}/a.zip", tmp_path / "a.zip") == SHA256


def test_a_server_without_ranges_starts_anew(host, tmp_path):
    host.ranges, host.break_after = False, [300_000]
    assert download(f"{host.url}/a.zip", tmp_path / "a.zip") == SHA256
    assert len(host.asked) == 2


@pytest.mark.parametrize("checksum", ["sha256:" + "0" * 64, "md5:" + "0" * 32])
def test_a_wrong_checksum_is_refused_and_the_file_removed(checksum, host, tmp_path):
    with pytest.raises(UserError, match=r"a\.zip has the (SHA256|MD5) .* not 000.*removed"):
        download(f"{host.url}/a.zip", tmp_path / "a.zip", checksum)
    assert list(tmp_path.iterdir()) == []


def test_a_busy_server_is_asked_again(host, tmp_path):
    host.statuses = [503, 429]
    assert download(f"{host.url}/a.zip", tmp_path / "a.zip") == SHA256


def test_a_file_that_is_not_there_ends_in_one_sentence(host, tmp_path):
    with pytest.raises(UserError, match=r"/b\.zip: the server says 404 Not Found\. See https://there\."):
        download(f"{host.url}/b.zip", tmp_path / "b.zip", page="https://there")


def test_a_web_page_in_place_of_the_file_is_refused(host, tmp_path):
    host.kind = "text/html; charset=utf-8"
    with pytest.raises(UserError, match="a web page in place of the file"):
        download(f"{host.url}/a.zip", tmp_path / "a.zip")


def test_a_connection_that_always_breaks_ends_in_one_sentence_and_keeps_the_part(host, tmp_path):
    host.break_after = [300_000] + [0] * 20
    with pytest.raises(UserError, match="The same command goes on where it stopped"):
        download(f"{host.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip.part").stat().st_size > 0


def test_no_network_ends_in_one_sentence(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        UserError, match=rf"127\.0\.0\.1:{port} cannot be reached.*Connection refused.*online"
    ) as raised:
        download(f"http://127.0.0.1:{port}/a.zip", tmp_path / "a.zip")
    assert "\n" not in str(raised.value)


def test_a_full_disk_ends_in_one_sentence(host, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(UserError, match=r"a\.zip: the download cannot be written \(No space left on device\)"):
        download(f"{host.url}/a.zip", tmp_path / "a.zip")
