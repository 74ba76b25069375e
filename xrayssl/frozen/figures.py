"""Figures of probes of frozen features: chosen on validation films, measured on others, written like a run's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from xrayssl import results
from xrayssl.data import XrayDataModule
from xrayssl.errors import UserError
from xrayssl.frozen.extraction import Extraction, Features
from xrayssl.frozen.settings import KINDS, Kind, Labelled, Selected, select, unlearnable
from xrayssl.frozen.sources import Source
from xrayssl.metrics import Gathered
from xrayssl.probing import Task
from xrayssl.statistics import operating


@dataclass(frozen=True)
class Films:
    """Rows of labelled films of a manifest.

    Args:
        data: Whose manifest it is.
        train: Learned from.
        val: Chosen by.
        asked: Measured.
        unlearnable: Findings of which the training films lack an outcome.
    """

    data: XrayDataModule
    train: np.ndarray
    val: np.ndarray
    asked: np.ndarray
    unlearnable: list[str]

    @property
    def task(self) -> Task:
        """Kind of labels."""
        assert self.data.task is not None
        return self.data.task


@dataclass(frozen=True)
class Judged:
    """A backbone and its figures.

    Args:
        source: Of the backbone.
        chosen: The probes.
        figures: The content of each one's metrics.json.
        work: What there was to do, for the log.
    """

    source: Source
    chosen: dict[Kind, Selected]
    figures: dict[Kind, dict[str, Any]]
    work: str

    def record(self) -> dict[str, Any]:
        """For probe.json."""
        probes = {
            kind: {
                "setting": chosen.setting,
                "val_auroc_macro": chosen.auroc,
                "tried": [{"setting": setting, "val_auroc_macro": figure} for setting, figure in chosen.tried.items()],
                "not_chosen_by": chosen.undefined,
                "metrics": self.figures[kind]["metrics"],
            }
            for kind, chosen in self.chosen.items()
        }
        return {"name": self.source.name, "given": self.source.given, **self.source.facts, "probes": probes}


def films_of(data: XrayDataModule, split: Literal["test", "val"]) -> Films:
    """The labelled films that a probe learns from, chooses by, and is measured on.

    Args:
        data: The films.
        split: That is measured.

    Raises:
        UserError: If there are no labels, or a part has none.
    """
    manifest = data.manifest
    if manifest.task is None or not manifest.classes:
        raise UserError("A probe needs labels, and these films have none; name corpora that have, or --data.labels.")
    known_N = ~np.isnan(manifest.labels()).all(axis=1)
    rows = {part: manifest.rows(part) for part in dict.fromkeys(("train", "val", split))}
    rows = {part: found[known_N[found]] for part, found in rows.items()}
    hints = {"train": "", "val": " Give --data.val a share above 0.",
             "test": " Give --data.test a share above 0, or measure --split val."}  # fmt: skip
    problems = [
        f"There are no labelled films in the split {part!r}.{hints[part]}" for part in rows if not len(rows[part])
    ]
    if problems:
        raise UserError(*problems)
    blind_K = unlearnable(torch.from_numpy(manifest.labels()[rows["train"]]), manifest.task)
    blind = [name for name, lacking in zip(manifest.classes, blind_K.tolist(), strict=True) if lacking]
    return Films(data, rows["train"], rows["val"], rows[split], blind)


def judge(source: Source, extraction: Extraction, films: Films, split: Literal["test", "val"], folder: Path) -> Judged:
    """Chooses both probes of a backbone, measures and writes them.

    Args:
        source: Of the backbone.
        extraction: The way to features.
        films: See `films_of`.
        split: That is measured.
        folder: Gets a folder for each probe, with predictions.parquet and metrics.json.

    Raises:
        UserError: If a film cannot be read, or nothing can be chosen.
    """
    rows = np.unique(np.concatenate([films.train, films.val, films.asked]))
    features = extraction(source, rows)
    train, val = _labelled(films, features.of(films.train)), _labelled(films, features.of(films.val))
    chosen = {kind: select(kind, train, val, films.task, films.data.classes) for kind in KINDS}
    measured = {part: features.of(rows) for part, rows in (("val", films.val), (split, films.asked))}
    figures = {kind: _measured(films, chosen[kind], measured, split, folder / kind) for kind in KINDS}
    kept = len(features.rows) - features.computed
    work = f"features of {features.computed:,} films computed, of {kept:,} known from earlier"
    return Judged(source, chosen, figures, work)


def _labelled(films: Films, features: Features) -> Labelled:
    label_NK = torch.from_numpy(films.data.manifest.labels()[features.rows])
    return Labelled(features.feature_ND, label_NK)


def _measured(
    films: Films, chosen: Selected, features: Mapping[str, Features], split: str, folder: Path
) -> dict[str, Any]:
    """Writes a probe's figures; its thresholds and temperature are those of other films, and so of validation films
    where test films are measured."""
    manifest = films.data.manifest
    predicted = {part: _predicted(films, chosen, found) for part, found in features.items()}
    tuned = None
    if split != "val":
        validated, by_film = predicted["val"], manifest.score == "film"
        scored = validated if by_film else results.by_study(validated, manifest.table, films.task)
        tuned = operating.fit(scored, films.task, manifest.classes)
    folder.mkdir(parents=True)
    scoring = (films.task, manifest.classes, split, manifest.score)
    return results.write(folder, manifest.table, predicted[split], *scoring, tuned=tuned)


def _predicted(films: Films, chosen: Selected, features: Features) -> Gathered:
    probability_NK = chosen.predict(features.feature_ND).numpy().astype(np.float32)
    return Gathered(features.rows, probability_NK, films.data.manifest.labels()[features.rows])
