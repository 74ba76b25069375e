"""Grad-CAM maps per second, ours (`xrayssl.explain.cam.maps`) against pytorch-grad-cam's GradCAM.

Both explain one class of each of a batch of random films, on the same network with the same weights, in evaluation and
in float32. All variants run in turns in one process, so that a busy machine is busy for all; `--threads 1` counts
processor time instead. A ratio is the median over the rounds of their seconds over ours. Memory that was freed is kept
for all alike (`xrayssl.memory`). Before the race it is seen that at the grid both make the same maps.

Variants: `ours` and `library`, both at the grid of our backbone, the last map of features. Of the ViT also
`library_norm1`: at `blocks[-1].norm1`, with a reshape, as the library is used, which makes another map.

What limits: ours is one forward pass, within a few percent (`over_forward`), since no graph is kept below the layer and
the gradient ends there; the library keeps one for all parameters, and goes back through the whole network. Several
classes need no second pass.

The last line has, as ratios of ours over theirs:

* resnet50, vit_small: at the same layer, the grid.
* vit_small_norm1: over the library as it is used with a ViT.
* over_forward: the seconds of ours over those of a forward pass without gradient, of the worse network.
* fourteen_classes: the seconds of ours for fourteen classes over those for one, of the worse network.
* largest_difference: between our maps and the library's, both scaled to 0-1.
* maps_per_second: of each variant.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

from mae_step import clock

from xrayssl.memory import keep_freed_memory

NETWORKS = {"resnet50": "resnet50", "vit_small": "vit_small_patch16_224"}
SIZE, CLASSES, CLASS = 224, 14, 3


def variants(name: str, batch: int) -> dict[str, Callable[[], Any]]:
    """What makes the maps of a batch in each way."""
    import torch

    from xrayssl.explain import cam
    from xrayssl.methods import Finetune

    torch.manual_seed(0)
    names = [f"finding {number}" for number in range(CLASSES)]
    model = Finetune(names, "multilabel", backbone=name, img_size=SIZE).eval()
    image_BCHW = torch.randn(batch, 1, SIZE, SIZE)
    grid = model.backbone.grid
    made = {
        "ours": lambda: cam.maps(model, grid, image_BCHW, [CLASS])[0],
        "library": library(copy.deepcopy(model), image_BCHW, lambda twin: twin.grid),
        "forward": torch.no_grad()(lambda: model(image_BCHW)),
        "ours_14": lambda: cam.maps(model, grid, image_BCHW, range(CLASSES))[0],
    }
    if model.backbone.is_vit:
        last = library(copy.deepcopy(model), image_BCHW, lambda twin: twin.network.blocks[-1].norm1, patches)
        made["library_norm1"] = last
    return made


def library(
    model: Any, image_BCHW: Any, layer: Callable[[Any], Any], reshape: Callable[[Any], Any] | None = None
) -> Callable[[], Any]:
    """pytorch-grad-cam's, on a network of its own, for it leaves hooks and gradients there."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    explainer = GradCAM(model=model, target_layers=[layer(model.backbone)], reshape_transform=reshape)
    targets = [ClassifierOutputTarget(CLASS)] * len(image_BCHW)
    return lambda: explainer(image_BCHW, targets=targets)


def patches(tokens_BSD: Any) -> Any:
    """The tokens of a ViT without the class token, as a map."""
    side = round((tokens_BSD.shape[1] - 1) ** 0.5)
    return tokens_BSD[:, 1:].transpose(1, 2).unflatten(2, (side, side))


def race(name: str, batch: int, rounds: int) -> tuple[dict[str, list[float]], float]:
    """Seconds of every variant in each round, and by how much the maps of both differ."""
    makers = variants(name, batch)
    seconds: dict[str, list[float]] = {variant: [] for variant in makers}
    for number in range(rounds + 1):  # the first warms up
        for variant, make in list(makers.items())[:: 1 if number % 2 else -1]:
            sys.stderr.write(f"\r{name}: {number}/{rounds} {variant:<14}")
            start = clock()
            make()
            seconds[variant] += [clock() - start] * bool(number)
    sys.stderr.write("\n")
    return seconds, difference(makers["ours"](), makers["library"]())


def difference(ours_B1hw: Any, theirs_BHW: Any) -> float:
    """The largest, after the library's scaling."""
    from pytorch_grad_cam.utils.image import scale_cam_image

    ours_BHW = scale_cam_image(scale_cam_image(ours_B1hw[:, 0].numpy(), (SIZE, SIZE)))
    return float(abs(ours_BHW - theirs_BHW).max())


def ratio(seconds: dict[str, list[float]], slower: str, faster: str) -> float:
    """The median over the rounds."""
    return statistics.median(a / b for a, b in zip(seconds[slower], seconds[faster], strict=True))


def main() -> None:
    """Measures, prints a table, and a JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="batches of 2, 3 rounds")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, help="default: all cores; 1 counts processor time, for a busy machine")
    wanted = parser.parse_args()
    keep_freed_memory()
    import torch

    torch.set_num_threads(wanted.threads or torch.get_num_threads())
    batch, rounds = (2, 3) if wanted.quick else (wanted.batch, wanted.rounds)
    raced = {short: race(name, batch, rounds) for short, name in NETWORKS.items()}
    found = {short: seconds for short, (seconds, _) in raced.items()}
    rates = {short: {variant: batch / statistics.median(values) for variant, values in seconds.items()
                     if variant != "forward"} for short, seconds in found.items()}  # fmt: skip
    for short, seconds in found.items():
        rates[short]["ours_14"] *= CLASSES
        for variant, rate in rates[short].items():
            sys.stdout.write(f"{short:<10} {variant:<14}{rate:8.1f} maps/s\n")
        sys.stdout.write(f"{short:<10} ours / library: {ratio(seconds, 'library', 'ours'):.2f}\n")
    figures = {
        **{short: round(ratio(seconds, "library", "ours"), 3) for short, seconds in found.items()},
        "vit_small_norm1": round(ratio(found["vit_small"], "library_norm1", "ours"), 3),
        "over_forward": round(max(ratio(seconds, "ours", "forward") for seconds in found.values()), 3),
        "fourteen_classes": round(max(ratio(seconds, "ours_14", "ours") for seconds in found.values()), 3),
        "largest_difference": max(gap for _, gap in raced.values()),
        "maps_per_second": {short: {variant: round(rate, 2) for variant, rate in each.items()}
                            for short, each in rates.items()},
        "batch": batch, "threads": torch.get_num_threads(),
    }  # fmt: skip
    sys.stdout.write(f"{json.dumps(figures)}\n")


if __name__ == "__main__":
    main()
