"""The 14 findings of CheXpert and MIMIC-CXR as a labeller read them from reports, and what its doubts count as.

A labeller writes 1 (present), 0 (absent), -1 (uncertain) or nothing (not mentioned). Policies for the last two follow
Irvin et al. (AAAI 2019, section 3): "ones" and "zeros" take them for present or absent, "ignore" leaves them unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from xrayssl.errors import UserError
from xrayssl.spelling import alternatives

FINDINGS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
]  # fmt: skip
COMPETITION = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
_COUNTS_AS = {"ones": 1.0, "zeros": 0.0, "ignore": np.nan}
_OFFICIAL = {name: "ones" if name in ("Atelectasis", "Edema") else "zeros" for name in FINDINGS}
_MARKS = (1.0, 0.0, -1.0)

Uncertain = str | dict[str, str]


def vocabulary(corpus: str, classes: int) -> list[str]:
    """All 14 findings, or the 5 of the CheXpert competition.

    Raises:
        UserError: If the number is another.
    """
    known = {14: FINDINGS, 5: COMPETITION}
    if classes not in known:
        raise UserError(f"{corpus}: classes is 5 (those of the competition) or 14, not {classes!r}.")
    return known[classes]


def policies(corpus: str, uncertain: Uncertain, blank: str) -> dict[str, str]:
    """The policy for each finding.

    Args:
        corpus: For messages.
        uncertain: "official" (Atelectasis and Edema count as present, the others as absent), "ones", "zeros",
            "ignore", or a mapping of findings to one of the last three, where others follow "official".
        blank: "zeros" or "ignore".

    Raises:
        UserError: If a finding or a policy does not exist.
    """
    given = uncertain if isinstance(uncertain, Mapping) else {}
    problems = [
        f"{corpus}: uncertain names the finding {name!r}, which is none of {', '.join(FINDINGS)}."
        for name in given
        if name not in FINDINGS
    ]
    wrong = [policy for policy in given.values() if policy not in _COUNTS_AS]
    if not given and uncertain not in ("official", *_COUNTS_AS):
        wrong.append(str(uncertain))
    named = alternatives(["official", *_COUNTS_AS, "a mapping of findings to one of the last three"])
    problems += [f"{corpus}: uncertain is {named}, not {policy!r}." for policy in wrong]
    if blank not in ("zeros", "ignore"):
        problems.append(f"{corpus}: blank is zeros or ignore, not {blank!r}.")
    if problems:
        raise UserError(*problems)
    return _OFFICIAL | ({} if uncertain == "official" else given or dict.fromkeys(FINDINGS, str(uncertain)))


def resolve(
    marks: pd.DataFrame, classes: Sequence[str], policy: Mapping[str, str], blank: str, where: Path
) -> pd.DataFrame:
    """Turns a labeller's marks into labels.

    A labeller leaves "No Finding" blank where there was something: that counts as absent, whatever `blank` says. Where
    it is 1, the other findings were ruled out, all but Support Devices.

    Args:
        marks: Text, a column per finding; the index tells the line of the table.
        classes: Findings wanted, in this order.
        policy: For uncertain marks, see `policies`.
        blank: Policy for what was not mentioned.
        where: The table came from, for messages.

    Returns:
        float columns, 1 present, 0 absent, NaN unknown; a finding that the table lacks is NaN.

    Raises:
        UserError: If a mark is none.
    """
    healthy = (_numbers(marks, "No Finding", where) == 1).to_numpy()
    labels = {}
    for name in classes:
        values = _numbers(marks, name, where)
        silence = (
            0.0 if name == "No Finding" else np.where(healthy & (name != "Support Devices"), 0.0, _COUNTS_AS[blank])
        )
        found = values.mask(values.isna(), silence) if name in marks else values
        labels[name] = found.mask(values == -1, _COUNTS_AS[policy[name]])
    return pd.DataFrame(labels, index=marks.index)


def _numbers(marks: pd.DataFrame, name: str, where: Path) -> pd.Series:
    """A column's marks as numbers, NaN where it is blank."""
    if name not in marks:
        return pd.Series(np.nan, marks.index)
    text = marks[name]
    codes, once = pd.factorize(text)
    values = pd.Series(pd.to_numeric(pd.Series(once), errors="coerce").to_numpy(float)[codes], marks.index)
    wrong = np.flatnonzero((text != "") & ~values.isin(_MARKS))
    if len(wrong):
        mark, line = text.iloc[wrong[0]], text.index[wrong[0]] + 2
        raise UserError(f"{where}: the finding {name!r} is {mark!r} in line {line}; it must be 1, 0, -1 or empty.")
    return values
