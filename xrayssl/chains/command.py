"""`xrayssl chain`: a chain of stages, or a study of several, planned or trained."""

from __future__ import annotations

import shlex
import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from xrayssl.data_request import Options
from xrayssl.errors import UserError, noting, refuse
from xrayssl.request import split_equals, take
from xrayssl.train import speak

USAGE = "--config NAME [--plan] [--seeds ...] [--fractions ...] [--recipes ...] [settings]"
TEXT = """Trains a chain, in which every stage starts from the backbone of the one before it, or a study: several chains
with their seeds and label fractions. What recipes share is trained once, and what is finished is not repeated; type the
same again to go on after an interruption. Several processes may do so at once.

  --config NAME                   a chain or a study: packaged (`xrayssl configs` lists them), or your own YAML file
  --plan                          say what there is to train and how long it takes, and write nothing
  --measure                       with --plan: train a few steps of each kind whose speed is not known
  --recipes random chest_mae      only these of the study
  --reference random              the recipe that the others are compared with
  --seeds 0 1 2                   of the trainings
  --fractions 0.1 1               of the labelled training patients
  --pretraining_seed 0            share one pretraining between all seeds
  --stages DIR                    store of the stages of all studies (default: runs/stages)
  --out DIR                       folder of the study (default: runs/studies/<name>)
  --leaks FILE                    where films that are tested on were learned from before, write whose they are
  --any_code                      also take stages that another version of this program has trained
  --only STAGE ...                train these alone, by the digits of their names, if what they start from is there
  --launcher 'torchrun --nproc_per_node=2'   what starts each training
  --slurm DIR                     train nothing, and write scripts for SLURM; DIR/submit.sh submits them
  --sbatch '--partition=gpu --gpus-per-node=1'   options of sbatch for these

settings, as `xrayssl fit` takes them:
  --data.img_size 128             for every stage
  --chest.corpora.nih PATH        --data... of the stages on chest films; --shoulder... likewise
  --mae_chest.trainer.max_epochs 40   for the stages of that configuration
"""


def chain_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl chain`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake, and every leak of films, before anything is trained or written.
        KeyboardInterrupt: With a sentence saying how to go on.
    """
    sbatch, rest = _sbatch(argv)
    words = split_equals(rest)
    own, rest = _options().parse_known_args(words)
    own.launcher, own.sbatch = _placed(_split("--launcher", own.launcher)), sbatch
    refuse(_contradictions(own))
    speak()
    from xrayssl.chains import graph, spec
    from xrayssl.series.rehearsal import each_warning_once

    study = spec.asked(own, rest)
    store = own.stages.expanduser().absolute()
    with each_warning_once():
        made = graph.build(study, store, own.any_code, _processes(_launcher(own)), own.leaks)
        if own.plan:
            return _plan(made, store, own.measure)
    return _alone(made, store, own, words) if own.only else _perform(made, store, own, words)


def _options() -> Options:
    options = Options("chain", USAGE, TEXT)
    options.add_argument("--config", "-c")
    options.add_argument("--plan", action="store_true")
    options.add_argument("--measure", action="store_true")
    options.add_argument("--recipes", nargs="+")
    options.add_argument("--reference")
    options.add_argument("--seeds", nargs="+", type=int)
    options.add_argument("--fractions", nargs="+", type=float)
    options.add_argument("--pretraining_seed", type=int)
    options.add_argument("--stages", type=Path, default=Path("runs", "stages"))
    options.add_argument("--out", type=Path)
    options.add_argument("--leaks", type=Path)
    options.add_argument("--any_code", action="store_true")
    options.add_argument("--launcher", default="")
    options.add_argument("--only", nargs="+")
    options.add_argument("--slurm", type=Path)
    return options


def _sbatch(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes the options of sbatch, which look like options of this verb, out of the words."""
    given: list[str] = []
    rest: list[str] = []
    stream = iter(argv)
    for word in stream:
        name, equals, value = word.partition("=")
        if name == "--sbatch":
            given += _split(name, value if equals else next(stream, ""))
        else:
            rest.append(word)
    return given, rest


def _split(option: str, value: str) -> list[str]:
    """The words of a value, as a shell takes them.

    Raises:
        UserError: If a quotation mark is left open.
    """
    try:
        return shlex.split(value)
    except ValueError:
        raise UserError(f"{option} {value}: a quotation mark is not closed.") from None


def _placed(launcher: Sequence[str]) -> list[str]:
    """A program that the shell does not know, with the path of the one beside this Python, if there is one.

    `.venv/bin/xrayssl` finds its `torchrun` without its environment being active.
    """
    if not launcher or shutil.which(launcher[0]):
        return [*launcher]
    beside = shutil.which(launcher[0], path=str(Path(sys.executable).parent))
    return [beside or launcher[0], *launcher[1:]]


def _contradictions(own: Namespace) -> list[str]:
    wrong = {
        "--measure goes with --plan.": own.measure and not own.plan,
        "--sbatch goes with --slurm.": bool(own.sbatch) and own.slurm is None,
        f"--launcher: there is no program {next(iter(own.launcher), '')} here.": (
            bool(own.launcher) and not own.slurm and shutil.which(own.launcher[0]) is None
        ),
        "--plan, --only and --slurm each say what to do; give one.": (
            sum(map(bool, (own.plan, own.only, own.slurm))) > 1
        ),
    }
    return [sentence for sentence, holds in wrong.items() if holds]


def _launcher(own: Namespace) -> list[str]:
    """What starts each training, here or inside a job of SLURM."""
    from xrayssl.chains import slurm

    return list(own.launcher or (slurm.launcher(own.sbatch) if own.slurm else ()))


def _processes(launcher: Sequence[str]) -> int:
    """Processes that share a step where a configuration leaves it open: the launcher's, or one per GPU."""
    import torch

    words = split_equals(launcher)
    given = {name.lstrip("-").replace("-", "_"): value for name, value in pairwise(words) if name.startswith("--")}
    counts = [given.get("nproc_per_node", ""), given.get("nnodes", "1")] if "ntasks" not in given else [given["ntasks"]]
    if all(count.isdecimal() for count in counts):
        return prod(map(int, counts))
    return max(1, torch.cuda.device_count())


def _plan(made: Any, store: Path, measure: bool) -> int:
    from xrayssl.chains import plan, throughput

    rates = throughput.known(store)
    if measure:
        rates |= throughput.measured(made, made.stages, store, rates)
    sys.stdout.write(plan.text(made, plan.lines(made, store, rates)))
    return 0


def _perform(made: Any, store: Path, own: Namespace, words: list[str]) -> int:
    """Trains the whole study, or writes the scripts that do so."""
    from xrayssl.chains import record
    from xrayssl.chains.graph import unfinished

    stages = made.stages
    _check_starts(made, unfinished(stages, store))
    folder = record.place(made.study.title, own.out)
    with record.writing():
        record.beside(made, stages, store)
        record.write(made, store, folder, words)
    after = f"xrayssl compare {folder}"
    if own.slurm:
        return _submitted(stages, store, own, words, after)
    status = _trained(made, stages, store, own, words)
    if status == 0:
        sys.stdout.write(f"All {len(stages)} stages are in {store}. Next: {after}\n")
    return status


def _alone(made: Any, store: Path, own: Namespace, words: list[str]) -> int:
    """Trains the stages that are named.

    Raises:
        UserError: If one is none of the study's.
    """
    from xrayssl.chains import record

    known = {digits: [stage for stage in made.stages if stage.name.endswith(digits) or stage.key.startswith(digits)]
             for digits in own.only}  # fmt: skip
    refuse([f"--only {digits}: the study has {f'{len(found)} such stages' if found else 'no such stage'}; --plan names "
            "them, and names change with the films, the configuration and the code." for digits, found in known.items()
            if len(found) != 1])  # fmt: skip
    stages = [stage for stage in made.stages if [stage] in known.values()]
    _check_starts(made, stages)
    with record.writing():
        record.beside(made, stages, store)
    return _trained(made, stages, store, own, words)


def _trained(made: Any, stages: Sequence[Any], store: Path, own: Namespace, words: list[str]) -> int:
    from xrayssl.chains import plan, throughput
    from xrayssl.chains.graph import needed_by
    from xrayssl.chains.perform import Wording, perform

    rates = throughput.known(store)
    wording = Wording(["chain", *words], needed_by(made), lambda some: plan.left(some, rates), made.study.title)
    return perform(stages, store, own.launcher, wording=wording)


def _submitted(stages: Sequence[Any], store: Path, own: Namespace, words: list[str], after: str) -> int:
    from xrayssl.chains import slurm

    said = ["chain", *take(words, "--slurm", "--launcher")[1]]
    script = slurm.write(said, stages, store, own.slurm, own.sbatch, own.launcher)
    sys.stdout.write(f"Next: {shlex.quote(str(script))} submits the stages; when they are finished: {after}\n")
    return 0


def _check_starts(made: Any, stages: Sequence[Any]) -> None:
    """Fetches the weights of timm that are needed, before anything is trained.

    Raises:
        UserError: With a sentence about each that cannot be had.
    """
    from xrayssl.backbone import Backbone
    from xrayssl.chains.kind import TIMM

    networks = {(stage.network, str(stage.img_size)): stage for stage in stages if stage.start == TIMM}
    problems: list[str] = []
    for stage in networks.values():
        with noting(problems):
            Backbone(stage.network, stage.img_size, made.kinds[stage.key].in_chans, pretrained=True)
    without = [recipe.name for recipe in made.study.recipes if recipe.start != TIMM]
    if problems and without:
        problems.append(f"To go without timm's weights: --recipes {' '.join(without)}")
    refuse(problems)
