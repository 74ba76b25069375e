"""Runs with drawn predictions: studies that took no training."""

import json

import numpy as np
import pandas as pd
import yaml

from xrayssl import results
from xrayssl.metrics import Gathered
from xrayssl.statistics.operating import fit

CLASSES = ["Cofield", "Tornier & <Zimmer>"]


def films(patients=60, root="/films", classes=CLASSES):
    """A manifest of two films per patient, and labels that films of a patient share."""
    rng = np.random.default_rng(0)
    patient = np.repeat([f"p{k:03d}" for k in range(patients)], 2)
    label = np.repeat(rng.integers(0, 2, (patients, len(classes))), 2, axis=0).astype(np.float32)
    table = pd.DataFrame({"path": [f"{root}/{k:04d}.png" for k in range(2 * patients)], "patient": patient,
                          "study": patient, "split": "test", "corpus": "x", "view": "AP"})  # fmt: skip
    return table, label


def trained(folder, recipe, seed=0, shift=1.0, network="resnet18", parents=(), fraction=1.0, selected_on="val",
            patients=60, root="/films", classes=CLASSES, unit="film", config="finetune_shoulder",
            start=None):  # fmt: skip
    """A tested run whose predictions are as good as `shift`; the same seed and recipe give the same ones."""
    table, label = films(patients, root, classes)
    rng = np.random.default_rng((seed, *recipe.encode()))
    shared = np.random.default_rng(1).normal(size=label.shape)  # what every network sees in a film
    logit = shared + 0.5 * rng.normal(size=label.shape) + (shift + 0.05 * rng.normal()) * (2 * label - 1)
    gathered = Gathered(np.arange(len(table)), (1 / (1 + np.exp(-logit))).astype(np.float32), label)
    write(folder / "config.yaml", yaml.safe_dump({"model": {"init_args": {"init_from": start}},
                                                  "data": {"init_args": {"fraction": fraction}}}))  # fmt: skip
    record = {"version": 1, "config": config, "seed": seed, "backbone": network, "parents": list(parents),
              "outcome": "finished", "data": {"corpora": {"uci_shoulder": root}}}  # fmt: skip
    write(folder / "run.json", json.dumps(record))
    tuned = fit(gathered, "multilabel", classes)
    (folder / "test").mkdir(exist_ok=True)
    results.write(folder / "test", table, gathered, "multilabel", classes, "test", unit, tuned=tuned,
                  selected_on=selected_on)  # fmt: skip
    return folder


def write(path, text):
    """Writes a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def study(folder, recipes, seeds=(0, 1, 2), fractions=(1.0,), networks=("resnet18",), untrained=(), **record):
    """A study folder; recipes are names with how good they are, `untrained` has (recipe, seed) that are missing."""
    runs = []
    for recipe, shift in recipes.items():
        for network in networks:
            for fraction in fractions:
                for seed in seeds:
                    name = f"{recipe}-{network}-{fraction}-{seed}"
                    if (recipe, seed) not in untrained:
                        trained(
                            folder / name, recipe, seed, shift * fraction**0.2, network, [f"{recipe}{seed}"], fraction
                        )
                    runs.append({"recipe": recipe, "seed": seed, "fraction": fraction, "run": name})
    content = {
        "version": 1,
        "title": "Shoulder",
        "reference": next(iter(recipes)),
        "pretraining_seed": None,
        "runs": runs,
    }
    write(folder / "study.json", json.dumps(content | record))
    return folder
