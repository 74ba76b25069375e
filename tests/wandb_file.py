"""Reads what an offline run of Weights & Biases holds: a LevelDB log of protobuf records, after a header of 7 bytes.

The format: https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

import json
import struct
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records(run: Path):
    """Every record of the one offline run in a run's folder, in order."""
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    content = file.read_bytes()
    assert content[:4] == b":W&B"
    place, whole = HEADER, b""
    while place + HEADER <= len(content):
        if BLOCK - place % BLOCK < HEADER:  # what is left of a block is too short for a header, and filled with zeros
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEADER])
        place += HEADER
        whole += content[place : place + length]
        place += length
        if kind in (FULL, LAST):
            yield Record.FromString(whole)
            whole = b""


def held(run: Path):
    """What the records say: the run, its configuration, history rows, summary, and artifacts."""
    found = {"run": None, "config": {}, "history": [], "summary": {}, "artifacts": [], "files": []}
    for record in records(run):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["run"] = record.run
            _update(found["config"], record.run.config.update)
        elif kind == "config":
            _update(found["config"], record.config.update)
        elif kind == "history":
            found["history"].append(_update({}, record.history.item))
        elif kind == "summary":
            _update(found["summary"], record.summary.update)
        elif kind == "artifact":
            found["artifacts"].append(record.artifact)
        elif kind == "files":
            found["files"] += [file.path for file in record.files.files]
    return found


def sent(run: Path):
    """Every byte that `wandb sync` would send: the record and the files beside it."""
    (folder,) = run.glob("wandb/offline-run-*")
    files = [*folder.glob("*.wandb"), *(path for path in folder.glob("files/**/*") if path.is_file())]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _update(found, items):
    for item in items:
        name = item.key or ".".join(item.nested_key)
        found[name] = json.loads(item.value_json)
    return found
