"""`xrayssl prepare`: makes stores of corpora, and checks them."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayssl.errors import UserError
from xrayssl.train import speak

if TYPE_CHECKING:
    from argparse import Namespace

    from xrayssl.data_request import DataRequest

USAGE = "--data.corpora.NAME PATH --out DIR [options]"
TEXT = """Reads every film of the corpora once, strictly, and keeps it small in a store, which trains far faster.
Interrupted or killed at any moment, the same command goes on where it was. All films and labels of a corpus go in;
labels, split and exclusions are chosen when training.

which films:
{data}

how they are kept:
  --out DIR                       folder of the stores; each corpus gets one under its name
  --size 512                      short side in pixels; the aspect stays, nothing is enlarged
  --dtype uint8                   or uint16, for 16 bit of grey
  --trim                          cut the empty border off
  --data.window voi               how grey values become black to white: voi, percentile, none
  --data.limits '[0, 100]'        the percentiles, for percentile
  --data.on_error quarantine      set unreadable films aside, in quarantine.csv, instead of stopping at the first
  --workers 8                     processes that read films (default: one per core)

afterwards:
  xrayssl fit --config NAME --data.corpora.NAME DIR/NAME    films from a store, through the same option as raw files
  xrayssl prepare --verify DIR                              every checksum, and whether the raw files have changed
"""


def prepare_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl prepare`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake at once; a film that cannot be read; a store that is damaged or stale.
        KeyboardInterrupt: With a sentence saying how far it came.
    """
    from xrayssl.data_request import DATA_OPTIONS, Options, parse

    options = Options("prepare", USAGE, TEXT.format(data=DATA_OPTIONS))
    options.add_argument("--verify", type=Path)
    options.add_argument("--out", type=Path)
    options.add_argument("--size", type=int, default=512)
    options.add_argument("--dtype", choices=("uint8", "uint16"), default="uint8")
    options.add_argument("--trim", action="store_true")
    options.add_argument("--workers", type=int)
    speak()
    if any(word.split("=")[0] == "--verify" for word in argv):
        return _verify(options.parse_args(list(argv)))
    return _prepare(parse(options, argv))


def _prepare(request: DataRequest) -> int:
    from xrayssl.data.corpora import gather
    from xrayssl.data.parallel import cores
    from xrayssl.data.prepare.preparation import Tolerance, plan, prepare
    from xrayssl.data.prepare.reduction import Recipe

    own, data = request.own, request.arguments
    sources = {name: _source(source) for name, source in request.corpora.items()}
    workers = cores() if own.workers is None else own.workers
    _refuse(_problems(own, workers, sources if data["corpora"] else {}))
    limits, first = tuple(data["limits"]), data["first_frame"]
    recipe = Recipe(data["window"], limits, first, own.size, own.dtype, own.trim)
    tolerance = Tolerance(data["on_error"], data["max_quarantine"])
    for name, manifest in zip(sources, gather(sources), strict=True):
        started, folder = time.monotonic(), own.out.expanduser() / name
        wanted = plan(name, sources[name], recipe, manifest)
        made = prepare(folder, wanted, manifest, workers, tolerance)
        _tell(name, folder, time.monotonic() - started if made else None)
    return 0


def _source(source: str | Mapping[str, Any]) -> dict[str, Any]:
    """With an absolute root, so that the store can be checked against the raw files from anywhere."""
    known = dict(source) if isinstance(source, Mapping) else {"root": source}
    if isinstance(known.get("root"), str):
        known["root"] = str(Path(known["root"]).expanduser().absolute())
    return known


def _problems(own: Namespace, workers: int, sources: Mapping[str, Mapping[str, Any]]) -> list[str]:
    from xrayssl.data.store import is_store

    stores = [source["root"] for source in sources.values() if is_store(source.get("root"))]
    wrong = {
        "prepare needs films: --data.corpora.NAME PATH.": not sources,
        "prepare needs a folder for the stores: --out DIR.": own.out is None,
        **{sentence: True for sentence in _too_few(workers)},
        **{f"{root}: this is a store already; prepare it from the raw files.": True for root in stores},
    }
    return [sentence for sentence, holds in wrong.items() if holds]


def _too_few(workers: int) -> list[str]:
    return [f"--workers must be 0 or more, not {workers}."] if workers < 0 else []


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise UserError(*problems)


def _tell(name: str, folder: Path, seconds: float | None) -> None:
    from xrayssl.data.store import QUARANTINE, facts

    known = facts(folder)
    total = known["films"] + known["quarantined"]
    took = "complete already" if seconds is None else f"{seconds:.0f} s, {total / max(seconds, 1e-9):.0f} a second"
    aside = f"; {known['quarantined']} set aside, see {folder / QUARANTINE}" if known["quarantined"] else ""
    size = f"{sum(known['shards']) / 1e6:,.0f} MB in {len(known['shards'])} shard{'s'[: len(known['shards']) > 1]}"
    sys.stdout.write(f"{name}: {known['films']:,} films, {size} ({took}){aside}\n  --data.corpora.{name} {folder}\n")


def _verify(own: Namespace) -> int:
    from xrayssl.data.parallel import cores
    from xrayssl.data.prepare.verification import verify
    from xrayssl.data.store import is_store

    root, workers = own.verify.expanduser(), cores() if own.workers is None else own.workers
    stores = [root] if is_store(root) else sorted(path for path in root.glob("*") if is_store(path))
    nowhere = [] if stores else [f"{root}: there is no store here, nor in the folders in it."]
    _refuse([*nowhere, *_too_few(workers)])
    problems = []
    for folder in stores:
        found = verify(folder, workers)
        problems += found.problems
        sys.stdout.write(f"{found.sentence}\n")
    _refuse(problems)
    return 0
