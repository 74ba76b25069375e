"""Parameter groups and the learning-rate schedule of masked autoencoders and their fine-tuning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from xrayssl.backbone import Backbone
from xrayssl.errors import refuse


@dataclass(frozen=True)
class Optim:
    """AdamW with linear warm-up and a half cosine (Loshchilov & Hutter 2017).

    Args:
        lr: Peak learning rate; with `reference_batch`, the rate per that many films.
        reference_batch: Scale lr by effective batch / reference_batch (Goyal et al. 2017); null takes lr as it is.
        weight_decay: Of weights; biases, norms, positions and class tokens have none.
        betas: Of AdamW.
        warmup_epochs: Of linear warm-up, may be a fraction.
        min_lr: Where the cosine ends.
        layer_decay: Factor of the rate from one layer to the one below it (Bao et al. 2021, BEiT); null is 1.
        min_layer_scale: Floor of that factor's product, 0-1; deep CNNs have a hundred layers.

    Raises:
        UserError: If a number is outside its range.
    """

    lr: float = 1.5e-4
    reference_batch: int | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_epochs: float = 5.0
    min_lr: float = 0.0
    layer_decay: float | None = None
    min_layer_scale: float = 1e-4

    def __post_init__(self) -> None:
        ranges = {
            "lr": (self.lr > 0, "above 0"),
            "min_lr": (self.lr <= 0 or 0 <= self.min_lr <= self.lr, "from 0 to lr"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "warmup_epochs": (self.warmup_epochs >= 0, "0 or more"),
            "reference_batch": (self.reference_batch is None or self.reference_batch > 0, "above 0, or null"),
            "layer_decay": (self.layer_decay is None or 0 < self.layer_decay <= 1, "above 0 and at most 1, or null"),
            "min_layer_scale": (0 <= self.min_layer_scale <= 1, "from 0 to 1"),
            "betas": (all(0 <= beta < 1 for beta in self.betas), "two shares from 0 to below 1"),
        }
        wrong = {name: legal for name, (right, legal) in ranges.items() if not right}
        refuse([f"model.optim.{name} must be {legal}, not {getattr(self, name)}." for name, legal in wrong.items()])

    def peak(self, effective_batch: int) -> float:
        """The peak learning rate at an effective batch (films x accumulation x processes)."""
        return self.lr * effective_batch / self.reference_batch if self.reference_batch else self.lr

    def build(
        self,
        module: nn.Module,
        backbone: Backbone,
        effective_batch: int,
        steps: int,
        steps_per_epoch: float,
        unfreeze_after: int = 0,
    ) -> tuple[AdamW, LambdaLR]:
        """The optimiser over all trainable parameters of a module, and its schedule per step.

        Args:
            module: To train.
            backbone: Its backbone.
            effective_batch: Films x accumulation x processes.
            steps: Of the whole training.
            steps_per_epoch: Of the optimiser.
            unfreeze_after: Epochs for which the backbone is frozen: its rates are 0, then they warm up.
        """
        lr = self.peak(effective_batch)
        groups = self._groups(module, backbone, lr, apart=unfreeze_after > 0)
        optimizer = AdamW(groups, lr=lr, betas=self.betas, fused=True)
        # Lightning refuses to clip gradients for an optimiser that unscales them itself; this one can, but need not.
        optimizer._step_supports_amp_scaling = False
        warmup = round(min(self.warmup_epochs * steps_per_epoch, steps))
        if 0 < steps <= warmup:
            rank_zero_info(f"The learning rate rises over all {steps} steps of this training and never falls: "
                           f"model.optim.warmup_epochs is {self.warmup_epochs:g}; lower it.")  # fmt: skip
        floor, start = self.min_lr / lr, round(unfreeze_after * steps_per_epoch)

        def schedule(step: int) -> float:
            return warmup_cosine(step, warmup, steps, floor)

        def late(step: int) -> float:
            rise = min(1.0, (step - start + 1) / max(1, warmup)) if step >= start else 0.0
            return rise * schedule(step)

        inside = {id(parameter) for parameter in backbone.parameters()} if unfreeze_after else set()
        frozen = [id(group["params"][0]) in inside for group in groups]
        return optimizer, LambdaLR(optimizer, [late if below else schedule for below in frozen])

    def _groups(self, module: nn.Module, backbone: Backbone, lr: float, apart: bool) -> list[dict[str, Any]]:
        """Groups with their rates; of the backbone first, where its rates differ from those above it."""
        inside = {id(parameter) for parameter in backbone.parameters()}
        if self.layer_decay is None:
            exempt, every = _exempt(backbone), {id(parameter) for parameter in module.parameters()}
            done = [every - inside, inside] if apart else [set()]
            return [group for left in done for group in _decay_groups(module, self.weight_decay, exempt, left)]
        # timm only tags lr_scale: torch's schedulers never read it, so the rates are multiplied here; and it counts
        # from the backbone's last layer, above which our head is one layer more.
        groups = param_groups_layer_decay(
            backbone.network,
            weight_decay=self.weight_decay,
            layer_decay=self.layer_decay,
            no_weight_decay_list=_exempt(backbone, prefix=""),
        )
        scales = [max(self.min_layer_scale, self.layer_decay * group["lr_scale"]) for group in groups]
        layers = [{**group, "lr_scale": scale, "lr": lr * scale} for group, scale in zip(groups, scales, strict=True)]
        return layers + _decay_groups(module, self.weight_decay, set(), inside)


def effective_batch(trainer: Any) -> int:
    """Films that a step of the optimiser sees: of a batch x accumulated batches x processes."""
    batch = getattr(getattr(trainer, "datamodule", None), "batch_size", 1)
    return int(batch * trainer.accumulate_grad_batches * trainer.world_size)


def warmup_cosine(step: int, warmup: int, total: int, floor: float = 0.0) -> float:
    """Factor of the learning rate: linear to 1 over the warm-up, then half a cosine to the floor at the last step."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _exempt(backbone: Backbone, prefix: str = "backbone.network.") -> set[str]:
    names = backbone.network.no_weight_decay() if hasattr(backbone.network, "no_weight_decay") else set()
    return {prefix + name for name in names}


def _decay_groups(
    module: nn.Module, weight_decay: float, exempt: set[str], done: set[int] | None = None
) -> list[dict[str, Any]]:
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and id(parameter) not in (done or ()):
            groups[parameter.ndim > 1 and name not in exempt].append(parameter)
    return [
        {"params": parameters, "weight_decay": weight_decay if decays else 0.0}
        for decays, parameters in groups.items()
        if parameters
    ]
