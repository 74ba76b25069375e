"""What is asked for: chains and studies as their YAML says, and what the command says otherwise.

A chain is `start` and `stages`, each a `config` and what is `set` otherwise. A study is `recipes`, each a chain, with
seeds, label fractions and what is `set` for all of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xrayssl import recipes
from xrayssl.chains.scope import Layer, word, wrong, wrong_in_stage
from xrayssl.errors import UserError, noting, refuse

CHAIN, STAGE = ("start", "stages"), ("config", "set")
STUDY = ("recipes", "reference", "seeds", "fractions", "pretraining_seed", "set")
Content = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One stage of a recipe, whatever its seed.

    Args:
        config: Its configuration: a packaged name, or an absolute path.
        title: The configuration's name.
        settings: Option of `fit`, without its hyphens, to its word.
        own: What the chain itself sets of these.
    """

    config: str
    title: str
    settings: dict[str, str]
    own: dict[str, str]


@dataclass(frozen=True)
class Recipe:
    """A named chain.

    Args:
        name: In the study.
        start: What the first stage starts from: None, `timm`, or a file or run.
        steps: From first to last.
    """

    name: str
    start: str | None
    steps: list[Step]


@dataclass(frozen=True)
class Study:
    """Recipes x seeds x label fractions.

    Args:
        title: Name of its file.
        recipes: To be compared.
        reference: Name of the recipe that the others are compared with.
        seeds: Of the trainings.
        fractions: Of the labelled training patients that a recipe's last stage learns from.
        pretraining_seed: Of all stages before the last; None: the recipe's own.
    """

    title: str
    recipes: list[Recipe]
    reference: str
    seeds: list[int]
    fractions: list[float]
    pretraining_seed: int | None


def asked(own: argparse.Namespace, words: Sequence[str]) -> Study:
    """Reads a chain or study, with what the command says otherwise.

    Args:
        own: config, recipes, reference, seeds, fractions and pretraining_seed; None where the file's holds.
        words: `--NAME VALUE` of what is set.

    Raises:
        UserError: With every mistake at once.
    """
    if not own.config:
        raise UserError("name a chain or a study with --config; `xrayssl configs` lists them.")
    path = recipes.find_chain(own.config)
    problems: list[str] = []
    content = _study(path, problems)
    every = [(name, _chain(name, value, path, problems)) for name, value in content["recipes"].items()]
    chosen = _chosen(content["recipes"], own.recipes, problems)
    chains = [(name, chain) for name, chain in every if name in chosen]
    layers = [_given(path.name, content.get("set"), problems), _typed(words, problems)]
    configs = _configs(every, path, problems)  # what is set for stages of recipes that are left out is no mistake
    problems += [sentence for layer in layers for sentence in wrong(layer, configs)]
    made = [Recipe(name, chain.get("start"), _steps(chain, path, layers)) for name, chain in chains]
    study = Study(
        path.stem,
        made,
        _reference(own.reference or content.get("reference"), chosen, problems),
        _several("seeds", own.seeds, content, [0], problems),
        _several("fractions", own.fractions, content, [1.0], problems),
        _either(own.pretraining_seed, content.get("pretraining_seed"), None),
    )
    refuse([*problems, *_wrong_numbers(study), *_fractions_set(study)])
    return study


def _either(first: Any, second: Any, default: Any) -> Any:
    return next((value for value in (first, second) if value is not None), default)


def _several(key: str, typed: list[Any] | None, content: Content, default: list[Any], problems: list[str]) -> list[Any]:
    """What the command says, or else the study's list."""
    value = _either(typed, content.get(key), default)
    if isinstance(value, list):
        return value
    example = [value] if isinstance(value, int | float) else default
    problems.append(f"`{key}` is a list, such as {example}, not {value!r}.")
    return default


def _study(path: Path, problems: list[str]) -> Content:
    """The study in a file; a chain is a study of one recipe."""
    content = _mapping(path)
    if "stages" in content:
        return {"recipes": {path.stem: content}}
    if "recipes" not in content:
        what = "; it is one training, which `xrayssl fit` runs" if "model" in content else ""
        raise UserError(f"{path}: neither a chain, which has `stages`, nor a study, which has `recipes`{what}.")
    if not isinstance(content["recipes"], dict) or not content["recipes"]:
        raise UserError(f"{path}: `recipes` maps names to chains, such as `chest_mae: chest_mae_shoulder_vit`.")
    problems += _foreign(path.name, content, STUDY)
    return content


def _given_twice(node: Any) -> Iterator[str]:
    """A sentence about each key that a file gives twice, of which YAML keeps the last and says nothing."""
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in {key for key in keys if keys.count(key) > 1}:
            yield f"the key {key!r} is given twice, {str(node.start_mark).strip()}"
    for child in node.value if isinstance(node, yaml.CollectionNode) else ():
        for one in child if isinstance(child, tuple) else (child,):
            yield from _given_twice(one)


def _mapping(path: Path) -> Content:
    try:
        text = path.read_text(encoding="utf-8")
        if twice := next(_given_twice(yaml.compose(text, yaml.SafeLoader)), None):
            raise yaml.YAMLError(twice)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: this is not YAML that can be read ({reason}).") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: a chain or study maps names to values, such as `stages:`.")
    return content


def _foreign(where: str, content: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    return [f"{where}: there is no key {key!r} here.{recipes.nearest(str(key), list(known))} "
            f"There are {', '.join(known)}." for key in content if key not in known]  # fmt: skip


def _chosen(given: Content, names: Sequence[str] | None, problems: list[str]) -> list[str]:
    for name in [name for name in names or () if name not in given]:
        problems.append(f"--recipes {name}: the study has no such recipe.{recipes.nearest(name, list(given))} "
                        f"There are {', '.join(given)}.")  # fmt: skip
    problems += [f"--recipes names {name!r} twice." for name in {*(names or ())} if (names or []).count(name) > 1]
    problems += [f"The recipe's name {name!r} should be letters, digits, hyphens, dots and underscores." for name in
                 given if not str(name).replace("-", "").replace(".", "").replace("_", "").isalnum()]  # fmt: skip
    return [name for name in given if names is None or name in names]


def _chain(name: str, value: Any, study: Path, problems: list[str]) -> Content:
    """A recipe's chain, whose stages are sound; what is wrong with it is noted, and the chain is left empty."""
    where, chain = f"recipe {name}", value
    with noting(problems):
        if isinstance(value, str):
            beside = study.parent / value
            where = value
            chain = _mapping(beside if beside.is_file() else recipes.find_chain(value))
        if not isinstance(chain, dict) or not isinstance(chain.get("stages"), list) or not chain["stages"]:
            raise UserError(f"{where}: a chain has `stages`, a list such as `- config: finetune_shoulder`.")
        wrong = _foreign(where, chain, CHAIN)
        if not isinstance(chain.get("start"), str | None):
            wrong.append(f"{where}: `start` is null, timm, or a file or run, not {chain['start']!r}.")
        for number, stage in enumerate(chain["stages"], 1):
            wrong += _wrong_stage(f"{where}, stage {number}", stage)
        refuse(wrong)
        return chain
    return {"stages": []}


def _wrong_stage(where: str, stage: Any) -> list[str]:
    if not isinstance(stage, dict) or not isinstance(stage.get("config"), str):
        return [f"{where}: write `config: NAME`, and under `set` what shall be otherwise."]
    if not isinstance(stage.get("set") or {}, dict):
        return [f"{where}: `set` maps options to values, such as `model.optim.lr: 1.0e-3`."]
    return [*_foreign(where, stage, STAGE), *wrong_in_stage(where, stage.get("set") or {})]


def _configs(chains: Sequence[tuple[str, Content]], study: Path, problems: list[str]) -> dict[str, Path]:
    """Name to file of every configuration; two of one name could not be told apart."""
    found: dict[str, Path] = {}
    for name in dict.fromkeys(stage["config"] for _, chain in chains for stage in chain["stages"]):
        with noting(problems):
            file = _config(name, study)
            title = recipes.title(file)
            if found.setdefault(title, file) != file:
                raise UserError(f"{found[title]} and {file} are both called {title}; rename one of them.")
    return found


def _config(name: str, study: Path) -> Path:
    beside = study.parent / name
    return beside.resolve() if beside.is_file() else recipes.find(name)


def _given(where: str, settings: Any, problems: list[str]) -> Layer:
    if not isinstance(settings or {}, dict):
        problems.append(f"{where}: `set` maps options to values, such as `data.img_size: 128`.")
        return Layer(where, {})
    return Layer(f"{where}: ", {str(name): word(value) for name, value in (settings or {}).items()})


def _typed(words: Sequence[str], problems: list[str]) -> Layer:
    settings: dict[str, str] = {}
    stream = iter(words)
    for name in stream:
        value = next(stream, None)
        if not name.startswith("--"):
            problems.append(f"the word {name!r} stands alone; options look like --name VALUE.")
            break
        if value is None or value.startswith("--"):
            problems.append(f"{name} needs a value.")
            break
        if name.removeprefix("--") in settings:
            problems.append(f"{name} is given twice.")
        settings[name.removeprefix("--")] = value
    return Layer("--", settings)


def _steps(chain: Content, study: Path, layers: Sequence[Layer]) -> list[Step]:
    """Each stage with all that is set for it: by its chain first, then by the study, then by the command."""
    steps = []
    for stage in chain["stages"]:
        try:
            file = _config(stage["config"], study)
        except UserError:  # noted already
            continue
        title = recipes.title(file)
        own = {str(name): word(value) for name, value in (stage.get("set") or {}).items()}
        settings = dict(own)
        for layer in layers:
            settings |= layer.of(title, file)
        packaged = recipes.packaged().get(title) == file
        steps.append(Step(title if packaged else str(file.absolute()), title, settings, own))
    return steps


def _reference(name: Any, names: Sequence[str], problems: list[str]) -> str:
    if name is not None and name not in names:
        problems.append(f"The reference {name!r} is none of the recipes, which are {', '.join(names)}; choose another "
                        "with --reference.")  # fmt: skip
    return str(name or (names[0] if names else ""))


def _fractions_set(study: Study) -> list[str]:
    last = {recipe.steps[-1].title: recipe.steps[-1] for recipe in study.recipes if recipe.steps}
    shares = any(fraction != 1 for fraction in study.fractions)
    both = f"data.shots and the fractions {study.fractions} both say how much is learned from; give one."
    return [f"{name}: {sentence}" for name, step in last.items() for sentence, holds in {
        "data.fraction has no place here: the fractions of the study say it.": "data.fraction" in step.settings,
        both: shares and "data.shots" in step.settings}.items() if holds]  # fmt: skip


def _wrong_numbers(study: Study) -> list[str]:
    seeds, fractions = study.seeds, study.fractions
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32 for seed in seeds)
    shares = all(isinstance(one, int | float) and 0 < one <= 1 for one in fractions)
    pretraining = study.pretraining_seed
    problems = {
        f"seeds are whole numbers of 0 or more, each once, not {seeds}.": (
            not whole or not seeds or len({*seeds}) < len(seeds)
        ),
        f"fractions are shares above 0 and up to 1, each once, not {fractions}.": (
            not shares or not fractions or len({*fractions}) < len(fractions)
        ),
        f"pretraining_seed is null or a whole number of 0 or more, not {pretraining!r}.": pretraining is not None
        and (not isinstance(pretraining, int) or isinstance(pretraining, bool) or pretraining < 0),
    }
    return [sentence for sentence, holds in problems.items() if holds]
