"""Films per second of one core from 1024-px PNG: the usual pipeline, ours from the files, ours from a store.

The usual one is Pillow -> RGB -> torchvision's RandomResizedCrop (bicubic) -> flip -> ToTensor -> Normalize -> stack.
Ours is the training loader of the data module in the process itself, to the normalised batch. The bare cost is
OpenCV's alone: the very crops that our loader drew, cut and resized one after the other from arrays in memory. Seconds
are those of the processor, so that neither threads nor other programs on the machine count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import transforms as torchvision

from xrayssl.backbone import Backbone
from xrayssl.data import XrayDataModule
from xrayssl.data.augment import Augment
from xrayssl.data.films import FilmLoader, film_seed
from xrayssl.data.phantom import render
from xrayssl.data.resizing import resize

SIDE, BATCH, BATCHES, ROUNDS = 224, 64, 4, 7
AUGMENT = Augment(scale=(0.5, 1.0), flip=0.5)
WORDS = {
    "reference": "reference: Pillow, RGB, torchvision, normalised",
    "raw": "ours from the files, normalised",
    "store": "ours from the store, normalised",
    "store_uint8": "ours from the store, as a worker hands it over (uint8)",
    "bare": "bare: OpenCV as we call it, same crops from memory",
    "bare_area": "bare: INTER_AREA",
    "bare_linear": "bare: INTER_LINEAR (passes over pixels)",
}
Run = Callable[[int], int]  # of a round; returns how many films it made ready


def write_films(folder: Path, originals: Path | None, count: int, distinct: int) -> None:
    """Names `count` films in a folder: those of another one in turn, or rendered ones."""
    sources = sorted(originals.glob("*.png")) if originals else []
    for number in range(0 if sources else distinct):
        sources.append(folder.parent / f"phantom-{number}.png")
        Image.fromarray(render("chest", 0, number, 1024).pixels).save(sources[-1])
        sys.stderr.write(f"\rrendered {number + 1}/{distinct} ")
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05}.png").symlink_to(sources[number % len(sources)].absolute())


def loader(root: Path) -> FilmLoader:
    """Our training films, read in this process."""
    data = XrayDataModule({"folder": str(root)}, img_size=SIDE, batch_size=BATCH, num_workers=0, augment=AUGMENT,
                          val=0, test=0)  # fmt: skip
    return data.train_dataloader()


def make_store(films: Path, out: Path) -> tuple[Path, int]:
    """The same films as `xrayssl prepare` keeps them by default, and the short side that it gave them."""
    command = [sys.executable, "-m", "xrayssl", "prepare", "--data.corpora.folder", str(films), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (facts,) = out.glob("*/store.json")
    return facts.parent, json.loads(facts.read_text())["size"]


def reference(root: Path) -> Run:
    """The usual pipeline over one batch."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    transform = torchvision.Compose([
        torchvision.RandomResizedCrop(SIDE, scale=(0.5, 1.0), interpolation=torchvision.InterpolationMode.BICUBIC),
        torchvision.RandomHorizontalFlip(), torchvision.ToTensor(), torchvision.Normalize(mean, std),
    ])  # fmt: skip
    paths = sorted(root.iterdir())

    def run(number: int) -> int:
        chosen = [paths[(number * BATCH + i) % len(paths)] for i in range(BATCH)]
        return len(torch.stack([transform(Image.open(path).convert("RGB")) for path in chosen]))

    return run


def ours(films: FilmLoader, batches: int, finish: Callable[[torch.Tensor], torch.Tensor]) -> Run:
    """Some batches of our loader, each ending in `finish`."""

    def run(number: int) -> int:
        films.sampler.set_epoch(number)
        return sum(len(finish(batch["image"])) for batch in islice(films, batches))

    return run


def bare(films: FilmLoader, shrink: Callable[[np.ndarray], np.ndarray]) -> Run:
    """The crops of the same batches, from arrays in memory; only cutting and resizing is under the clock."""
    memory = [np.array(films.dataset.film(row)) for row in range(len(films.dataset))]
    (view,) = films.dataset.views
    boxes: dict[int, list[tuple[int, tuple[int, int, int, int]]]] = {}
    for number in range(ROUNDS + 1):
        films.sampler.set_epoch(number)
        keys = films.sampler
        boxes[number] = [
            (row, view.box(memory[row].shape, film_seed(films.dataset.seed, epoch, row))) for epoch, row in keys
        ]

    def run(number: int) -> int:
        for row, (top, left, height, width) in boxes[number]:
            shrink(memory[row][top : top + height, left : left + width])
        return len(boxes[number])

    return run


def opencv(kind: int) -> Callable[[np.ndarray], np.ndarray]:
    """One call of OpenCV."""
    return lambda image: cv2.resize(image, (SIDE, SIDE), interpolation=kind)


def seconds(run: Run, number: int) -> float:
    """Of the processor, per film."""
    start = time.process_time()
    films = run(number)
    return (time.process_time() - start) / films


def programs(folder: Path, originals: Path | None, quick: bool) -> tuple[dict[str, Run], int]:
    """What is compared, and the short side of the store."""
    films = folder / "films"
    write_films(films, originals, count=BATCHES * BATCH, distinct=2 if quick else 16)
    store, side = make_store(films, folder / "store")
    raw, stored = loader(films), loader(store)
    normalize = Backbone("resnet18", SIDE, 1).normalize
    return {
        "reference": reference(films),
        "raw": ours(raw, 1, normalize),
        "store": ours(stored, BATCHES, normalize),
        "store_uint8": ours(stored, BATCHES, torch.Tensor.contiguous),
        "bare": bare(stored, lambda image: resize(image, (SIDE, SIDE))),
        "bare_area": bare(stored, opencv(cv2.INTER_AREA)),
        "bare_linear": bare(stored, opencv(cv2.INTER_LINEAR)),
    }, side


def report(spent: dict[str, list[float]], side: int) -> None:
    """Writes a table and, last, a JSON object. Ratios are taken within a round, then their median."""

    def over(slow: str, fast: str) -> float:
        return statistics.median(a / b for a, b in zip(spent[slow], spent[fast], strict=True))

    sys.stdout.write(f"\nfilms/s of one core, {SIDE}-px crops in batches of {BATCH}; store of {side} px (short side)\n")
    for name, values in spent.items():
        sys.stdout.write(f"{WORDS[name]:<68}{1 / statistics.median(values):>10,.0f}\n")
    figures = {f"{name}_films_per_second": round(1 / statistics.median(values), 1) for name, values in spent.items()}
    figures |= {
        "store_short_side": side,
        "raw_over_reference": round(over("reference", "raw"), 2),
        "store_over_reference": round(over("reference", "store"), 1),
        "store_over_bare": round(over("store_uint8", "bare"), 2),
    }
    sys.stdout.write(json.dumps(figures) + "\n")


def main() -> None:
    """Measures in interleaved rounds, of which the first does not count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer films and rounds")
    parser.add_argument("--films", type=Path, help="folder of 1024-px PNG films; without it they are rendered")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 3 if wanted.quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        runs, side = programs(Path(folder), wanted.films, wanted.quick)
        spent: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(rounds + 1):
            for name, run in runs.items():
                spent[name] += [seconds(run, number)] * bool(number)
                sys.stderr.write(f"\rround {number}/{rounds} {name:<12}")
    report(spent, side)


if __name__ == "__main__":
    main()
