"""Groups are formed from what the table knows, and small ones have no figures."""

import numpy as np
import pandas as pd

from xrayssl.statistics.subgroups import subgroups


def counted(films):
    return {"metrics": {"auroc_macro": len(films), "auroc/a": 0}, "undefined": [], "macro_without": {}}


def table(**columns):
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"patient": [f"p{i}" for i in range(count)], **columns})


def test_groups_have_the_headline_figures_of_their_films():
    found = subgroups(table(sex=["F"] * 12 + ["M"] * 15 + [""] * 11), counted)
    assert list(found) == ["sex"] and list(found["sex"]) == ["F", "M", "unknown"]
    assert [group["metrics"] for group in found["sex"].values()] == [{"auroc_macro": n} for n in (12, 15, 11)]


def test_ages_fall_into_bands_and_impossible_ones_into_none():
    found = subgroups(table(age=[0, 17.9, 18, 39, 40, 59.5, 60, 101, 414, np.nan]), counted)["age"]
    assert {band: group["films"] for band, group in found.items()} == {
        "0-17": 2, "18-39": 2, "40-59": 2, "60+": 2, "unknown": 2
    }  # fmt: skip


def test_nine_patients_are_counted_and_not_measured_however_many_films_they_have():
    rows = table(view=["PA"] * 40).assign(patient=[f"p{i % 9}" for i in range(40)])
    assert subgroups(rows, counted) == {"view": {"PA": {"films": 40, "patients": 9, "metrics": {}}}}
    assert subgroups(rows.assign(patient=[f"p{i % 10}" for i in range(40)]), counted)["view"]["PA"]["metrics"]


def test_what_no_film_says_is_no_group():
    assert subgroups(table(view=["", None]), counted) == {} == subgroups(table(age=[np.nan]), counted)
