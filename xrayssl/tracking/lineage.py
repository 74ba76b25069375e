"""Weights as artifacts of Weights & Biases: which run made them, which started from them.

An artifact holds no weights, but their SHA-256 as a reference. So a run that starts from a file needs nothing but the
checksum to name the same artifact as the run that wrote it, offline as well: the library refuses `use_artifact` there,
yet its log has a word for it (`use_after_commit`), which `wandb sync` carries out. Where name and content are equal
the server keeps one artifact, and the two runs meet in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xrayssl.handoff import FILE

KIND, MODEL = "backbone", "model"
DIGITS = 16  # of the checksum, in an artifact's name


def made(run: Any, sha256: str, facts: Mapping[str, Any]) -> None:
    """Says that a run made some weights.

    Args:
        run: Of Weights & Biases.
        sha256: Of the file.
        facts: Of its header.
    """
    run.log_artifact(_reference(sha256, facts))


def used(run: Any, sha256: str, facts: Mapping[str, Any]) -> None:
    """Says that a run started from some weights; nothing is waited for, so that a bad line stops no training.

    Args:
        run: Of Weights & Biases.
        sha256: Of the file.
        facts: What is known of it.
    """
    run._log_artifact(_reference(sha256, facts), aliases=[], is_user_created=True, use_after_commit=True)


def uploaded(run: Any, path: Path, title: str, facts: Mapping[str, Any]) -> None:
    """Hands the weights themselves over, as the next version of a model.

    Args:
        run: Of Weights & Biases.
        path: Of the file; it has to stay until it is uploaded.
        title: Of the model; other signs than letters, digits, dots and hyphens become `_`.
        facts: Of the file's header.
    """
    import wandb

    artifact = wandb.Artifact(re.sub(r"[^A-Za-z0-9._-]", "_", title), type=MODEL, metadata=dict(facts))
    artifact.add_file(str(path), policy="immutable", skip_cache=True)
    run.log_artifact(artifact)


def _reference(sha256: str, facts: Mapping[str, Any]) -> Any:
    import wandb

    name = f"{KIND}-{sha256[:DIGITS]}"
    artifact = wandb.Artifact(name, type=KIND, metadata={"sha256": sha256, **facts})
    artifact.add_reference(f"sha256:{sha256}", name=FILE)
    return artifact
