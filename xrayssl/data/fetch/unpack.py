"""Archives from elsewhere: nothing is written outside the folder, nothing but files, and no more than is announced."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from xrayssl.errors import UserError

MOST_TIMES = 20
"""Films hardly compress: what unpacks to more than so many times its size is no archive of films."""
JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db", "._")


class Member(NamedTuple):
    """A file in an archive.

    Args:
        name: With its folders.
        size: In bytes, unpacked.
        open: Gives its content.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path) -> int:
    """Unpacks a zip or tar archive, and the only archive in it, if that is all it holds.

    Args:
        archive: The file; what it is is decided by its content.
        folder: New; links, devices and names that lead out of it are refused.

    Returns:
        Number of files.

    Raises:
        UserError: If the archive is damaged, is none, or must not be trusted.
    """
    try:
        with archive.open("rb") as file:
            zipped = file.read(2) == b"PK"
        count = _write_all(_zip_members(archive) if zipped else _tar_members(archive), archive, folder)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive.name} cannot be unpacked ({str(error).rstrip('.')}); fetch it again.") from None
    except OSError as error:
        reason = error.strerror or str(error)  # gzip tells of damage in this way, too
        raise UserError(f"{archive.name} cannot be unpacked to {folder} ({reason}).") from None
    inner = [path for path in folder.rglob("*") if path.is_file()]
    if count == 1 and inner[0].name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz")):
        held = folder.with_name(f"{folder.name}-inner{''.join(inner[0].suffixes)}")
        inner[0].replace(held)
        shutil.rmtree(folder)
        count = unpack(held, folder)
        held.unlink()
    return count


def _write_all(members: Iterator[Member], archive: Path, folder: Path) -> int:
    left, count = MOST_TIMES * archive.stat().st_size, 0
    folder.mkdir(parents=True)
    for member in members:
        path = PurePosixPath(member.name)
        if any(part.startswith(JUNK) for part in path.parts):
            continue
        left -= member.size
        if left < 0:
            raise UserError(
                f"{archive.name} unpacks to more than {MOST_TIMES} times its size; it is no archive of films."
            )
        if path.is_absolute() or not path.name or ".." in path.parts or "\\" in member.name or ":" in path.parts[0]:
            raise UserError(
                f"{archive.name} holds a file that would lie elsewhere, {member.name!r}; it is not unpacked."
            )
        target = folder.joinpath(*path.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(member, target)
        count += 1
    return count


def _write(member: Member, target: Path) -> None:
    source = member.open()
    if source is None:
        raise EOFError(f"{member.name} has no content")
    with source, target.open("xb") as file:
        shutil.copyfileobj(source, file, 2**20)
    if target.stat().st_size != member.size:
        raise EOFError(f"{member.name} is cut short")


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise UserError(f"{archive.name} holds a link, {info.filename!r}; it is not unpacked.")
            if not info.is_dir():
                yield Member(info.filename, info.file_size, lambda info=info: file.open(info))  # type: ignore[misc]


def _tar_members(archive: Path) -> Iterator[Member]:
    with tarfile.open(archive) as file:
        for info in file:
            if not (info.isreg() or info.isdir()):
                raise UserError(f"{archive.name} holds a link or device, {info.name!r}; it is not unpacked.")
            if info.isreg():
                yield Member(info.name, info.size, lambda info=info: file.extractfile(info))  # type: ignore[misc]
