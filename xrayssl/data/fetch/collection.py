"""`xrayssl data fetch`: openly licensed collections, downloaded and unpacked to the layout that the readers take."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from xrayssl.data.fetch.catalogue import COLLECTIONS, Collection, Part
from xrayssl.data.fetch.download import download
from xrayssl.data.fetch.unpack import unpack
from xrayssl.errors import UserError
from xrayssl.files import write_json
from xrayssl.recipes import nearest

log = logging.getLogger(__name__)
RECORD = "fetched.json"
"""What was fetched, from where, with which SHA-256; written after each part, so that an interrupted fetch goes on."""
WORKPLACE, ORIGIN = ".fetching", ".origin"


def overview() -> str:
    """One line per collection."""
    lines = [f"  {name:<14}{amount(c.size):>8}  {c.films:>7,} films  {c.licence}" for name, c in COLLECTIONS.items()]
    return "\n".join(lines)


def find(name: str) -> Collection:
    """Finds a collection by name.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in COLLECTIONS:
        hint = nearest(name, list(COLLECTIONS)) or f" There are {', '.join(COLLECTIONS)}."
        raise UserError(f"there is no collection {name!r} to fetch.{hint}")
    return COLLECTIONS[name]


def terms(collection: Collection, folder: Path) -> str:
    """What somebody should know before anything is downloaded."""
    left = [part for part in collection.parts if part.file not in _record(folder)]
    unknown = [part for part in left if not part.checksum]
    sure = "known for every file" if not unknown else f"not known for {', '.join(part.file for part in unknown)}"
    rows = {
        "what": collection.title,
        "licence": collection.licence,
        "to cite": collection.cite,
        "source": collection.page,
        "download": f"{amount(sum(part.size for part in left))} in {len(left)} file{'s'[: len(left) != 1]}; "
        f"{amount(_free(folder))} free",
        "checksum": f"{sure}{'; their SHA-256 is written down, not compared' if unknown else ''}",
        "to": str(folder),
    }
    return "".join(f"{name:<10}{text}\n" for name, text in rows.items())


def agreed() -> bool:
    """Asks whether to download; no is the default.

    Raises:
        UserError: If nobody is there to answer.
    """
    if not sys.stdin.isatty():
        raise UserError("nobody is there to agree to this download; add --yes.")
    sys.stdout.write("Download? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def fetch(collection: Collection, folder: Path) -> None:
    """Downloads and unpacks what is not here yet.

    Args:
        collection: Of films.
        folder: Where to; what another fetch of the same collection left there is completed.

    Raises:
        UserError: If the disk has no room, the host does not deliver, a checksum is wrong, or an archive is unsafe.
        KeyboardInterrupt: With a sentence saying how to go on.
    """
    done, workplace = _record(folder), folder / WORKPLACE
    left = [part for part in collection.parts if part.file not in done]
    _refuse_full_disk(left, folder)
    try:
        for part in left:
            sha256 = download(part.url, workplace / part.file, part.checksum, collection.page)
            _place(workplace / part.file, part, folder, sha256)
            done[part.file] = {"url": part.url, "sha256": sha256, "compared_with": part.checksum or None}
            write_json(folder / RECORD, {"version": 1, "licence": collection.licence, "files": done})
            (workplace / part.file).unlink(missing_ok=True)
            if not part.checksum:
                log.info("%s: no published checksum to compare with; its SHA-256 is in %s.", part.file, folder / RECORD)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; the same command goes on where it stopped.") from None
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be written ({error.strerror}).") from None
    shutil.rmtree(workplace, ignore_errors=True)


def next_command(collection: Collection, folder: Path) -> str:
    """What to type now."""
    option = f"--data.corpora.{collection.corpus}"
    words = [option, str(folder / collection.root)]
    for name, value in collection.options:
        words += [f"{option}.{name}", value]
    return f"xrayssl data check {shlex.join(words)}"


def _place(file: Path, part: Part, folder: Path, sha256: str) -> None:
    """Moves a file, or what an archive holds, to where the corpus has it; whole or not at all."""
    target = folder / (part.into or part.file)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not part.into:
        file.replace(target)
        return
    if target.exists():
        if _origin(target) != sha256:
            raise UserError(
                f"{target} is there already, from elsewhere; move it, or fetch to another folder with --to."
            )
        return
    draft = file.with_name(f"{file.name}.unpacked")
    shutil.rmtree(draft, ignore_errors=True)  # of an earlier fetch that was killed
    log.info("Unpacking %s.", part.file)
    unpack(file, draft)
    held = draft
    while len(inside := list(held.iterdir())) == 1 and inside[0].is_dir():
        held = inside[0]
    (held / ORIGIN).write_text(sha256, encoding="utf-8")
    held.rename(target)
    shutil.rmtree(draft, ignore_errors=True)


def _origin(target: Path) -> str:
    """SHA-256 of the archive that a folder was unpacked from."""
    return (target / ORIGIN).read_text(encoding="utf-8") if (target / ORIGIN).is_file() else ""


def _record(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder / RECORD} is damaged; remove it to fetch everything anew.") from None


def _refuse_full_disk(parts: list[Part], folder: Path) -> None:
    """Archives go once they are unpacked, so that at most the largest takes room besides the films."""
    if not parts:
        return
    needed = sum(part.size for part in parts) + max(part.size for part in parts)
    if needed > _free(folder):
        raise UserError(
            f"{folder}: {amount(needed)} are needed, {amount(_free(folder))} are free; choose another with --to."
        )


def _free(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def amount(size: int) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"
