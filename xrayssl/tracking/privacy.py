"""What stays on this machine: settings that silence Weights & Biases, and pseudonyms for names that would be sent.

A pseudonym is an HMAC-SHA256 (RFC 2104) under a random key per project that never leaves the machine. A plain checksum
would not do: patient numbers are so few that all of them can be tried.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import socket
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

SETTINGS = {
    "console": "off",
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "host": "private",
    "program": "xrayssl",
}
"""Of wandb.Settings: neither console, nor machine, nor installed packages, nor code, nor git, nor the host's name."""
KEY, SHOWN = 32, 12  # bytes of a project's key, hexadecimal digits of a pseudonym
PLACE = re.compile(r"[/\\]|^~")  # what makes a value a path


class Pseudonyms:
    """Names in place of names, the same ones in all runs of a project on this machine.

    Args:
        project: Of Weights & Biases.
    """

    def __init__(self, project: str) -> None:
        self.project = project

    def __call__(self, kind: str, name: object) -> str:
        """A pseudonym, such as `patient-5f0c9a1be2d4`.

        Args:
            kind: Of thing; a patient and a file of one name have two pseudonyms.
            name: To be hidden.
        """
        digest = hmac.new(self._key, f"{kind}:{name}".encode(), hashlib.sha256).hexdigest()
        return f"{kind}-{digest[:SHOWN]}"

    def hidden(self, value: Any) -> Any:
        """A configuration whose paths, and whose values that name this machine, are pseudonyms.

        Args:
            value: Of JSON's types, nested; keys stay, except those that are paths.
        """
        if isinstance(value, dict):
            return {self.hidden(key): self.hidden(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hidden(item) for item in value]
        if isinstance(value, Path):
            return self("path", value)
        return self("path", value) if isinstance(value, str) and self._tells(value) else value

    def _tells(self, text: str) -> bool:
        return bool(PLACE.search(text)) or socket.gethostname() in re.split(r"[\s:@,;=]+", text)

    @cached_property
    def _key(self) -> bytes:
        path = keys() / f"{re.sub(r'[^A-Za-z0-9._-]', '_', self.project)}.key"
        if not path.is_file():
            _create(path, secrets.token_bytes(KEY))
        return path.read_bytes()


def keys() -> Path:
    """Folder of the projects' keys; whoever has one can find out which pseudonym is whose."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "xrayssl", "wandb")


def _create(path: Path, content: bytes) -> None:
    """Writes a file only its owner reads, whole or not at all; one that another process wrote meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        Path(draft).unlink()
