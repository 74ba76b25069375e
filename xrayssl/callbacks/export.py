"""The hand-off to the next stage, written at the end of every fit."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from xrayssl import checkpoint, handoff
from xrayssl.methods import Method


class BackboneExport(Callback):
    """Writes backbone.safetensors into the run: of the best checkpoint where the method selects one, else the last.

    Args:
        git: Revision of the code, for the header.
    """

    def __init__(self, git: str | None = None) -> None:
        self.git = git

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the file, unless the run was a control."""
        assert isinstance(pl_module, Method)
        if getattr(pl_module, "is_control", False):
            return
        best = getattr(trainer.checkpoint_callback, "best_model_path", "") if pl_module.monitor else ""
        backbone = pl_module.backbone
        current = {name: value.clone() for name, value in backbone.network.state_dict().items()}
        if best:
            state = checkpoint.load(Path(best))["state_dict"]
            backbone.network.load_state_dict({name: state[handoff.PREFIX + name] for name in current})
        path = handoff.save(
            backbone, Path(trainer.default_root_dir) / handoff.FILE, **self._metadata(trainer, pl_module)
        )
        backbone.network.load_state_dict(current)
        rank_zero_info(f"The backbone for the next stage: {path}")

    def _metadata(self, trainer: Trainer, pl_module: Method) -> dict[str, Any]:
        manifest = getattr(getattr(trainer, "datamodule", None), "manifest", None)
        return {
            "method": type(pl_module).__name__,
            "parents": pl_module.parents,
            "git": self.git,
            "data": manifest.checksum() if manifest is not None else None,
            **handoff.marked(getattr(pl_module, "select_on", None)),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
