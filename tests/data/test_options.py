from collections.abc import Sequence
from typing import Literal

import pytest

from xrayssl.data.corpora import gather
from xrayssl.data.options import settled
from xrayssl.errors import UserError


def read(root, many: int = 1, share: float = 0.5, flag: bool = False, views: str | Sequence[str] = "all",
         kind: Literal["a", "b"] | None = None, policy: str | dict[str, str] = "ones", free=None):  # fmt: skip
    """A corpus."""


@pytest.mark.parametrize("value", ["x", ["x", "y"], ("x",)])
def test_what_the_signature_allows_stays_as_it_is(value):
    options = {"many": 3, "share": 1, "flag": True, "views": value, "kind": None, "policy": {"a": "b"}, "free": [{}]}
    assert settled("mine", read, options) == options


def test_a_number_stands_for_its_text_where_text_is_wanted():
    assert settled("mine", read, {"views": 5}) == {"views": "5"}
    assert settled("mine", read, {"views": [5, "x"]}) == {"views": ["5", "x"]}


@pytest.mark.parametrize(
    ("name", "value"),
    [("many", "x"), ("many", True), ("many", 0.5), ("many", None), ("share", "x"), ("flag", "x"), ("flag", 1),
     ("views", True), ("views", None), ("views", [["x"]]), ("views", {"a": 1}), ("kind", []), ("policy", {"a": ["b"]})],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_in_a_sentence(name, value):
    with pytest.raises(UserError, match=f"^The corpus 'mine': {name} is .*; it must be "):
        settled("mine", read, {name: value})


def test_all_wrong_values_are_told_at_once():
    with pytest.raises(UserError) as told:
        settled("mine", read, {"many": "x", "flag": "x"})
    assert told.value.messages[1] == "The corpus 'mine': flag is 'x'; it must be true or false."


def test_types_that_cannot_be_looked_up_are_not_checked():
    def strange(root, many: "Nowhere" = 1):  # noqa: F821
        """A corpus."""

    assert settled("mine", strange, {"many": "x"}) == {"many": "x"}


@pytest.mark.parametrize(
    ("corpus", "option", "value"),
    [("chexpert", "views", None), ("chexpert", "classes", [5]), ("covidx", "sources", True),
     ("mimic", "uncertain", {"Edema": ["ones"]}), ("padchest", "labels", [None]), ("padchest", "at_least", "many"),
     ("vindr", "unlabelled", "x"), ("phantom", "films", "many")],
)  # fmt: skip
def test_no_corpus_answers_a_wrong_type_with_a_stack_trace(corpus, option, value, tmp_path):
    with pytest.raises(UserError, match=f"^The corpus '{corpus}': {option} is "):
        gather({corpus: {"root": str(tmp_path), option: value}})
