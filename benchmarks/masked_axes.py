"""Which way of hiding teaches a network most in equal time: the axes of masked pretraining, judged by frozen features.

Every arm trains from random weights for as many steps as fit into the same time of forward and backward passes on this
machine (measured at the start, interleaved, and kept in `steps.json`, so that a run is a function of that file and its
seed). What it is compared with is the same network at step 0, where it is a CNN with running statistics of as many
films as the trained one's. Its features are
then judged on labelled films by nearest neighbours and a linear probe with fixed settings: learned on the training and
validation films, measured once on the test films. Nothing is selected. What is finished is not repeated.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from scipy.stats import t as student

from xrayssl import probing
from xrayssl.backbone import Backbone
from xrayssl.batchnorm import recalibrate
from xrayssl.data import XrayDataModule
from xrayssl.data.augment import Augment
from xrayssl.files import write_json
from xrayssl.intervals import evaluate
from xrayssl.masking import Masking
from xrayssl.methods import MAEPretrain, MaskedCNNPretrain, Method
from xrayssl.optim import Optim

VIT, CNN, SIDE, BATCH = "vit_tiny_patch16_224", "resnet18", 128, 128
DECODER = {"decoder_width": 128, "decoder_depth": 2, "decoder_heads": 4}
BASE = "mae 90 %"
ARMS: dict[str, dict[str, Any]] = {
    BASE: {},
    "mae 75 %": {"masking": Masking(0.75)},
    "normalised pixels": {"target": "norm_pixels"},
    "centre hidden": {"masking": Masking(0.9, kind="center")},
    "centre kept": {"masking": Masking(0.9, kind="center", hide=False)},
    "block": {"masking": Masking(0.75, kind="block")},
    "grid": {"masking": Masking(0.75, kind="grid")},
    "cross decoder": {"decoder": "cross", "decode_fraction": 0.25},
    "sparse resnet18": {"hiding": "sparse"},
    "u-net resnet18": {"hiding": "zeros", "cell": 16, "masking": Masking(0.75), "target": "pixels", "loss_on": "all"},
}
RANDOM = {"random vit": BASE, "random resnet18": "sparse resnet18"}  # where which arm begins


def method(arm: str) -> Method:
    """The arm's method."""
    common = {"img_size": SIDE, "optim": Optim(lr=1e-3, warmup_epochs=1)}
    if "hiding" in ARMS[arm]:
        return MaskedCNNPretrain(backbone=CNN, decoder_width=256, whole_batches=8, **common, **ARMS[arm])
    return MAEPretrain(backbone=VIT, **common, **{"masking": Masking(0.9), "target": "pixels", **DECODER, **ARMS[arm]})


def untrained(arm: str, seed: int, films: XrayDataModule) -> Backbone:
    """The backbone that an arm begins with, as it would be handed on."""
    seed_everything(seed, verbose=False)
    made = method(arm)
    if isinstance(made, MaskedCNNPretrain):
        batches = islice(films.train_dataloader(), made.whole_batches)
        recalibrate(made.backbone, (made.backbone.normalize(batch["image"]) for batch in batches))
    return made.backbone


def pretraining(films: dict[str, Any] | None, exclude: list[str]) -> XrayDataModule:
    """Unlabelled films of the training split."""
    return XrayDataModule(films, labels=[], img_size=SIDE, batch_size=BATCH, num_workers=0, augment=Augment(),
                          exclude=exclude)  # fmt: skip


def train(arm: str, seed: int, steps: int, films: XrayDataModule) -> tuple[Backbone, float]:
    """Trains an arm; returns its backbone and the loss of its last epoch."""
    seed_everything(seed, verbose=False)
    trained = method(arm)
    trainer = Trainer(max_steps=steps, max_epochs=-1, accelerator="cpu", precision="bf16-mixed", logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                      limit_val_batches=0, num_sanity_val_steps=0, use_distributed_sampler=False)  # fmt: skip
    trainer.fit(trained, datamodule=films)
    return trained.backbone, float(trainer.callback_metrics["train/loss"])


def calibrate(arms: list[str], minutes: float, films: XrayDataModule, path: Path) -> dict[str, int]:
    """Steps of each arm that take the same time, from interleaved rounds."""
    if path.is_file():
        return dict(json.loads(path.read_text()))
    batch = next(iter(films.train_dataloader()))
    made = {arm: method(arm).train() for arm in arms}
    spent: dict[str, list[float]] = {arm: [] for arm in arms}
    for number in range(6):
        for arm, each in made.items():
            start = time.process_time()
            with torch.autocast("cpu", torch.bfloat16):
                loss = each._losses(batch)["loss"]
            loss.backward()
            spent[arm] += [time.process_time() - start] * bool(number)
    steps = {arm: max(1, round(60 * minutes / statistics.median(values))) for arm, values in spent.items()}
    write_json(path, steps)
    return steps


def probe(backbone: Backbone, data: XrayDataModule) -> dict[str, Any]:
    """Test macro AUROC of both probes, with intervals over patients."""
    manifest, task = data.manifest, data.task or "multilabel"
    known, asked = np.concatenate([manifest.rows("train"), manifest.rows("val")]), manifest.rows("test")
    bank, query = features(backbone, data, known), features(backbone, data, asked)
    label, truth = torch.from_numpy(manifest.labels()[known]), manifest.labels()[asked]
    logits = probing.linear(bank, label, query, task)
    linear = logits.softmax(dim=1) if task == "multiclass" else logits.sigmoid()
    guesses = {"knn": probing.knn(bank, label, query), "linear": linear}
    patients = manifest.table["patient"].to_numpy()[asked]
    return {
        kind: evaluate(guess.numpy(), truth, patients, task, data.classes)["metrics"]["auroc_macro"]
        for kind, guess in guesses.items()
    }


@torch.no_grad()
def features(backbone: Backbone, data: XrayDataModule, rows: np.ndarray) -> torch.Tensor:
    """Mean-pooled grids of films, (N, D)."""
    backbone.eval()
    parts = [backbone(backbone.normalize(batch["image"])).mean(dim=(2, 3)) for batch in data.central(rows)]
    return torch.cat(parts)


def run(arm: str, seed: int, steps: int, wanted: argparse.Namespace, probes: dict[str, XrayDataModule]) -> None:
    """Trains and judges one arm with one seed, unless that is done."""
    path = wanted.out / f"{arm.replace(' ', '_').replace('%', 'percent')}-{seed}.json"
    if path.is_file():
        return
    start = time.process_time()
    if arm in RANDOM:
        backbone, loss = untrained(RANDOM[arm], seed, pretraining(wanted.films, wanted.exclude)), None
    else:
        backbone, loss = train(arm, seed, steps, pretraining(wanted.films, wanted.exclude))
    spent = time.process_time() - start
    figures = {name: probe(backbone, data) for name, data in probes.items()}
    write_json(path, {"arm": arm, "seed": seed, "steps": steps, "seconds": spent, "loss": loss, "test": figures})


def table(out: Path) -> dict[str, Any]:
    """Mean of each arm over its seeds, and its paired difference to the base with a t interval over seeds."""
    done = [json.loads(path.read_text()) for path in sorted(out.glob("*-*.json"))]
    found: dict[str, Any] = {}
    for arm in [*RANDOM, *ARMS]:
        for measure in sorted({(name, kind) for each in done for name in each["test"] for kind in each["test"][name]}):
            values = {
                each["seed"]: each["test"][measure[0]][measure[1]]["value"] for each in done if each["arm"] == arm
            }
            base = _by_seed(done, BASE, measure)
            if values:
                difference = [values[seed] - base[seed] for seed in values if seed in base]
                found.setdefault(arm, {})[" ".join(measure)] = {
                    "mean": statistics.mean(values.values()), "seeds": len(values), **interval(difference),
                }  # fmt: skip
    return found


def _by_seed(done: list[dict[str, Any]], arm: str, measure: tuple[str, str]) -> dict[int, float]:
    name, kind = measure
    return {each["seed"]: each["test"][name][kind]["value"] for each in done if each["arm"] == arm}


def interval(difference: list[float]) -> dict[str, float]:
    """Mean of paired differences and the 95 % interval of the t distribution; empty for fewer than two seeds."""
    if len(difference) < 2:
        return {}
    middle = statistics.mean(difference)
    half = float(student.ppf(0.975, len(difference) - 1)) * statistics.stdev(difference) / len(difference) ** 0.5
    return {"difference": middle, "low": middle - half, "high": middle + half}


def arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two arms, one seed, seconds, on phantoms")
    parser.add_argument("--films", type=json.loads, help="corpora to learn from, as --data.corpora; null: phantoms")
    parser.add_argument("--exclude", nargs="*", default=[], help="lists of films to leave out, as --data.exclude")
    parser.add_argument("--probe", type=json.loads, action="append", help="a labelled corpus to judge by; may repeat")
    parser.add_argument("--arms", nargs="*", default=[*RANDOM, *ARMS], choices=[*RANDOM, *ARMS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=5.0, help="of one core, for each arm and seed")
    parser.add_argument("--part", default="0/1", help="i/n: every n-th run from the i-th, for several processes")
    parser.add_argument("--out", type=Path, default=Path("runs/masked_axes"))
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.arms, wanted.seeds, wanted.minutes = [BASE, "sparse resnet18"], [0], 0.03
        wanted.out = Path(tempfile.mkdtemp())
    return wanted


def main() -> None:
    """Runs what is missing and prints a table, a JSON object last."""
    wanted = arguments()
    torch.set_num_threads(1)
    for name in ("lightning.pytorch", "xrayssl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    wanted.out.mkdir(parents=True, exist_ok=True)
    trained = [arm for arm in ARMS if arm in wanted.arms]
    steps = calibrate(trained, wanted.minutes, pretraining(wanted.films, wanted.exclude), wanted.out / "steps.json")
    probes = {" ".join(films or ["phantom"]): XrayDataModule(films, img_size=SIDE, num_workers=0)
              for films in wanted.probe or [None]}  # fmt: skip
    todo = [(arm, seed) for seed in wanted.seeds for arm in wanted.arms]
    part, parts = map(int, wanted.part.split("/"))
    for number, (arm, seed) in enumerate(todo[part::parts], 1):
        sys.stderr.write(f"{time.strftime('%H:%M')} {number}/{len(todo[part::parts])} {arm}, seed {seed}\n")
        run(arm, seed, steps.get(arm, 0), wanted, probes)
    found = table(wanted.out)
    for arm, measures in found.items():
        row = "  ".join(f"{name} {figures['mean']:.3f}" for name, figures in measures.items())
        sys.stdout.write(f"{arm:<20}{row}\n")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
