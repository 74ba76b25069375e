"""`xrayssl data check` and `xrayssl data fetch`: corpora before anything is trained. Light to import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayssl import rundir
from xrayssl.data_request import DATA_OPTIONS, Options, parse
from xrayssl.errors import UserError
from xrayssl.recipes import nearest
from xrayssl.train import speak

if TYPE_CHECKING:
    from xrayssl.data.check.findings import Findings
    from xrayssl.data.check.survey import Corpora
    from xrayssl.data_request import DataRequest

FOUND = 1
"""Exit status of a check that found films which cannot be read, or leaks."""
HELP = """usage: xrayssl data check --data.corpora.NAME PATH [options]
       xrayssl data fetch NAME [options]

  check  what lies in corpora: counts, sizes, unreadable films, copies, leaks, a contact sheet
  fetch  download an openly licensed collection
"""
CHECK = f"""Reads every film of the corpora and says what is there.
Exit status: 0 if all is well, 1 if films cannot be read or leak, 2 if the command or a corpus is refused.

which films:
{DATA_OPTIONS}

does what is learned from leak into a later test? Name that test, as --data names the films:
  --against RUN                   the test films of a finished run
  --against.corpora.nih PATH      the test films of these corpora; also --against.config NAME, --against.split_seed, ...

how:
  --out DIR                       folder for the lists and the contact sheet (default: runs/data-check/<time>)
  --no-look-alikes                compare files only by checksum, not by sight
  --workers 8                     processes that read films (default: one per core)
"""
FETCH = """Downloads a collection, after showing its licence and size and asking, and unpacks it for `--data.corpora`.
What was interrupted goes on where it stopped.

  --to DIR                        where to (default: films/NAME)
  --yes                           agree without being asked

collections:
{collections}
"""
AGAINST = "--against"


def data_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl data`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Whatever the user can mend.
        KeyboardInterrupt: With a sentence saying how to go on.
    """
    verbs = {"check": check_command, "fetch": fetch_command}
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(HELP)
        return 0
    if argv[0] not in verbs:
        raise UserError(
            f"there is no `xrayssl data {argv[0]}`.{nearest(argv[0], list(verbs)) or ' There are check and fetch.'}"
        )
    speak()
    return verbs[argv[0]](argv[1:])


def fetch_command(argv: Sequence[str]) -> int:
    """`xrayssl data fetch NAME`: downloads a collection once somebody agrees."""
    from xrayssl.data.fetch.collection import agreed, fetch, find, next_command, overview, terms

    options = Options("data fetch", "NAME [--to DIR] [--yes]", FETCH.format(collections=overview()))
    options.add_argument("name", nargs="?")
    options.add_argument("--to", type=Path)
    options.add_argument("--yes", action="store_true")
    wanted = options.parse_args(list(argv))
    if wanted.name is None:
        sys.stdout.write(options.format_help())
        return 0
    collection = find(wanted.name)
    folder = (wanted.to or Path("films") / wanted.name).expanduser()
    sys.stdout.write(terms(collection, folder))
    if not wanted.yes and not agreed():
        sys.stdout.write("Nothing was downloaded.\n")
        return 0
    fetch(collection, folder)
    sys.stdout.write(f"\nThe films are in {folder}. Next:\n  {next_command(collection, folder)}\n")
    return 0


def check_command(argv: Sequence[str]) -> int:
    """`xrayssl data check`: says what lies in corpora, and writes lists and a contact sheet."""
    options = Options("data check", "--data.corpora.NAME PATH [options]", CHECK)
    options.add_argument("--out")
    options.add_argument("--workers", type=int)
    options.add_argument("--no-look-alikes", action="store_true")
    own, against = divided(argv)
    problems: list[str] = []
    requests = [_understood(options, own, problems)]
    if against:
        requests.append(_understood(Options("data check --against", "", ""), against, problems, "--data", AGAINST))
    if problems:
        raise UserError(*problems)
    return _check([request for request in requests if request is not None])


def divided(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tells the words about the films from those about a later test, which become `--data...` and `--config`."""
    own: list[str] = []
    against: list[str] = []
    stream = iter(argv)
    for word in stream:
        name, equals, value = word.partition("=")
        if name != AGAINST and not name.startswith(f"{AGAINST}."):
            own.append(word)
            continue
        value = value if equals else next(stream, "--")
        if value.startswith("--"):
            raise UserError(f"{name} needs a value.")
        if name == AGAINST:
            against += ["--config", _config_of_run(value)]
        else:
            option = name.removeprefix(f"{AGAINST}.")
            against += ["--config" if option == "config" else f"--data.{option}", value]
    return own, against


def _config_of_run(run: str) -> str:
    config = Path(run).expanduser() / "config.yaml"
    if not config.is_file():
        raise UserError(f"{AGAINST} {run}: there is no run in that folder (no config.yaml).")
    return str(config)


def _understood(
    options: Options, words: Sequence[str], problems: list[str], spoken: str = "", typed: str = ""
) -> DataRequest | None:
    try:
        return parse(options, words)
    except UserError as error:
        problems.extend(message.replace(spoken, typed) if spoken else message for message in error.messages)
        return None


def _check(requests: Sequence[DataRequest]) -> int:
    from xrayssl.data.check.findings import check, save
    from xrayssl.data.check.survey import View
    from xrayssl.data.parallel import cores

    own, arguments = requests[0].own, requests[0].arguments
    workers = cores() if own.workers is None else own.workers
    if workers < 0:
        raise UserError(f"--workers must be 0 or more, not {workers}.")
    view = View(arguments["window"], tuple(arguments["limits"]), arguments["first_frame"])
    opened = [_opened(request) for request in requests]
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = rundir.claim(Path(own.out).expanduser()) if own.out else rundir.fresh(Path("runs", "data-check", started))
    later = opened[1] if len(opened) > 1 else None
    findings = check(opened[0], later, view, workers, by_sight=not own.no_look_alikes)
    files = save(findings, folder, view, workers)
    sys.stdout.write(told(findings, requests[0].corpora, folder, files))
    return 0 if findings.fine else FOUND


def _opened(request: DataRequest) -> Corpora:
    from xrayssl.data.check.survey import opened

    if not request.arguments["corpora"]:
        sys.stderr.write("No --data.corpora given: the films are rendered phantoms, not patients.\n")
    return opened(request.corpora, request.arguments)


def told(findings: Findings, corpora: dict[str, Any], folder: Path, files: Sequence[str]) -> str:
    """Writes what was found, for a terminal.

    Args:
        findings: Of a check.
        corpora: Name to root, or to a mapping with root.
        folder: Where the files are.
        files: Their names.
    """
    from xrayssl.data.check.findings import report
    from xrayssl.data.check.tally import set_out

    found = report(findings)
    roots = {name: source.get("root") or "" if isinstance(source, dict) else source for name, source in corpora.items()}
    parts = [set_out(name, str(roots.get(name, "")), counts) for name, counts in found["corpora"].items()]
    return "\n".join([*parts, _verdict(findings, found, folder), f"{folder}: {', '.join(files)}"]) + "\n"


def _verdict(findings: Findings, found: dict[str, Any], folder: Path) -> str:
    aside, leaks = findings.unreadable, found["leaks"]
    lines = [f"unreadable  {len(aside) or 'none'}"]
    lines += [f"            {problem}" for problem in aside["problem"].head(5)]
    lines += ["            ... and more in films.csv"] if len(aside) > 5 else []
    lines.append(f"copies      {_pairs(found['copies'])}")
    to = "a later test or another split" if findings.compared else "another split"
    if not leaks["pairs"]:
        return "\n".join([*lines, f"leaks       none: nothing that is learned from has a copy in {to}\n"])
    several = "film that is learned from is" if leaks["pairs"] == 1 else "films that are learned from are"
    lines.append(f"leaks       {leaks['pairs']:,} {several} in {to}, too: {_kinds(leaks)}")
    return "\n".join([*lines, f"            leave them out: --data.exclude '[{folder / 'exclude.csv'}]'\n"])


def _pairs(pairs: dict[str, Any]) -> str:
    if not pairs["pairs"]:
        return "none"
    apart = f"{pairs['across_splits']:,} across splits, {pairs['of_different_patients']:,} of different patients"
    return f"{pairs['pairs']:,} pair{'s'[: pairs['pairs'] != 1]}: {_kinds(pairs)}; {apart}"


def _kinds(pairs: dict[str, Any]) -> str:
    return ", ".join(f"{how} {count:,}" for how, count in pairs["how"].items())
