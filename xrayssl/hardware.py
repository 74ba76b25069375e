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
    """Takes the number of processes from torchrun or srun, where these start them and the configuration names none."""
    world, nodes = _launched()
    if world == 1 or asked["devices"] != "auto":
        return {}
    strategy = "ddp" if asked["strategy"] == "auto" else asked["strategy"]
    return {"devices": world // nodes, "num_nodes": nodes, "strategy": strategy}


def _launched() -> tuple[int, int]:
    """Processes that a launcher has started, and machines they are on."""
    told = os.environ
    if "TORCHELASTIC_RUN_ID" in told:
        world = int(told.get("WORLD_SIZE", 1))
        return world, world // int(told.get("LOCAL_WORLD_SIZE", world))
    return int(told.get("SLURM_STEP_NUM_TASKS", 1)), int(told.get("SLURM_STEP_NUM_NODES", 1))
