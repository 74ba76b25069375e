"""Films per second of one training step of each method, ours beside lightly's or, where it has none, a plain one.

A step is forward and backward under bfloat16 autocast, AdamW, and what moves with it: copies, queues, prototypes. All
sides get the same films, in memory, as floats of one channel. The three variants of a method run in turns in one
process, so that a busy machine is busy for all; `--threads 1` counts processor time instead.

* ours: as `xrayssl fit` runs it, without Lightning's loop.
* peer: lightly (https://github.com/lightly-ai/lightly, MIT; `lightly_methods.py`) for MoCo, BYOL, SwAV with two views,
  six small crops and a queue, SimCLR (which our Exemplar of the kind "instance" is) and MAE; our own plain writing of
  the papers (`plain_methods.py`) for rotation, jigsaw, relative patch and surrogate exemplar, which lightly lacks. The
  network is timm's as it comes, the optimiser torch's by default.
* peer_shared: the same on our backbone (convolutions with channels last, a ViT's attention as `xrayssl.attention`
  computes it) with the fused AdamW, so that only the method differs.

The last line has, for each method, the ratio ours / peer of the worst network; `shared` has the same against
peer_shared. Each variant counts with its quickest round: what slows a round down is the machine's other work.

What limits: the network's products and convolutions, which all sides do alike; with few small films (8 of 64 px) also
the casts of weights to bfloat16, half of the step of a jigsaw, whose head has 23 million. What ours gain beyond the
backbone: a queue that is read where it lies rather than copied in each step (MoCo), views of one size in one pass
(SimCLR, SwAV), tiles cut by one indexing (jigsaw, relative patch), predictions of hidden patches only (MAE). Rotation,
surrogate exemplar and BYOL do what their peers do. MoCo's cosines are float32 with ours and bfloat16 with lightly under
autocast, so that of 256 films against 65536 keys our loss takes 1.1 times as long: 0.17 s on one core, where the step
takes a hundred times that. With batch norms, SimCLR and SwAV in one pass normalise over the views together.

Why lightly is no dependency. Its heads, NT-Xent, Sinkhorn, memory bank and moving average would stand for some 200
lines of `heads`, `contrast`, `sinkhorn`, `memory_bank` and `momentum`. For these it brings 24,000 lines and hydra-core,
omegaconf, antlr4-python3-runtime and pytorch_lightning, which is Lightning once more under its other name. And they do
not do what is needed here: its memory bank is not saved, so that no run is resumed bit by bit, drops what reaches
beyond its end, and cannot keep a film's own earlier keys apart; its average leaves running statistics behind; its
Sinkhorn takes exponentials, which overflow in float32 where epsilon is below 1 / 88. Theirs has more methods than ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from xrayssl.memory import keep_freed_memory

METHODS = ("rotation", "jigsaw", "relative_patch", "exemplar", "simclr", "moco", "byol", "swav", "mae")
VARIANTS = ("ours", "peer", "peer_shared")
WARM_UP = 2  # rounds; a second step still asks for memory
NETWORKS = ["resnet18", "vit_small_patch16_224"]
MISSING = (
    "lightly, which ours is compared with, is not installed: pip install --no-deps lightly==1.6.0 is enough, as the "
    "parts in use import nothing beyond torch, torchvision and timm.\n"
)


def ours(name: str, case: Any) -> tuple[Any, Callable[[], None]]:
    """A method of ours, and what it does after the optimiser's step."""
    from xrayssl import methods
    from xrayssl.masking import Masking

    network = {"backbone": case.network, "img_size": case.size}
    makers: dict[str, Callable[[], Any]] = {
        "rotation": lambda: methods.RotationProxy(**network),
        "jigsaw": lambda: methods.Jigsaw(**network),
        "relative_patch": lambda: methods.RelativePatch(**network),
        "exemplar": lambda: methods.Exemplar(kind="surrogate", **network),
        "simclr": lambda: methods.Exemplar(kind="instance", **network),
        "moco": lambda: methods.MoCo(queue=case.queue, **network),
        "byol": lambda: methods.BYOL(**network),
        "swav": lambda: methods.SwAV(
            prototypes=case.prototypes, queue=case.earlier, queue_after=0, freeze=0, **network
        ),
        "mae": lambda: methods.MAEPretrain(masking=Masking(0.75), **network),
    }
    made = makers[name]()
    if name == "exemplar":
        made.classify(range(case.classes))
    for bank in getattr(made, "queues", []):
        bank.count.fill_(len(bank))  # full from the start, as lightly's
    momentum = getattr(made, "momentum", None)
    return made.train(), lambda: None if momentum is None else made._follow(momentum)


def theirs(name: str, case: Any, shared: bool) -> Any:
    """What a method is compared with."""
    import lightly_methods
    import plain_methods

    makers = {
        "rotation": plain_methods.PlainRotation, "jigsaw": plain_methods.PlainJigsaw,
        "relative_patch": plain_methods.PlainRelativePatch, "exemplar": plain_methods.PlainSurrogate,
        "simclr": lightly_methods.LightlySimCLR, "moco": lightly_methods.LightlyMoCo,
        "byol": lightly_methods.LightlyBYOL, "swav": lightly_methods.LightlySwAV, "mae": lightly_methods.LightlyMAE,
    }  # fmt: skip
    return makers[name](case, shared).train()


def build(variant: str, name: str, case: Any) -> Callable[[Any], float]:
    """One training step, which returns its seconds."""
    import torch

    from xrayssl.optim import Optim

    torch.manual_seed(0)
    if variant == "ours":
        made, follow = ours(name, case)
        optimizer, _ = Optim().build(made, made.backbone, case.batch, 1000, 100)
        return stepper(optimizer, lambda batch: made.losses(batch)["loss"], made.on_after_backward, follow)
    peer = theirs(name, case, variant == "peer_shared")
    trained = [parameter for parameter in peer.parameters() if parameter.requires_grad]
    fused = True if variant == "peer_shared" else None
    optimizer = torch.optim.AdamW(trained, 1.5e-4, betas=(0.9, 0.95), weight_decay=0.05, fused=fused)
    return stepper(optimizer, peer, lambda: None, lambda: None)


def stepper(
    optimizer: Any, loss: Callable[[Any], Any], after_backward: Callable[[], None], follow: Callable[[], None]
) -> Callable[[Any], float]:
    """Forward, backward, AdamW, and what a method does between and after them."""
    import torch

    def run(batch: Any) -> float:
        start = clock()
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(batch)
        value.backward()
        after_backward()
        optimizer.step()
        optimizer.zero_grad()
        follow()
        return clock() - start

    return run


def clock() -> float:
    """Seconds; of one thread only those that it had the processor, so that others on the machine do not count."""
    import torch

    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def films(case: Any) -> dict[str, Any]:
    """Normalised films at random, in two views and small crops."""
    import torch

    sides = [case.size] * 2 + [case.small] * case.crops
    views = [torch.randn(case.batch, 1, side, side) for side in sides]
    return {"image": views[0], "views": views, "index": torch.arange(case.batch)}


def race(name: str, case: Any, rounds: int) -> dict[str, list[float]]:
    """Films per second of every variant in each round."""
    batch = films(case)
    if name != "swav":
        batch["views"] = batch["views"][:2]
    steps = {variant: build(variant, name, case) for variant in VARIANTS}
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(-WARM_UP, rounds):
        for variant, run in list(steps.items())[:: 1 if number % 2 else -1]:
            sys.stderr.write(f"\r{case.network}, {name}: {number + 1}/{rounds} {variant:<12}")
            rates[variant] += [case.batch / run(batch)] * (number >= 0)
    sys.stderr.write("\n")
    return rates


def ratio(rates: dict[str, list[float]], other: str) -> float:
    """Ours over another, of the quickest rounds."""
    return max(rates["ours"]) / max(rates[other])


def table(name: str, case: Any, rates: dict[str, list[float]]) -> None:
    """Writes a line."""
    speeds = "".join(f"{max(rates[variant]):10.1f}" for variant in VARIANTS)
    ratios = "".join(f"{ratio(rates, other):10.2f}" for other in VARIANTS[1:])
    sys.stdout.write(f"{case.network:<24}{name:<16}{speeds}{ratios}\n")
    sys.stdout.flush()


def figures(found: dict[tuple[str, str], dict[str, list[float]]]) -> dict[str, Any]:
    """The last line: the worst network of each method, and every rate."""

    def worst(other: str) -> dict[str, float]:
        ratios: dict[str, list[float]] = {}
        for (_, name), rates in found.items():
            ratios.setdefault(name, []).append(ratio(rates, other))
        return {name: round(min(values), 3) for name, values in ratios.items()}

    rates = {
        f"{network}, {name}": {variant: round(max(values), 2) for variant, values in each.items()}
        for (network, name), each in found.items()
    }
    return {**worst("peer"), "shared": worst("peer_shared"), "films_per_second": rates}


def cases(wanted: argparse.Namespace) -> list[Any]:
    """One for each network."""
    from plain_methods import Case

    from xrayssl.backbone import Backbone
    from xrayssl.tiles import Tiles

    size, found = wanted.size, []
    small = max(1, round(96 / 224 * size / 16)) * 16
    for name in wanted.network:
        tile = Tiles(Backbone(name, size)).tile
        found.append(Case(name, size, small, wanted.crops, wanted.batch, wanted.queue, 3840, 300, 2000, tile))
    return found


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small films and networks, two rounds: under a minute")
    parser.add_argument("--network", nargs="+", default=NETWORKS, help=f"timm's names (default: {' '.join(NETWORKS)})")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--queue", type=int, default=65536, help="of MoCo")
    parser.add_argument("--crops", type=int, default=6, help="small ones, of SwAV")
    parser.add_argument("--threads", type=int, help="default: all cores; 1 counts processor time, for a busy machine")
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.network, wanted.rounds, wanted.batch, wanted.size = ["resnet18", "vit_tiny_patch16_224"], 2, 8, 64
        wanted.crops = 2
    return wanted


def main() -> None:
    """Measures and writes a table, a JSON object last."""
    wanted = parse()
    if importlib.util.find_spec("lightly") is None:
        sys.stderr.write(MISSING)
        sys.exit(2)
    keep_freed_memory()
    import torch

    torch.set_num_threads(wanted.threads or torch.get_num_threads())
    sys.stdout.write(f"{'':40}{'films per second':^30}{'ours over':^20}\n")
    sys.stdout.write(f"{'':40}{''.join(f'{name:>10.10}' for name in ('ours', 'peer', 'shared', 'peer', 'shared'))}\n")
    found = {}
    each = cases(wanted)
    for case in each:
        for name in wanted.method:
            if name == "mae" and not case.network.startswith("vit"):
                continue
            found[case.network, name] = race(name, case, wanted.rounds)
            table(name, case, found[case.network, name])
    settings = {"cases": [asdict(case) for case in each], "threads": torch.get_num_threads()}
    sys.stdout.write(f"{json.dumps({**figures(found), **settings})}\n")


if __name__ == "__main__":
    main()
