"""Several recipes explained: the maps of every run, kept so that the command goes on where it was, and a comparison."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xrayssl.classifier import load as load_classifier
from xrayssl.comparison import exports
from xrayssl.comparison.comparison import chosen_reference
from xrayssl.comparison.page import as_html
from xrayssl.comparison.selection import Entry, Selection, select
from xrayssl.errors import UserError
from xrayssl.explain import nulls
from xrayssl.explained import depth, figures, recipes, sections, sheets, slider
from xrayssl.explained.collection import Collection, alike, collect
from xrayssl.explained.command import data_of, told
from xrayssl.explained.facts import facts
from xrayssl.explained.single import how_of
from xrayssl.explained.storage import load, save
from xrayssl.files import appearing, write_json

log = logging.getLogger(__name__)


def explain_recipes(runs: Sequence[str], own: Namespace, words: Sequence[str]) -> int:
    """Explains every run of the greatest amount of labels, and compares the recipes.

    Args:
        runs: As `xrayssl compare` takes them.
        own: Options of the verb.
        words: All of its words.

    Raises:
        UserError: If runs cannot be read, explained or compared.
    """
    selection = _greatest(select(runs))
    chosen_reference(selection, own.reference)
    folder = _folder(own, selection)
    found = [(entry, _explained(entry, own, words, folder, f"run {number} of {len(selection.entries)}"))
             for number, entry in enumerate(selection.entries, 1)]  # fmt: skip
    content = recipes.compared(selection, found, own.reference) | {
        "title": f"Where recipes look: {selection.title}",
        "repeatability": recipes.repeatability(found),
        "agreement": recipes.agreement(found),
        "nulls": _nulls(found, own, words),
    }
    write_json(folder / "explain.json", content)
    _write(folder / "recipes.html", as_html(content, sections.of_recipes(content)))
    _write(folder / "recipes.csv", exports.as_csv(content))
    _write_slider(folder, found, own, words)
    sys.stdout.write(f"{exports.as_text(content)}\n")
    told(folder / "recipes.html")
    return 0


def _greatest(selection: Selection) -> Selection:
    """Of a study the results with the most labels; a cross-validation has no network of its own."""
    usable = [entry for entry in selection.entries if not entry.folds]
    if not usable:
        raise UserError("A cross-validation has no network of its own; name the runs of its folds.")
    greatest = max(entry.amount for entry in usable)
    kept = [entry for entry in usable if entry.amount == greatest]
    missing = [entry for entry in selection.missing if entry.amount == greatest]
    return Selection(kept, missing, selection.references, selection.pretraining, selection.folder, selection.title,
                     selection.corpora)  # fmt: skip


def _folder(own: Namespace, selection: Selection) -> Path:
    """Where to; what an earlier command left there is gone on with."""
    default = selection.folder / "explain" if selection.folder else None
    named = hashlib.sha256(repr([str(entry.run.resolve()) for entry in selection.entries]).encode()).hexdigest()[:8]
    folder: Path = (own.out or default or Path("runs", "explain", named)).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: no folder can be made there ({error.strerror}); see --out.") from None
    return folder


def _explained(entry: Entry, own: Namespace, words: Sequence[str], folder: Path, place: str) -> Collection:
    """The maps of a run, kept ones if they are of just this."""
    name = _spelled(f"{entry.recipe}-{entry.network}-{entry.amount:g}-{entry.seed}")
    classifier, how = load_classifier(entry.run), how_of(own)
    data = data_of(entry.run, words)
    known = load(folder / "maps" / name, facts(classifier, data, how, own.masks))
    if known is not None:
        return known
    log.info("%s: %s, seed %d.", place, entry.recipe, entry.seed)
    found = collect(classifier, data, how, own.masks)
    save(found, folder / "maps" / name)
    return found


def _nulls(found: recipes.Found, own: Namespace, words: Sequence[str]) -> list[dict[str, Any]]:
    """What networks with random weights, a uniform map and a centred Gaussian give, for each network."""
    rows = []
    for network in dict.fromkeys(entry.network for entry, _ in found):
        entry, collection = next(pair for pair in found if pair[0].network == network)
        classifier, data = load_classifier(entry.run), data_of(entry.run, words)
        maps = depth.random_weights(classifier, data, collection, own.random_weights, how_of(own))
        known = figures.null_numbers(collection)
        values = {name: [known[name]] for name in (nulls.UNIFORM, nulls.GAUSSIAN)}
        values[nulls.RANDOM] = [figures.numbers(one, collection.region) for one in maps]
        rows += [{"network": network, "null": null, "numbers": figures.means(several)} for null, several in
                 values.items() if several]  # fmt: skip
    return rows


def _spelled(name: str) -> str:
    """As a part of a file's name."""
    return re.sub(r"[^\w.-]+", "_", name)


def _write(path: Path, text: str) -> None:
    with appearing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _write_slider(folder: Path, found: recipes.Found, own: Namespace, words: Sequence[str]) -> None:
    """A page for each network, of the first seed of each recipe, if these are maps of the same classes."""
    for network in dict.fromkeys(entry.network for entry, _ in found):
        first: dict[str, tuple[Entry, Collection]] = {}
        for entry, one in found:
            if entry.network == network:
                first.setdefault(entry.recipe, (entry, one))
        maps = {recipe: one for recipe, (_, one) in first.items()}
        if not own.sheets or not alike(list(maps.values())):
            continue
        drawn = {recipe: _films(entry, one, own, words) for recipe, (entry, one) in first.items()}
        path = folder / f"slider-{_spelled(network)}.html"
        _write(path, slider.as_html(drawn, maps, sheets.choose(next(iter(maps.values())), own.sheets)))
        told(path)


def _films(entry: Entry, one: Collection, own: Namespace, words: Sequence[str]) -> sheets.Films:
    """Films as a run saw them."""
    return sheets.Films(data_of(entry.run, words), (one.map_Nhw.shape[1], one.map_Nhw.shape[2]), own.masks)
