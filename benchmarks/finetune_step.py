"""Films per second of one fine-tuning step, ours beside timm's own way of training, on the same network and films.

A step is forward, loss, backward, AdamW with layer decay and the schedule, on a batch of random films in memory. All
variants run in turns in one process, so that a busy machine is busy for all; `--threads 1` counts processor time
instead. Every variant has the same memory settings (`xrayssl.memory.keep_freed_memory`; `--default-memory` leaves them
out for all), and the same loss: binary cross-entropy over 14 findings.

Variants: timm's network with its classifier on the mean of the patches (`global_pool="avg"`), the optimiser of
`timm.optim.create_optimizer_v2` with layer decay, and a step as in timm's training script: autocast, backward and
optimiser (its NativeScaler is for float16 alone, and only on a GPU), on one channel, which is our network exactly, and
on three, as is usual; float32 and bfloat16. Ours: `Finetune` with `Optim`. Ours starts from the bytes of the films, as
our loader gives them; timm's from floats that were normalised beforehand, outside the time, as its loader does.

timm's layer decay only marks the groups; the rates themselves are multiplied by timm's scheduler, which costs no time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from mae_step import clock

from xrayssl.memory import keep_freed_memory

VARIANTS = ("timm3_fp32", "timm3_bf16", "timm1_fp32", "timm1_bf16", "ours_fp32", "ours_bf16")
FINDINGS = 14
RECIPE = {"lr": 1e-4, "weight_decay": 0.05, "betas": (0.9, 0.95), "layer_decay": 0.55}


def build(variant: str, case: dict[str, Any]) -> Callable[[], float]:
    """One training step of a variant on its own batch, returning its seconds."""
    import torch

    torch.manual_seed(0)
    kind, precision = variant.split("_")
    image_BCHW = torch.randint(256, (case["batch"], 1, case["size"], case["size"]), dtype=torch.uint8)
    label_BK = (torch.rand(case["batch"], FINDINGS) < 0.1).float()
    made = ours(case, image_BCHW, label_BK) if kind == "ours" else theirs(case, image_BCHW, label_BK, int(kind[-1]))
    return partial(step, *made, torch.bfloat16 if precision == "bf16" else None)


def step(loss: Callable[[], Any], optimizer: Any, schedule: Callable[[], Any], dtype: Any) -> float:
    """Forward, backward, the optimiser and its schedule."""
    import torch

    start = clock()
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        value = loss()
    value.backward()
    optimizer.step()
    schedule()
    optimizer.zero_grad()
    return clock() - start


def ours(case: dict[str, Any], image_BCHW: Any, label_BK: Any) -> tuple[Any, ...]:
    """Our loss, optimiser and schedule."""
    from xrayssl.methods import Finetune
    from xrayssl.optim import Optim

    optim = Optim(**RECIPE)
    names = [f"finding {number}" for number in range(FINDINGS)]
    method = Finetune(names, "multilabel", backbone=case["name"], img_size=case["size"], drop_path=0.2, optim=optim)
    optimizer, schedule = optim.build(method.train(), method.backbone, case["batch"], 1000, 100)
    batch = {"image": image_BCHW, "label": label_BK}
    return lambda: method._losses(batch)["loss"], optimizer, schedule.step


def theirs(case: dict[str, Any], image_BCHW: Any, label_BK: Any, channels: int) -> tuple[Any, ...]:
    """timm's."""
    import timm
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from torch.nn import BCEWithLogitsLoss

    network = timm.create_model(case["name"], num_classes=FINDINGS, in_chans=channels, img_size=case["size"],
                                global_pool="avg", drop_path_rate=0.2).train()  # fmt: skip
    optimizer = create_optimizer_v2(network, opt="adamw", **RECIPE)
    schedule, updates, criterion = CosineLRScheduler(optimizer, 1000, t_in_epochs=False), [0], BCEWithLogitsLoss()
    film_BCHW = ((image_BCHW.float() / 255 - 0.5) / 0.25).expand(-1, channels, -1, -1).contiguous()

    def advance() -> None:
        updates[0] += 1
        schedule.step_update(updates[0])

    return lambda: criterion(network(film_BCHW), label_BK), optimizer, advance


def race(case: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of every variant, in each of the rounds in which all make a step."""
    steps = {variant: build(variant, case) for variant in VARIANTS}
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds + 1):  # the first warms up
        for variant, run in steps.items():
            sys.stderr.write(f"\r{number}/{rounds} {variant:<12}")
            seconds[variant] += [run()] * bool(number)
    sys.stderr.write("\n")
    return seconds


def main() -> None:
    """Measures, prints a table, and a JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="batches of 8, 3 rounds")
    parser.add_argument("--backbone", default="vit_small_patch16_224", help="a ViT of timm")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, help="default: all cores; 1 counts processor time, for a busy machine")
    parser.add_argument("--default-memory", action="store_true", help="the system's memory settings, for all variants")
    wanted = parser.parse_args()
    wanted.default_memory or keep_freed_memory()
    import torch

    torch.set_num_threads(wanted.threads or torch.get_num_threads())
    batch, rounds = (8, 3) if wanted.quick else (wanted.batch, wanted.rounds)
    seconds = race({"name": wanted.backbone, "size": wanted.size, "batch": batch}, rounds)
    rates = {variant: batch / statistics.median(values) for variant, values in seconds.items()}
    for variant, rate in rates.items():
        sys.stdout.write(f"{variant:<12}{rate:8.1f} films/s {rate / rates['timm1_bf16']:6.2f} x timm1_bf16\n")
    figures = {
        "over_timm": round(rates["ours_bf16"] / rates["timm1_bf16"], 3),
        "over_timm_fp32": round(rates["ours_fp32"] / rates["timm1_fp32"], 3),
        "over_timm_rgb": round(rates["ours_bf16"] / rates["timm3_bf16"], 3),
        "bf16_over_fp32": round(rates["ours_bf16"] / rates["ours_fp32"], 3),
        "batch": batch, "threads": torch.get_num_threads(),
        "films_per_second": {variant: round(rate, 2) for variant, rate in rates.items()},
    }  # fmt: skip
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
