"""One network explained: its maps, numbers beside nulls, sheets and page."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xrayssl import rundir
from xrayssl.classifier import Classifier, load
from xrayssl.errors import UserError
from xrayssl.explained import depth, figures, page, sheets
from xrayssl.explained.collection import Collection, collect
from xrayssl.explained.command import data_of, told
from xrayssl.explained.facts import How
from xrayssl.explained.storage import save
from xrayssl.files import appearing, write_json

NAME = "explain"


def explain_run(own: Namespace, words: Sequence[str]) -> int:
    """Explains a run, and writes everything about it.

    Args:
        own: Options of the verb.
        words: All of its words, in which those about films are.

    Raises:
        UserError: If run, films or kind of map do not go together.
    """
    classifier = load(own.run, own.ckpt_path)
    data, how = data_of(classifier.run, words), how_of(own)
    folder = _folder(own, classifier)
    collection = collect(classifier, data, how, own.masks)
    random_weights = depth.random_weights(classifier, data, collection, own.random_weights, how)
    content = {"version": 1, "facts": collection.facts, **figures.summary(collection, random_weights),
               **_deeper(classifier, data, collection, own, how)}  # fmt: skip
    save(collection, folder)
    _write_numbers(collection, folder)
    shown = sheets.choose(collection, own.sheets)
    films = sheets.Films(data, (collection.map_Nhw.shape[1], collection.map_Nhw.shape[2]), own.masks)
    paths = sheets.save(films, collection, shown, folder / "sheets")
    write_json(folder / f"{NAME}.json", content)
    pictures = [(one.group, path) for one, path in zip(shown, paths, strict=True)]
    with appearing(folder / f"{NAME}.html") as partial:
        partial.write_text(page.as_html(content, pictures), encoding="utf-8")
    numbers = {row["name"]: row for row in content["numbers"]}
    sys.stdout.write(" ".join(page.sentences(content, numbers)) + "\n")
    told(folder / f"{NAME}.html")
    return 0


def how_of(own: Namespace) -> How:
    """How films are explained, as the options say."""
    return How(own.kind, own.layer, tuple(own.classes), own.split)


def _folder(own: Namespace, classifier: Classifier) -> Path:
    try:
        return rundir.claim(own.out.expanduser()) if own.out else rundir.fresh(classifier.run / NAME)
    except OSError as error:
        where = own.out or classifier.run
        raise UserError(f"{where}: no folder can be made there ({error.strerror}); see --out.") from None


def _deeper(classifier: Classifier, data: Any, collection: Collection, own: Namespace, how: How) -> dict[str, Any]:
    """What costs many passes, where it is asked for and any map says something."""
    full = collection.map_Nhw.max() > 0
    return {
        "faithfulness": depth.faithful(classifier, data, collection, own.faithful) if own.faithful and full else None,
        "cascade": depth.cascade(classifier, data, collection, own.cascade, how) if own.cascade and full else None,
    }


def _write_numbers(collection: Collection, folder: Path) -> None:
    """Every number of every map, for whoever computes on."""
    values = pd.DataFrame(figures.numbers(collection.map_Nhw, collection.region), index=collection.table.index)
    with appearing(folder / "numbers.csv") as partial:
        pd.concat([collection.table, values], axis=1).to_csv(partial, index=False)
