"""One file over HTTP: resumed where it broke off, checked, whole or not there."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from xrayssl.errors import UserError

log = logging.getLogger(__name__)
TIMEOUT = (15.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes."""
ATTEMPTS = 5
"""In a row without a single new byte, before giving up."""
BLOCK = 2**16
"""Bytes at a time; those of a block that a broken connection leaves unfinished are lost."""
BUSY = (408, 429, 500, 502, 503, 504)
FIRST_PAUSE = 1.0


class BrokenOffError(Exception):
    """The connection failed in a way that may pass."""


def download(url: str, path: Path, checksum: str = "", page: str = "") -> str:
    """Downloads a file; a part of it that is there already, from whenever, is kept and completed.

    The part lies beside it as `.part`, with the server's name for this version of the file (ETag) as `.tag`: of another
    version the server sends everything anew, so that two versions are never mixed.

    Args:
        url: Of the file.
        path: Where it shall lie.
        checksum: That it must have, such as "sha256:..." or "md5:..."; "" where none is known.
        page: For people, where the file can be fetched by hand.

    Returns:
        Its SHA-256, in hexadecimal digits.

    Raises:
        UserError: The host cannot be reached or has no such file, the checksum is another (the file is removed), or the
            disk is full.
    """
    part = path.with_name(f"{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if not path.exists():
            _complete(url, part, page)
            part.replace(path)
            _tag(part).unlink(missing_ok=True)
        return _checked(path, checksum)
    except OSError as error:  # of the disk; those of the connection have been dealt with
        raise UserError(f"{path}: the download cannot be written ({error.strerror or error}).") from None


def _complete(url: str, part: Path, page: str) -> None:
    """Asks again and again for what is missing, as long as something comes."""
    attempt = 0
    while True:
        before = _size(part)
        try:
            return _ask(url, part, page)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
            BrokenOffError,
        ) as error:
            attempt = 1 if _size(part) > before else attempt + 1
            if attempt >= ATTEMPTS:
                raise UserError(_sentence(url, part, _reason(error))) from None
            log.info("%s breaks off (%s); trying again.", _host(url), _reason(error))
            time.sleep(FIRST_PAUSE * 2 ** (attempt - 1))
        except requests.RequestException as error:
            raise UserError(f"{url} cannot be fetched ({_reason(error)}).") from None


def _ask(url: str, part: Path, page: str) -> None:
    """One request for what is missing."""
    have, headers = _size(part), {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": tag} if (tag := _known_tag(part)) else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # there is nothing behind what we have: it is whole, or not of this file
            if response.headers.get("Content-Range") != f"bytes */{have}":
                part.unlink(missing_ok=True)
                raise BrokenOffError("what was there does not belong to this file")
            return
        _refuse(response, url, page)
        start = _start(response)
        if start not in (0, have):
            part.unlink(missing_ok=True)
            raise BrokenOffError("the server sends another part than was asked for")
        _write(response, part, start)


def _refuse(response: requests.Response, url: str, page: str) -> None:
    by_hand = f" See {page}." if page else ""
    if response.status_code in BUSY:
        raise BrokenOffError(f"the server says {response.status_code} {response.reason}")
    if not response.ok:
        raise UserError(f"{url}: the server says {response.status_code} {response.reason}.{by_hand}")
    if "text/html" in response.headers.get("Content-Type", ""):
        raise UserError(f"{url}: the server sends a web page in place of the file; it may ask for a click.{by_hand}")
    if url.startswith("https:") and not response.url.startswith("https:"):
        raise UserError(f"{url}: the server leads to {response.url}, which is not encrypted.{by_hand}")


def _start(response: requests.Response) -> int:
    """The first byte of what is sent."""
    if response.status_code != 206:
        return 0
    span = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(span) if span.isdigit() else -1


def _write(response: requests.Response, part: Path, start: int) -> None:
    total = start + int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
    _tag(part).write_text(_validator(response), encoding="utf-8")
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        for block in _counted(response.iter_content(BLOCK), part.name.removesuffix(".part"), start, total):
            file.write(block)
        file.truncate()
    if total is not None and _size(part) != total:
        raise BrokenOffError(f"{_size(part):,} of {total:,} bytes came")


def _validator(response: requests.Response) -> str:
    """A strong ETag, or else the time of the last change; a weak ETag promises no equal bytes (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _counted(blocks: Iterator[bytes], name: str, start: int, total: int | None) -> Iterator[bytes]:
    """The same blocks, with a bar on a terminal and a line now and then elsewhere."""
    shown, told, done = sys.stderr.isatty(), time.monotonic(), start
    bar = tqdm(total=total, initial=start, desc=name, unit="B", unit_scale=True, leave=False, disable=not shown)
    with closing(bar):
        for block in blocks:
            yield block
            done += len(block)
            bar.update(len(block))
            if not shown and time.monotonic() - told > 30:
                told = time.monotonic()
                log.info("%s: %.0f of %s MB.", name, done / 1e6, f"{total / 1e6:,.0f}" if total else "?")


def _checked(path: Path, checksum: str) -> str:
    """SHA-256 of a file that has the checksum it must have; any other is removed.

    Raises:
        UserError: If it has another.
    """
    kind, _, wanted = checksum.partition(":")
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", kind or "sha256"}}
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            for digest in sums.values():
                digest.update(block)
    if wanted and sums[kind].hexdigest() != wanted.lower():
        path.unlink()
        raise UserError(
            f"{path.name} has the {kind.upper()} {sums[kind].hexdigest()}, not {wanted}: it was damaged on the way, or "
            "the source has changed. It was removed; try again."
        )
    return sums["sha256"].hexdigest()


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name.removesuffix('.part')}.tag")


def _known_tag(part: Path) -> str:
    return _tag(part).read_text(encoding="utf-8") if _tag(part).exists() else ""


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _sentence(url: str, part: Path, reason: str) -> str:
    if _size(part):
        return f"{_host(url)} breaks off again and again ({reason}). The same command goes on where it stopped."
    return f"{_host(url)} cannot be reached ({reason}); is this machine online?"


def _reason(error: BaseException) -> str:
    """The innermost cause, in its own words: requests wraps what went wrong several times over."""
    inner = [part for part in error.args if isinstance(part, Exception)]
    cause = getattr(inner[0], "reason", inner[0]) if inner else None
    if isinstance(cause, Exception):
        return _reason(cause)
    return str(error).rpartition(": ")[2].strip("'\" .") or type(error).__name__
