"""What the machine offers: a precision that it is fast at, and the processes that a launcher has started on it."""

from __future__ import annotations

import os
from typing import Any

import torch


def precision(accelerator: str) -> str:
    """Chooses bf16-mixed where the hardware is fast at it, else 32-true.

    Args:
        accelerator: Name of the accelerator as the trainer takes it; "auto" is a GPU where there is one.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if accelerator == "auto" and torch.backends.mps.is_available():
        return "32-true"
    return "bf16-mixed" if accelerator in ("auto", "cpu") and torch.cpu._is_amx_tile_supported() else "32-true"


def processes(asked: dict[str, Any]) -> dict[str, Any]:
    """Takes the number of processes from torchrun, where it started them and the configuration leaves it open."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    if "TORCHELASTIC_RUN_ID" not in os.environ or world == 1 or asked["devices"] != "auto":
        return {}
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    strategy = "ddp" if asked["strategy"] == "auto" else asked["strategy"]
    return {"devices": local, "num_nodes": world // local, "strategy": strategy}
