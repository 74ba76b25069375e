"""Sex and age of patients out of what tables write, for figures by subgroup."""

from __future__ import annotations

import numpy as np
import pandas as pd

_SEXES = {"f": "F", "female": "F", "w": "F", "woman": "F", "m": "M", "male": "M", "man": "M"}
_AGE = r"\s*(\d+(?:\.\d+)?)\s*([dwmy]?)\s*"
_PER_YEAR = {"d": 365.25, "w": 52.18, "m": 12.0, "y": 1.0, "": 1.0}
OLDEST = 120
"""Years; the NIH table has ages above 400, which are slips."""


def sexes(text: pd.Series) -> pd.Series:
    """F or M, or "" where it is unknown or another.

    Args:
        text: Such as "F", "Female" or "male"; what is none of these is unknown.
    """
    return text.fillna("").astype(str).str.strip().str.lower().map(_SEXES).fillna("").astype(object)


def ages(text: pd.Series) -> pd.Series:
    """Years, float; NaN where they are unknown or beyond belief.

    Args:
        text: Such as "58", or as DICOM writes it: "058Y", "007M" (months), "003W", "012D".
    """
    parts = text.fillna("").astype(str).str.lower().str.extract(rf"^{_AGE}$")
    years = pd.to_numeric(parts[0], errors="coerce") / parts[1].map(_PER_YEAR).astype(float)
    return years.where(years <= OLDEST).astype(float)


def years_between(born: pd.Series, seen: pd.Series) -> pd.Series:
    """Age in years out of two dates of which the years alone are looked at, float; NaN where one is unknown.

    Args:
        born: Begins with the year of birth, such as "1952.0".
        seen: Begins with the year of the study, such as "20130501".
    """
    first, then = (pd.to_numeric(column.fillna("").astype(str).str.extract(r"^\s*(\d{4})")[0], errors="coerce")
                   for column in (born, seen))  # fmt: skip
    years = (then - first).astype(float)
    return years.where(years.between(0, OLDEST), np.nan)
