"""Features on the disk: a file per network and way of seeing films, in it a vector per film.

A file is a safetensors file: `film` (N, 16) tells films by a digest, `feature` (N, D) is float32; its header holds the
key under which it was written, and a checksum. All of it can be made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from xrayssl import tensors_file
from xrayssl.errors import UserError
from xrayssl.files import appearing

log = logging.getLogger(__name__)
DIGEST = 16  # bytes that tell a film
BYTES = 4 * 2**30  # of all files together: 112,000 films of 768 numbers are 0.35 GB
PATTERN = "features-*.safetensors"


@dataclass(frozen=True)
class Known:
    """Features of some films.

    Args:
        films: A digest per film.
        feature_ND: Their features.
    """

    films: Sequence[bytes]
    feature_ND: Tensor


NOTHING = Known([], torch.empty(0, 0))


class FeatureCache:
    """Features that were computed before.

    Args:
        folder: Where the files lie; None keeps nothing.
        most: Bytes of all files together; beyond, those go that were not used for longest. The one just written stays.
    """

    def __init__(self, folder: Path | None, most: int = BYTES) -> None:
        self.folder, self.most = folder, most

    def read(self, key: Mapping[str, Any]) -> Known:
        """What is known under a key; a file that is damaged is told of, and counts for nothing."""
        path = self._path(key)
        if path is None or not path.is_file():
            return NOTHING
        try:
            header, tensors = tensors_file.read(path)
            if header.get("checksum") != _checksum(tensors) or header.get("key") != _plain(key):
                raise UserError("its content is not what was written")
            os.utime(path)  # so that what is used is not what goes first
        except (UserError, OSError, KeyError) as error:
            log.warning("Cached features are damaged and computed anew: %s (%s)", path, error)
            return NOTHING
        return Known([row.tobytes() for row in tensors["film"].numpy()], tensors["feature"])

    def write(self, key: Mapping[str, Any], known: Known) -> None:
        """Keeps features; where that cannot be done, says so and goes on."""
        path = self._path(key)
        if path is None or not len(known.films):
            return
        digests = np.frombuffer(b"".join(known.films), np.uint8).reshape(-1, DIGEST).copy()
        tensors = {"film": torch.from_numpy(digests), "feature": known.feature_ND.float().contiguous()}
        header = {"key": _plain(key), "checksum": _checksum(tensors)}
        try:
            with appearing(path) as partial:
                save_file(tensors, partial, metadata={"xrayssl": json.dumps(header)})
            self._prune(path)
        except OSError as error:
            log.warning("The features could not be kept for the next time: %s", error)

    def _path(self, key: Mapping[str, Any]) -> Path | None:
        if self.folder is None:
            return None
        name = hashlib.sha256(json.dumps(_plain(key), sort_keys=True).encode()).hexdigest()[:32]
        return self.folder / PATTERN.replace("*", name)

    def _prune(self, newest: Path) -> None:
        assert self.folder is not None
        others = [path for path in self.folder.glob(PATTERN) if path != newest]
        room = self.most - newest.stat().st_size
        for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True):
            room -= path.stat().st_size
            if room < 0:
                path.unlink(missing_ok=True)


def _plain(key: Mapping[str, Any]) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(key))


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    check = zlib.crc32(tensors["film"].numpy().tobytes())
    return zlib.crc32(tensors["feature"].numpy().tobytes(), check)
