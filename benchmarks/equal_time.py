"""What several ways of pretraining teach the same network in equal time: no program, but what two of them share.

Every arm trains from random weights for as many steps as fit into the same time of forward and backward passes on this
machine (measured at the start, interleaved, and kept in `steps.json`, so that a run is a function of that file and its
seed). What it is compared with is the same network at step 0. A CNN's running statistics are then measured on whole
films, alike for every arm. Features are judged on labelled films by nearest neighbours and a linear probe with fixed
settings: learned on the training and validation films, measured once on the test films. Nothing is selected. What is
finished is not repeated.
"""
# ruff: noqa: E402

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from xrayssl.memory import keep_freed_memory

keep_freed_memory()  # as every command does, and before torch is imported

import numpy as np
import torch
from lightning.pytorch import Trainer, seed_everything
from scipy.stats import t as student

from xrayssl import probing
from xrayssl.backbone import Backbone
from xrayssl.data import XrayDataModule
from xrayssl.data.augment import Augment
from xrayssl.features import pooled, settle
from xrayssl.files import write_json
from xrayssl.methods import Method
from xrayssl.statistics.intervals import evaluate

VIT, CNN, SIDE, STATISTICS = "vit_tiny_patch16_224", "resnet18", 128, 1024


@dataclass(frozen=True)
class Arm:
    """One way of pretraining.

    Args:
        make: A new, untrained method.
        augment: How its films are drawn.
        trained: Whether it is; otherwise it is judged at step 0.
    """

    make: Callable[[], Method]
    augment: Augment = field(default_factory=Augment)
    trained: bool = True


@dataclass(frozen=True)
class Study:
    """What is compared.

    Args:
        arms: By name.
        bases: The arm that an arm is compared with, by the arm's name; "" is every other's.
        quick: Names of those that `--quick` runs.
        out: Folder of the results, if none is given.
        description: Of the program.
        batch: Films of a step, if nothing else is asked for.
        warm_up: Share of the steps in which the rate rises, 0-1, so that few steps are not all of that kind; None
            leaves it as the arm has it.
    """

    arms: dict[str, Arm]
    bases: dict[str, str]
    quick: list[str]
    out: str
    description: str | None
    batch: int = 128
    warm_up: float | None = None

    def base(self, arm: str) -> str:
        """The arm that this one is compared with."""
        return self.bases.get(arm, self.bases.get("", ""))


def data(wanted: argparse.Namespace, augment: Augment) -> XrayDataModule:
    """Unlabelled films of the training split."""
    return XrayDataModule(wanted.films, labels=[], img_size=SIDE, batch_size=wanted.batch, num_workers=0,
                          augment=augment, exclude=wanted.exclude)  # fmt: skip


def train(arm: Arm, seed: int, steps: int, films: XrayDataModule, warm_up: float | None) -> tuple[Backbone, Any]:
    """Trains an arm; returns its backbone, as it is handed on, and the loss of its last epoch."""
    seed_everything(seed, verbose=False)
    method = arm.make()
    if not arm.trained:
        return method.backbone, None
    if warm_up is not None:
        method.optim = replace(method.optim, warmup_epochs=warm_up * steps / len(films.train_dataloader()))
    trainer = Trainer(max_steps=steps, max_epochs=-1, accelerator="cpu", precision="bf16-mixed", logger=False,
                      enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                      limit_val_batches=0, num_sanity_val_steps=0, use_distributed_sampler=False)  # fmt: skip
    trainer.fit(method, datamodule=films)
    return method.backbone, float(trainer.callback_metrics["train/loss"])


def calibrate(study: Study, wanted: argparse.Namespace) -> dict[str, int]:
    """Steps of each trained arm that take the same time, from interleaved rounds."""
    path = wanted.out / "steps.json"
    known: dict[str, int] = json.loads(path.read_text()) if path.is_file() else {}
    missing = {name: arm for name in wanted.arms if (arm := study.arms[name]).trained and name not in known}
    batches, made = {}, {}
    for name, arm in missing.items():
        batches[name] = next(iter(data(wanted, arm.augment).train_dataloader()))
        made[name] = arm.make().train()
    spent: dict[str, list[float]] = {name: [] for name in missing}
    for number in range(6):
        for name, method in made.items():
            start = time.process_time()
            with torch.autocast("cpu", torch.bfloat16):
                loss = method._losses(batches[name])["loss"]
            loss.backward()
            spent[name] += [time.process_time() - start] * bool(number)
    known |= {name: max(1, round(60 * wanted.minutes / statistics.median(took))) for name, took in spent.items()}
    write_json(path, known)
    return known


def judge(backbone: Backbone, films: XrayDataModule) -> dict[str, Any]:
    """Test macro AUROC of both probes, with intervals over patients."""
    manifest, task = films.manifest, films.task or "multilabel"
    known, asked = np.concatenate([manifest.rows("train"), manifest.rows("val")]), manifest.rows("test")
    bank, query = features(backbone, films, known), features(backbone, films, asked)
    label, truth = torch.from_numpy(manifest.labels()[known]), manifest.labels()[asked]
    logits = probing.linear(bank, label, query, task)
    linear = logits.softmax(dim=1) if task == "multiclass" else logits.sigmoid()
    guesses = {"knn": probing.knn(bank, label, query), "linear": linear}
    patients = manifest.table["patient"].to_numpy()[asked]
    return {
        kind: evaluate(guess.numpy(), truth, patients, task, films.classes)["metrics"]["auroc_macro"]
        for kind, guess in guesses.items()
    }


@torch.no_grad()
def features(backbone: Backbone, films: XrayDataModule, rows: np.ndarray) -> torch.Tensor:
    """Mean-pooled grids of films, (N, D)."""
    return torch.cat([pooled(backbone.eval(), batch["image"]) for batch in films.central(rows)])


def run(study: Study, name: str, seed: int, steps: int, wanted: argparse.Namespace, probes: dict[str, Any]) -> None:
    """Trains and judges one arm with one seed, unless that is done."""
    arm = study.arms[name]
    path = wanted.out / f"{name.replace(' ', '_').replace('%', 'percent')}-{seed}.json"
    if path.is_file():
        return
    start = time.process_time()
    films = data(wanted, arm.augment)
    backbone, loss = train(arm, seed, steps, films, study.warm_up)
    whole = data(wanted, Augment())
    batches = islice(whole.train_dataloader(), STATISTICS // whole.batch_size)
    settle(backbone, (batch["image"] for batch in batches))  # a random CNN has no statistics, others those of tiles
    spent = time.process_time() - start
    figures = {probe: judge(backbone, labelled) for probe, labelled in probes.items()}
    write_json(path, {"arm": name, "seed": seed, "steps": steps, "seconds": spent, "loss": loss, "test": figures})


def table(study: Study, out: Path) -> dict[str, Any]:
    """Mean of each arm over its seeds, and its paired difference to its base with a t interval over seeds."""
    done = [json.loads(path.read_text()) for path in sorted(out.glob("*-*.json"))]
    found: dict[str, Any] = {}
    for arm in study.arms:
        for measure in sorted({(name, kind) for each in done for name in each["test"] for kind in each["test"][name]}):
            values, base = _by_seed(done, arm, measure), _by_seed(done, study.base(arm), measure)
            if values:
                difference = [values[seed] - base[seed] for seed in values if seed in base and arm != study.base(arm)]
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


def arguments(study: Study) -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=study.description)
    parser.add_argument("--quick", action="store_true", help="a few arms, one seed, seconds, on phantoms")
    parser.add_argument("--films", type=json.loads, help="corpora to learn from, as --data.corpora; null: phantoms")
    parser.add_argument("--exclude", nargs="*", default=[], help="lists of films to leave out, as --data.exclude")
    parser.add_argument("--probe", type=json.loads, action="append", help="a labelled corpus to judge by; may repeat")
    parser.add_argument("--arms", nargs="*", default=list(study.arms), choices=list(study.arms))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=5.0, help="of one core, for each arm and seed")
    parser.add_argument("--batch", type=int, default=study.batch, help="films of a step")
    parser.add_argument("--part", default="0/1", help="i/n: every n-th run from the i-th, for several processes")
    parser.add_argument("--out", type=Path, default=Path(study.out))
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.arms, wanted.seeds, wanted.minutes = study.quick, [0], 0.03
        wanted.out = Path(tempfile.mkdtemp())
    return wanted


def main(study: Study) -> None:
    """Runs what is missing and prints a table, a JSON object last."""
    wanted = arguments(study)
    torch.set_num_threads(1)
    for name in ("lightning.pytorch", "xrayssl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    wanted.out.mkdir(parents=True, exist_ok=True)
    steps = calibrate(study, wanted)
    probes = {" ".join(films or ["phantom"]): XrayDataModule(films, img_size=SIDE, num_workers=0)
              for films in wanted.probe or [None]}  # fmt: skip
    todo = [(arm, seed) for seed in wanted.seeds for arm in wanted.arms]
    part, parts = map(int, wanted.part.split("/"))
    for number, (arm, seed) in enumerate(todo[part::parts], 1):
        sys.stderr.write(f"{time.strftime('%H:%M')} {number}/{len(todo[part::parts])} {arm}, seed {seed}\n")
        run(study, arm, seed, steps.get(arm, 0), wanted, probes)
    found = table(study, wanted.out)
    for arm, measures in found.items():
        row = "  ".join(f"{name} {figures['mean']:.3f}" for name, figures in measures.items())
        sys.stdout.write(f"{arm:<24}{row}\n")
    sys.stdout.write(json.dumps(found) + "\n")
