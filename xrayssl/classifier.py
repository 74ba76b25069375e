"""A fine-tuned classifier as its run left it: the network with its weights, how it saw films, and where it decides."""

from __future__ import annotations

import filecmp
import json
import logging
import math
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xrayssl.errors import UserError
from xrayssl.results import METRICS
from xrayssl.trained import Trained, rebuilt

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
CHECKPOINTS = ("best", "last")
FILMS = ("corpora", "labels", "split_seed", "val", "test", "fold")


class Classifier(Trained):
    """A run of `Finetune`; its `method` is in evaluation, its `data` are the arguments of its data module."""

    @property
    def classes(self) -> list[str]:
        """Names of the outputs."""
        return list(self.method.classes)

    @cached_property
    def operating(self) -> dict[str, Any] | None:
        """Threshold per class and temperature, fitted on validation films for these very weights; None without."""
        return self._tested.get("operating") or None

    @property
    def of_studies(self) -> bool:
        """Whether those were fitted on studies, for the mean probability of a study's films: they hold for no film."""
        return self.operating is not None and self._tested.get("unit") == "study"

    @property
    def thresholds(self) -> dict[str, float]:
        """By class, for single films; without those that validation films did not give, none where studies count."""
        known = {} if self.of_studies else (self.operating or {}).get("threshold") or {}
        return {name: value for name, value in known.items() if value is not None and not math.isnan(value)}

    @cached_property
    def _tested(self) -> dict[str, Any]:
        return self.figures("test") or {}

    def figures(self, split: Literal["test", "val"]) -> dict[str, Any] | None:
        """The newest metrics.json of the run about this split and these weights; None where there is none."""
        files = [file for file in self.run.glob(f"*/{METRICS}")] + [self.run / METRICS]
        known = [(file, _json(file)) for file in files if file.is_file() and self._is_ours(file) and self._alike(file)]
        ours = [(file.stat().st_mtime, content) for file, content in known if content.get("split") == split]
        return max(ours, key=lambda pair: pair[0])[1] if ours else None

    def probabilities(self, image_BCHW: Tensor) -> Tensor:
        """What a test of the run would say of films, in its precision: float32 (B, K) on the CPU.

        Args:
            image_BCHW: Views, uint8.
        """
        import torch

        from xrayssl import hardware

        method, device = self.placed(), self._device
        precision = str(self._trainer.get("precision") or hardware.precision("cpu" if device == "cpu" else "auto"))
        half, mixed = torch.bfloat16 if "bf16" in precision else torch.float16, precision.startswith(("bf16", "16"))
        with torch.no_grad(), torch.autocast(device, half, enabled=mixed):
            return method.measured(image_BCHW.to(device))[1].float().cpu()

    def placed(self) -> Any:
        """The method, on the GPU where there is one and the run does not say otherwise."""
        return self.method.to(self._device)

    @property
    def _trainer(self) -> dict[str, Any]:
        return self.config.get("trainer") or {}

    @property
    def _device(self) -> str:
        import torch

        return "cuda" if self._trainer.get("accelerator") != "cpu" and torch.cuda.is_available() else "cpu"

    def _is_ours(self, file: Path) -> bool:
        """Whether figures are of these weights; those beside the config.yaml are of the best checkpoint."""
        if file.parent == self.run:
            return self.checkpoint.name == "best.ckpt" or not (self.run / "checkpoints" / "best.ckpt").exists()
        measured = _json(file.parent / "run.json").get("resumed")
        if measured is None:
            return False
        path = Path(measured)
        if path.is_file():  # the very file, or, where the run was copied, one with the same bytes
            return filecmp.cmp(path, self.checkpoint, shallow=False)
        return path.name == self.checkpoint.name  # where the run was moved, the name must do

    def _alike(self, file: Path) -> bool:
        """Whether figures are of the run's own films, seen as it sees them."""
        import yaml

        path = file.parent / "config.yaml"
        if not path.is_file():
            return False
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        return _films(found) == _films(self.config)


def _films(config: dict[str, Any]) -> dict[str, Any]:
    """What decides which films are measured, and from how many views."""
    model, data = (config.get(part, {}).get("init_args") or {} for part in ("model", "data"))
    return {**{name: data.get(name) for name in FILMS}, **{name: model.get(name) for name in ("tta", "score")}}


def load(run: str | Path, weights: Literal["best", "last"] | Path = "best") -> Classifier:
    """Rebuilds a classifier from the folder of its run.

    Args:
        run: The folder.
        weights: "best" (of a run without validation, its last), "last", or a checkpoint in a run's folder.

    Raises:
        UserError: If there is no such run or checkpoint, or the run trained no classifier.
    """
    found = rebuilt(_checkpoint(Path(run).expanduser(), weights), _no_classifier)
    return Classifier(found.checkpoint, found.method, found.config)


def _checkpoint(run: Path, weights: Literal["best", "last"] | Path) -> Path:
    if not (run / "config.yaml").is_file():
        raise UserError(f"--run {run}: there is no run in that folder (no config.yaml).")
    if str(weights) not in CHECKPOINTS:
        return Path(weights).expanduser()  # whose absence is told where it is read
    names = CHECKPOINTS if weights == "best" else (str(weights),)
    paths = [path for name in names if (path := run / "checkpoints" / f"{name}.ckpt").is_file()]
    if not paths:
        files = " or ".join(f"{name}.ckpt" for name in names)
        raise UserError(f"--run {run}: there is no checkpoint {files} in its folder checkpoints.")
    if paths[0].stem != weights:
        log.info("The run kept no best checkpoint: its last one is taken.")
    return paths[0]


def _no_classifier(kind: type) -> str | None:
    from xrayssl.methods import Finetune

    if issubclass(kind, Finetune):
        return None
    return f"{kind.__name__} learns no labels; take the run of a classifier, such as of --config finetune_chest."


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
