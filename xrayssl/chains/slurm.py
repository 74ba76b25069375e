"""Stages as jobs of SLURM: an array for each level of the graph, whose stages do not need each other.

The scripts do no more than call `xrayssl chain --only STAGE`, with `srun` in front of each training: what a stage is
and whether it is finished is known there, so that a job may be begun again at any time. Lightning recognises SLURM's
processes by itself; its own requeueing, at SIGUSR1 in the training, is left alone and not used, since it would write a
second kind of checkpoint.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from xrayssl.chains.perform import ready
from xrayssl.chains.stage import DIGITS, Stage
from xrayssl.errors import refuse
from xrayssl.files import appearing

SUBMIT = "submit.sh"
LEAD = 180
"""Seconds before a job's limit at which its training is told to stop."""
GRACE = 120
"""Seconds after which a job that has not stopped is put back into the queue all the same, such as during a test."""
OURS = ("--array", "--dependency", "--no-requeue", "--ntasks", "--open-mode", "--output", "--requeue", "--signal")
COUNTS = ("--nodes", "--ntasks-per-node")
LEVEL = """#!/bin/bash
{options}
# Level {number} of {levels}: stages that do not need each other. Written by `xrayssl chain --slurm`.

stages=(
{stages}
)
job=${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}
asked= heard= timer=

# Shortly before the time limit SLURM sends this shell SIGUSR1. The training gets SIGTERM, which it answers by a
# checkpoint and status 143; srun itself must not get it, which would kill the training at once.
stop() {{
    asked=yes heard=yes
    scancel --signal=TERM "$SLURM_JOB_ID"
    {{ sleep {grace} && scontrol requeue "$job"; }} < /dev/null > /dev/null 2>&1 &
    timer=$!
}}
trap stop USR1
trap '' TERM

cd {here} || exit
{chain} --only "${{stages[SLURM_ARRAY_TASK_ID]}}" &
chain=$!
while wait "$chain"; status=$?; [ "$heard" ]; do  # a signal ends `wait` early
    heard=
done
[ -z "$timer" ] || kill "$timer" 2> /dev/null

# Also SLURM stops a training, to give its place to another job; whoever cancels the job does not want it back.
if [ "$status" -eq 143 ] && [ -z "$asked" ]; then
    [ "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T)" = RUNNING ] && asked=yes
fi
if [ "$status" -ne 0 ] && [ "$asked" ]; then
    scontrol requeue "$job"
fi
exit "$status"
"""
SUBMISSION = """#!/bin/bash
# Submits {count} stages in {levels} levels, each after the one before it. Written by `xrayssl chain --slurm`.
# A stage that fails leaves the levels after it waiting in vain, and SLURM takes them out of the queue; finished stages
# are kept: mend what failed and write these scripts anew.
set -eu
cd {folder}
after=
{calls}
"""
SUBMITTED = """job=$(sbatch --parsable $after level-{number}.sh)
echo "level {number}: job ${{job%%;*}}, {count} stages"
after="--dependency=afterok:${{job%%;*}} --kill-on-invalid-dep=yes\""""


def write(
    words: Sequence[str],
    stages: Sequence[Stage],
    store: Path,
    folder: Path,
    sbatch: Sequence[str] = (),
    launched: Sequence[str] = (),
) -> Path:
    """Writes the scripts, of which the one returned submits all others.

    Args:
        words: After `xrayssl`: `chain`, and what says which study, without --slurm, --sbatch, --launcher and --only.
        stages: Each after the one that it starts from.
        store: Of the stages; what is finished there needs no job.
        folder: For the scripts, and what the jobs say.
        sbatch: Options of sbatch, such as `--partition=gpu` and `--gpus-per-node=4`.
        launched: What runs `-m xrayssl` inside a job; see `launcher` where it is empty.

    Raises:
        UserError: If everything is finished, or an option is one that the scripts need for themselves.
    """
    waiting = [stage for stage in stages if not ready(stage, store)]
    _check(waiting, sbatch, folder)
    folder = folder.expanduser().absolute()
    parts = levels(waiting)
    started = shlex.join(launched or launcher(sbatch))
    chain = shlex.join([sys.executable, "-m", "xrayssl", *words, "--launcher", started])
    for number, part in enumerate(parts, 1):
        text = LEVEL.format(
            options="\n".join(f"#SBATCH {option}" for option in _options(number, len(part), folder, sbatch)),
            number=number, levels=len(parts), stages="\n".join(f"    {one.key[:DIGITS]}  # {one.name}" for one in part),
            grace=GRACE, here=shlex.quote(str(Path.cwd())), chain=chain,
        )  # fmt: skip
        _script(folder / f"level-{number}.sh", text)
    calls = "\n".join(SUBMITTED.format(number=number, count=len(part)) for number, part in enumerate(parts, 1))
    text = SUBMISSION.format(count=len(waiting), levels=len(parts), folder=shlex.quote(str(folder)), calls=calls)
    return _script(folder / SUBMIT, text)


def launcher(sbatch: Sequence[str]) -> list[str]:
    """What starts the processes of a training inside a job, as many as sbatch was asked for.

    Args:
        sbatch: Options of sbatch; --nodes and --ntasks-per-node count.

    Raises:
        UserError: If these are no numbers.
    """
    refuse(_wrong(sbatch))
    given = dict(option.partition("=")[::2] for option in sbatch)
    nodes, each = (given.get(name, "1") for name in COUNTS)
    return ["srun", f"--ntasks={int(each) * int(nodes)}", f"--ntasks-per-node={each}", sys.executable]


def levels(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Puts stages that can be trained at the same time together, each as early as it can be.

    Args:
        stages: Each after the one that it starts from, if that is among them.
    """
    level: dict[Stage, int] = {}
    for stage in stages:
        level[stage] = 1 + level.get(stage.parent, -1) if stage.parent else 0
    return [[stage for stage in level if level[stage] == number] for number in sorted({*level.values()})]


def _options(number: int, count: int, folder: Path, sbatch: Sequence[str]) -> list[str]:
    own = ["--job-name=xrayssl", f"--array=0-{count - 1}", "--requeue", "--open-mode=append",
           f"--signal=B:USR1@{LEAD}", f"--output={folder}/level-{number}-%a.out", "--ntasks-per-node=1"]  # fmt: skip
    given = {option.partition("=")[0] for option in sbatch}
    return [*(option for option in own if option.partition("=")[0] not in given), *sbatch]


def _check(waiting: Sequence[Stage], sbatch: Sequence[str], folder: Path) -> None:
    problems = [] if waiting else ["every stage is finished; there is nothing to submit."]
    problems += _wrong(sbatch)
    if set(str(folder)) & {" ", "%"}:
        problems.append(f"--slurm {folder}: SLURM wants a folder without blanks and % in its name.")
    refuse(problems)


def _wrong(sbatch: Sequence[str]) -> list[str]:
    """A sentence about each option of sbatch that cannot be."""
    problems = []
    for option in sbatch:
        name, _, value = option.partition("=")
        if not option.startswith("--"):
            problems.append(f"--sbatch {option}: write options in one word, as --partition=gpu.")
        elif name in OURS:
            problems.append(f"--sbatch {option}: the scripts say that themselves.")
        elif name in COUNTS and not (value.isdecimal() and int(value)):
            problems.append(f"--sbatch {option}: write a whole number, as {name}=4.")
    return problems


def _script(path: Path, text: str) -> Path:
    with appearing(path) as partial:
        partial.write_text(text, encoding="utf-8")
        partial.chmod(0o755)
    return path
