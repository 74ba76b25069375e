"""Films per second and peak memory of one masked-autoencoder training step, ours beside a plain implementation.

A step is forward, backward and AdamW on a batch of random films in memory. All variants of a case run in turns in one
process, so that a busy machine is busy for all; `--threads 1` counts processor time instead. Every variant has the
same memory settings (`xrayssl.memory.keep_freed_memory`; `--default-memory` leaves them out for all). Peak memory is
the largest resident set of a process of its own that makes two steps, less what its libraries take.

Variants: the plain step (`plain_mae.py`) in float32 and under bfloat16 autocast, on three channels as published and on
one channel, which is our architecture exactly; ours under autocast; ours in float32; and ours with the cross-attention
decoder on a quarter of the hidden patches. `over_reference_*` divide by the published step (three channels),
`over_one_channel_bf16` by the one with exactly our sizes; `cross_over_self` is for the deepest decoder measured. Each
is the smallest over the cases (patches hidden, decoder blocks), and the table before has every case.

What limits each, by a profile on a CPU with AMX (ViT-S/16, 2 blocks, 75 % hidden, ours): matrix products of weights 40
% of the time, which both sides must do and which reach two thirds of the best rate seen; attention (scores, softmax,
their gradients and layouts) 20 %, most of it in the decoder, whose heads are only 32 wide; GELU and its gradient 9 %;
casts between float32 and bfloat16 8 %; layer norms, shortcuts and sums of biases 12 %; AdamW 3 %. The plain step in
float32 is limited by its products; under autocast by the same list, with products of transposed long matrices, AdamW,
and work on patches that nobody asks for on top. With 8 blocks nearly all time is in the decoder's blocks, where there
is least to spare. The cross decoder is limited by the encoder. torch.compile made the step slower (0.92 x).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xrayssl.memory import keep_freed_memory

VARIANTS = ("plain3_fp32", "plain3_bf16", "plain1_fp32", "plain1_bf16", "ours_fp32", "ours_bf16", "cross_bf16")
SIZES = {"vit_small_patch16_224": (384, 12, 6), "vit_tiny_patch16_224": (192, 12, 3)}


def build(variant: str, case: dict[str, Any]) -> Callable[[Any], float]:
    """One training step of a variant, returning its seconds."""
    import torch
    from plain_mae import PlainMAE

    from xrayssl.masking import Masking
    from xrayssl.methods import MAEPretrain

    kind, precision = variant.split("_")
    if kind.startswith("plain"):
        plain = PlainMAE(case["size"], int(kind[-1]), *SIZES[case["name"]], decoder_depth=case["depth"])
        return stepper(plain, lambda image: plain(image, case["ratio"]), precision, fused=False)
    torch.manual_seed(0)
    options = {"decoder": "cross", "decode_fraction": 0.25} if kind == "cross" else {}
    ours = MAEPretrain(
        backbone=case["name"], img_size=case["size"], decoder_depth=case["depth"], masking=Masking(case["ratio"]),
        compile=case["compile"], **options,
    )  # fmt: skip
    return stepper(ours, lambda image: ours.losses({"image": image})["loss"], precision, fused=True)


def clock() -> float:
    """Seconds; of one thread only those that it had the processor, so that others on the machine do not count."""
    import torch

    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def stepper(module: Any, loss: Callable[[Any], Any], precision: str, fused: bool) -> Callable[[Any], float]:
    """Forward, backward and AdamW: ours as `Optim` builds it, the baseline as torch does by default."""
    import torch

    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, 1e-4, betas=(0.9, 0.95), fused=fused or None)

    def run(image: Any) -> float:
        start = clock()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            value = loss(image)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        return clock() - start

    return run


def race(case: dict[str, Any], rounds: int) -> dict[str, float]:
    """Films per second of every variant, by the median over rounds in which each makes a step."""
    import torch

    image = torch.randn(case["batch"], 1, case["size"], case["size"])
    steps = {variant: build(variant, case) for variant in VARIANTS}
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds + 1):  # the first warms up
        for variant, run in steps.items():
            sys.stderr.write(f"\r{case['depth']} blocks, {case['ratio']} hidden: {number}/{rounds} {variant:<12}")
            seconds[variant] += [run(image)] * bool(number)
    sys.stderr.write("\n")
    return {variant: case["batch"] / statistics.median(values) for variant, values in seconds.items()}


def peak(variant: str, case: dict[str, Any]) -> float:
    """Largest resident memory in MiB of two steps in a process of their own, less what it had before."""
    command = [sys.executable, __file__, "--peak", variant, json.dumps(case)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(answer.splitlines()[-1])


def measure_peak(variant: str, case: dict[str, Any]) -> None:
    """What the process of `peak` does."""
    import torch

    import xrayssl.methods  # noqa: F401 - libraries are not counted

    image = torch.randn(case["batch"], 1, case["size"], case["size"])
    before = resident()
    run = build(variant, case)
    for _ in range(2):
        run(image)
    sys.stdout.write(f"{resident() - before}\n")


def resident() -> float:
    """Largest resident set of this process so far, MiB (getrusage would count the parent's, too)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def table(case: dict[str, Any], rates: dict[str, float], memory: dict[str, float]) -> None:
    """Writes one case."""
    sys.stdout.write(f"{case['name']} {case['size']} px, {case['depth']} blocks, {case['ratio']:.0%} hidden\n")
    for variant, rate in rates.items():
        ratio = rate / rates["plain3_bf16"]
        used = f"{memory[variant]:8.0f} MiB" if variant in memory else ""
        sys.stdout.write(f"  {variant:<12}{rate:8.1f} films/s {ratio:6.2f} x plain3_bf16 {used}\n")
    sys.stdout.flush()


def figures(results: list[tuple[dict[str, Any], dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    """The last line: the worst case of each claim, and every rate."""

    def worst(upper: str, lower: str, cases: Any = results) -> float:
        return round(min(rates[upper] / rates[lower] for _, rates, _ in cases), 3)

    deepest = max(case["depth"] for case, _, _ in results)
    shares = [memory["ours_bf16"] / memory["plain3_bf16"] for _, _, memory in results if memory]
    return {
        "over_reference_fp32": worst("ours_bf16", "plain3_fp32"),
        "over_reference_bf16": worst("ours_bf16", "plain3_bf16"),
        "over_one_channel_bf16": worst("ours_bf16", "plain1_bf16"),
        "cross_over_self": worst("cross_bf16", "ours_bf16", [r for r in results if r[0]["depth"] == deepest]),
        "peak_memory_ratio": round(max(shares), 3),
        "films_per_second": {
            f"{case['depth']} blocks, {case['ratio']}": {name: round(rate, 2) for name, rate in rates.items()}
            for case, rates, _ in results
        },
    }


def main() -> None:
    """Measures, prints a table of every case, and a JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ViT-Ti at 112 px, batch 16, one case")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.9, 0.75])
    parser.add_argument("--threads", type=int, help="default: all cores; 1 counts processor time, for a busy machine")
    parser.add_argument("--compile", action="store_true", help="ours through torch.compile")
    parser.add_argument("--default-memory", action="store_true", help="the system's memory settings, for all variants")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.peak:
        variant, case = wanted.peak[0], json.loads(wanted.peak[1])
        case["default_memory"] or keep_freed_memory()
        measure_peak(variant, case)
        return
    wanted.default_memory or keep_freed_memory()
    import torch

    torch.set_num_threads(wanted.threads or torch.get_num_threads())
    name, size, batch = "vit_small_patch16_224", 224, wanted.batch
    if wanted.quick:
        name, size, batch, wanted.rounds, wanted.ratios, wanted.depths = "vit_tiny_patch16_224", 112, 16, 3, [0.9], [8]
    results = []
    for depth in wanted.depths:
        for ratio in wanted.ratios:
            case = {"name": name, "size": size, "depth": depth, "ratio": ratio, "batch": batch,
                    "compile": wanted.compile, "default_memory": wanted.default_memory}  # fmt: skip
            rates = race(case, wanted.rounds)
            memory = {variant: peak(variant, case) for variant in ("plain3_bf16", "ours_bf16", "cross_bf16")}
            table(case, rates, memory)
            results.append((case, rates, memory))
    sys.stdout.write(f"{json.dumps({**figures(results), 'threads': torch.get_num_threads()})}\n")


if __name__ == "__main__":
    main()
