import numpy as np
import pandas as pd
import pytest

from xrayssl.data.annotations.demographics import ages, sexes, years_between
from xrayssl.data.manifest import Manifest, join
from xrayssl.errors import UserError


@pytest.mark.parametrize(
    ("said", "sex"),
    [("F", "F"), ("female", "F"), (" Male ", "M"), ("M", "M"), ("O", ""), ("Unknown", ""), ("", ""), (None, "")],
)
def test_a_sex_is_f_m_or_unknown(said, sex):
    assert sexes(pd.Series([said], dtype=object)).tolist() == [sex]


@pytest.mark.parametrize(
    ("said", "years"),
    [("58", 58.0), ("058Y", 58.0), ("6.5", 6.5), ("006M", 0.5), ("411", np.nan), ("", np.nan), ("old", np.nan),
     ("-3", np.nan), (None, np.nan), ("0", 0.0)],
)  # fmt: skip
def test_an_age_is_years_or_unknown(said, years):
    assert ages(pd.Series([said], dtype=object)).tolist() == pytest.approx([years], nan_ok=True)


def test_days_are_a_part_of_a_year():
    assert ages(pd.Series(["365D", "052W"])).tolist() == pytest.approx([1.0, 1.0], abs=0.01)


def test_years_between_two_dates_are_unknown_where_one_is():
    born, seen = pd.Series(["1952.0", "", "1952", "2020"]), pd.Series(["20130501", "20130501", "", "20130501"])
    assert years_between(born, seen).tolist() == pytest.approx([61.0, np.nan, np.nan, np.nan], nan_ok=True)


def people(name, **columns):
    table = {"path": [f"/{name}.png"], "corpus": name, "patient": name, "study": name, "view": "", "split": ""}
    return Manifest(pd.DataFrame(table | columns))


def test_a_corpus_that_tells_no_age_beside_one_that_does_has_unknown_ones():
    table = join([people("a", sex="F", age=50.0), people("b")]).table
    assert table["sex"].tolist() == ["F", ""]
    assert table["age"].tolist() == pytest.approx([50.0, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("columns", "says"), [({"sex": "female"}, "sex 'female' is none of F, M"), ({"age": "50"}, "years as float")]
)
def test_a_corpus_of_ones_own_is_told_what_these_columns_hold(columns, says):
    with pytest.raises(UserError, match=says):
        people("a", **columns)


def test_the_checksum_is_the_same_with_and_without_them():
    assert people("a", sex="F", age=50.0).checksum() == people("a").checksum()
