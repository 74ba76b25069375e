"""PadChest: 160,868 chest films of 69,882 patients, 16 bit, with 174 findings and 19 diagnoses out of Spanish reports
(Bustos et al., Medical Image Analysis 66:101797, 2020)."""

from __future__ import annotations

import ast
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.data.annotations.demographics import sexes, years_between
from xrayssl.data.annotations.lookup import by_stem, present
from xrayssl.data.annotations.tables import of_views, read_csv
from xrayssl.data.manifest import Manifest
from xrayssl.errors import UserError

log = logging.getLogger(__name__)
_KEYS = ("ImageID", "PatientID", "StudyID")
_SEX, _BORN, _SEEN = "PatientSex_DICOM", "PatientBirth", "StudyDate_DICOM"
_FRONTAL, _LATERAL = ("PA", "AP", "AP_horizontal"), ("L",)
_EXCLUDE = "exclude"
_SILENT = frozenset({"unchanged", "suboptimal study"})
"""Labels that say nothing of what is to be seen."""
_NO_CLASS = _SILENT | {"normal", _EXCLUDE}


def manifest(
    root: Path,
    labels: Sequence[str] | None = None,
    at_least: int = 100,
    views: str | Sequence[str] = "frontal",
) -> Manifest:
    """Reads PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv[.gz] and the films, in the folders `0` to `54` of the
    archives or wherever below root.

    Labels are lists in Python's notation, with stray blanks, empty and unlike spelling: they are read in lower case.
    What is no such list (some are cut off), and one that says no more than "unchanged" or "suboptimal study", leaves a
    film's labels unknown; films marked "exclude" are left out. There is no official split.

    Args:
        root: Of the corpus.
        labels: Classes, as the table calls them; "normal" is one if you ask for it. null: all findings and diagnoses
            that at least so many films of the table have.
        at_least: This many, 1 or more.
        views: "frontal" (PA, AP and AP_horizontal), "lateral" (L), "all", or of PA, AP, AP_horizontal, L, COSTAL, UNK,
            EXCLUDE those wanted.

    Raises:
        UserError: If an option makes no sense, the table or a column is missing, or none of the films is here.
    """
    if at_least < 1 or isinstance(labels, str):
        raise UserError(f"padchest: at_least is 1 or more and labels a list, not {at_least} and {labels!r}.")
    source = _table(root)
    films = read_csv(source, (), also=(_SEX, _BORN, _SEEN), blank=(*_KEYS, "Projection", "Labels"))
    said = _Said(films["Labels"])
    classes = said.classes(labels, at_least, source)
    films["row"], films["stem"] = np.arange(len(films)), films["ImageID"].str.rsplit(".", n=1).str[0]
    films = films[_usable(films, said, source)].rename(columns={"Projection": "view"})
    films = of_views(films, views, _FRONTAL, _LATERAL, source)
    films = present(films, "stem", by_stem(root), source)
    table = pd.DataFrame({"path": films["path"], "corpus": "padchest", "patient": "padchest_" + films["PatientID"],
                          "study": "padchest_" + films["StudyID"], "view": films["view"], "split": ""})  # fmt: skip
    blank = pd.Series("", films.index)
    table["sex"] = sexes(films.get(_SEX, blank))
    table["age"] = years_between(films.get(_BORN, blank), films.get(_SEEN, blank))
    found = pd.DataFrame(said.of(classes)[films["row"]], columns=classes)
    return Manifest(table.join(found), classes, "multilabel" if classes else None)


def _table(root: Path) -> Path:
    found = sorted(root.glob("PADCHEST_chest_x_ray_images_labels_160K*.csv*"))
    if not found:
        raise UserError(f"{root}: PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv is missing.")
    return found[0]


def _usable(films: pd.DataFrame, said: _Said, source: Path) -> np.ndarray:
    whole = (films[list(_KEYS)] != "").all(axis=1).to_numpy()
    marked = said.names(_EXCLUDE)
    log.info(
        "%s: left out %d rows without image, patient or study and %d films marked %r; the labels of %d are unknown.",
        source, (~whole).sum(), (whole & marked).sum(), _EXCLUDE, (whole & ~marked & said.unknown).sum(),
    )  # fmt: skip
    return whole & ~marked


class _Said:
    """Which labels every row has.

    Args:
        texts: Lists in Python's notation.
    """

    def __init__(self, texts: pd.Series) -> None:
        self.codes, once = pd.factorize(texts)  # 160,000 rows have some 30,000 lists
        self.lists = [_parsed(text) for text in once]
        self.unknown = np.array([not names or names <= _SILENT for names in self.lists], bool)[self.codes]

    def names(self, label: str) -> np.ndarray:
        """Whether a label stands in the list, bool (N,)."""
        return np.array([label in names for names in self.lists], bool)[self.codes]

    def of(self, classes: Sequence[str]) -> np.ndarray:
        """Labels, float (N, K)."""
        found = np.array([[name in names for name in classes] for names in self.lists], float)
        return np.where(self.unknown[:, None], np.nan, found[self.codes])

    def classes(self, wanted: Sequence[str] | None, at_least: int, source: Path) -> list[str]:
        """The labels wanted, or those of enough rows."""
        rows = np.bincount(self.codes, minlength=len(self.lists))
        counts: dict[str, int] = {}
        for names, count in zip(self.lists, rows, strict=True):
            for name in names:
                counts[name] = counts.get(name, 0) + int(count)
        if wanted is None:
            return sorted(name for name, count in counts.items() if count >= at_least and name not in _NO_CLASS)
        foreign = [name for name in wanted if name.lower() not in counts]
        if foreign:
            raise UserError(*(f"{source}: no film has the label {name!r}." for name in foreign))
        return [name.lower() for name in wanted]


def _parsed(text: str) -> frozenset[str]:
    """The labels of a list; none, if it is no list."""
    try:
        names = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return frozenset()
    if not isinstance(names, list):
        return frozenset()
    return frozenset(name.strip().lower() for name in names if isinstance(name, str)) - {""}
