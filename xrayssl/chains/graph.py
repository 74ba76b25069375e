"""The stages of a study as a graph in which equal ones are one: shared beginnings of recipes are trained once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from xrayssl.chains import identity, kind, leaks
from xrayssl.chains.kind import TIMM, Kind
from xrayssl.chains.spec import Recipe, Study
from xrayssl.chains.stage import Stage, lineage, ordered
from xrayssl.errors import UserError, noting, refuse
from xrayssl.series.training import done


@dataclass(frozen=True)
class Result:
    """One of the study's results: a recipe with a seed and a share of the labels.

    Args:
        recipe: Its name.
        seed: Of its last stage.
        fraction: Of the labelled training patients.
        stage: Its last one.
    """

    recipe: str
    seed: int
    fraction: float
    stage: Stage


@dataclass
class Graph:
    """What a study needs.

    Args:
        study: That was asked for.
        results: Each recipe, seed and fraction.
        facts: A stage's key to what determines it.
        kinds: A stage's key to what its rehearsal found.
        adopted: Keys of stages that another version of the code has trained.
    """

    study: Study
    results: list[Result] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    kinds: dict[str, Kind] = field(default_factory=dict)
    adopted: list[str] = field(default_factory=list)

    @property
    def stages(self) -> list[Stage]:
        """Each once, after the one it starts from; one seed's before the next one's."""
        return ordered([result.stage for result in self.results])

    @property
    def naive(self) -> int:
        """Trainings that there would be if nothing were shared."""
        steps = sum(len(recipe.steps) for recipe in self.study.recipes)
        return steps * len(self.study.seeds) * len(self.study.fractions)


def build(study: Study, store: Path, any_code: bool = False, processes: int = 1, leaked: Path | None = None) -> Graph:
    """Rehearses every kind of stage once, and puts the stages of all seeds and fractions together.

    Args:
        study: That is asked for.
        store: Folder of all stages.
        any_code: Take finished stages that another version of the code has trained.
        processes: That share a batch where a configuration leaves that to the machine.
        leaked: File that gets the patients of films that leak, as `--data.exclude` takes them; None writes none.

    Raises:
        UserError: With every mistake at once, also every leak.
    """
    kinds = _kinds(study)
    leaking = leaks.found(study, kinds)
    if leaking and leaked:
        patients = dict.fromkeys(patient for leak in leaking for patient in leak.patients)
        try:
            leaked.write_text("".join(f"patient:{patient}\n" for patient in patients), encoding="utf-8")
        except OSError as error:
            raise UserError(f"--leaks {leaked}: it cannot be written ({error.strerror}).") from None
    wrong = [*_wrong_ends(study, kinds), *_unlike(study, kinds), *_no_weights(study, kinds)]
    refuse([*wrong, *(leak.sentence for leak in leaking)])
    others = _of_other_versions(store) if any_code else {}
    graph, builder = Graph(study), _Builder(kinds, others, store, processes)
    for seed in study.seeds:
        for recipe in study.recipes:
            graph.results += [Result(recipe.name, seed, share, builder.stage(study, recipe, len(recipe.steps), seed,
                              share)) for share in study.fractions]  # fmt: skip
    graph.facts, graph.kinds, graph.adopted = builder.facts, builder.of_stage, builder.adopted
    return graph


Kinds = Mapping[tuple[str, int], Kind]
"""Recipe and number of a step, from 0, to what the step is."""


def _kinds(study: Study) -> dict[tuple[str, int], Kind]:
    made: dict[Any, Kind] = {}
    found, problems = {}, list[str]()
    for recipe in study.recipes:
        for number, step in enumerate(recipe.steps):
            start = recipe.start if number == 0 and recipe.start != TIMM else None
            same = (step.config, tuple(sorted(step.settings.items())), start)
            with noting(problems):
                made[same] = made[same] if same in made else kind.rehearsed(step, start)
                found[recipe.name, number] = made[same]
    refuse(problems)
    return found


def _wrong_ends(study: Study, kinds: Kinds) -> list[str]:
    last = {recipe.name: kinds[recipe.name, len(recipe.steps) - 1] for recipe in study.recipes}
    return [f"recipe {name} ends with {one.step.title}, which learns without labels and has nothing to test; end it "
            "with a configuration that fine-tunes, such as finetune_shoulder." for name, one in last.items()
            if not one.labelled]  # fmt: skip


def _unlike(study: Study, kinds: Kinds) -> list[str]:
    """A sentence about each pair of neighbours in a chain whose networks differ."""
    problems = []
    for recipe in study.recipes:
        chain = [kinds[recipe.name, number] for number in range(len(recipe.steps))]
        for one, after in pairwise(chain):
            names = [f"{it.network} of {it.in_chans} channel{'s' * (it.in_chans > 1)}" for it in (one, after)]
            if names[0] != names[1]:
                problems.append(f"recipe {recipe.name}: {one.step.title} trains a {names[0]}, and {after.step.title}"
                                f" a {names[1]}, which cannot start from it; set model.backbone alike.")  # fmt: skip
    return problems


def _no_weights(study: Study, kinds: Kinds) -> list[str]:
    """A sentence about the recipes whose network timm has no such weights for."""
    wrong: dict[str, str] = {}
    for recipe in (recipe for recipe in study.recipes if recipe.start == TIMM):
        first = kinds[recipe.name, 0]
        has, meant = kind.weights_at_timm(first.network), recipe.steps[0].own.get("model.backbone", "")
        tag = meant.partition(".")[2]
        if has is None:
            wrong[recipe.name] = f"timm has no weights for {first.network}"
        elif tag and not has.endswith(f".{tag}"):
            wrong[recipe.name] = f"it is about the weights {meant}, and those of {first.network} at timm are {has}"
    left = [recipe.name for recipe in study.recipes if recipe.name not in wrong]
    instead = f"; leave it out with --recipes {' '.join(left)}" if left else ""
    return [f"recipe {name}: {why}{instead}." for name, why in wrong.items()]


@dataclass
class _Builder:
    """Makes stages from last to first, each once."""

    kinds: Kinds
    others: Mapping[str, str]
    store: Path
    processes: int
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    of_stage: dict[str, Kind] = field(default_factory=dict)
    adopted: list[str] = field(default_factory=list)

    def stage(self, study: Study, recipe: Recipe, length: int, seed: int, fraction: float) -> Stage:
        """The last stage of the first `length` steps of a recipe."""
        before, last = length - 1, length == len(recipe.steps)
        if not last and study.pretraining_seed is not None:
            seed = study.pretraining_seed
        parent = self.stage(study, recipe, before, seed, fraction) if before else None
        start = None if parent else recipe.start
        one, share = self.kinds[recipe.name, before], fraction if last else 1.0
        drawn = {"fraction": float(share), "subset_seed": seed} if last else {}
        facts = identity.determining(_with(one.config, seed, drawn), one.identity,
                                     parent.key if parent else _start(start, one), self.processes,
                                     one.meeting)  # fmt: skip
        key = self._known(identity.key(facts), facts, one)
        words = ["--seed_everything", str(seed), *(w for name, value in drawn.items() for w in (f"--data.{name}",
                 repr(value)))]  # fmt: skip
        return Stage(key, one.step.title, [*one.words, *words], parent, start, seed, one.labelled, one.films(share),
                     one.epochs(share, self.processes), one.network, one.method, one.img_size)  # fmt: skip

    def _known(self, key: str, facts: dict[str, Any], one: Kind) -> str:
        """The stage's key, or that of its like which another version of the code has trained."""
        other = self.others.get(identity.without_code(facts))
        if other and other != key and not _is_done(self.store, one.step.title, key, one.labelled):
            self.adopted += [other] if other not in self.adopted else []
            key = other
        else:
            self.facts[key] = facts
        self.of_stage[key] = one
        return key


def _with(config: Mapping[str, Any], seed: int, drawn: Mapping[str, Any]) -> dict[str, Any]:
    data = {**config["data"], "init_args": {**config["data"]["init_args"], **drawn}}
    return {**config, "seed_everything": seed, "data": data}


def _start(start: str | None, one: Kind) -> Any:
    if start == TIMM:
        return {"timm": kind.weights_at_timm(one.network)}
    return {"sha256": one.start} if start else None


def _of_other_versions(store: Path) -> dict[str, str]:
    """Key without code to whole key of every finished stage that is recorded, the latest last."""
    found = {}
    for path in sorted(store.glob("*.json"), key=lambda path: path.stat().st_mtime_ns):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if _is_done(store, record["config"], record["key"], record["tested"]):
                found[record["without_code"]] = record["key"]
        except (OSError, ValueError, KeyError, TypeError):  # another program's file
            continue
    return found


def _is_done(store: Path, config: str, key: str, tested: bool) -> bool:
    return done(store / Stage(key, config, [], None, None, 0, tested).name, tested)


def record(graph: Graph, stage: Stage) -> dict[str, Any]:
    """What is kept beside a stage's folder, so that other versions of the code can find it."""
    facts = graph.facts[stage.key]
    return {"version": 1, "key": stage.key, "config": stage.config, "tested": stage.tested,
            "without_code": identity.without_code(facts), "facts": facts}  # fmt: skip


def needed_by(graph: Graph) -> dict[str, list[str]]:
    """A stage's key to the recipes that need it."""
    needing: dict[str, dict[str, None]] = {}
    for result in graph.results:
        for stage in lineage(result.stage):
            needing.setdefault(stage.key, {})[result.recipe] = None
    return {key: list(names) for key, names in needing.items()}


def unfinished(stages: Sequence[Stage], store: Path) -> list[Stage]:
    """Those that are still to be trained or tested."""
    return [stage for stage in stages if not _is_done(store, stage.config, stage.key, stage.tested)]
