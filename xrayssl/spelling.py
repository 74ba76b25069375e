"""Types and lists of names in plain words, for messages."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    dict: "a mapping of names to values",
    list: "a list",
    tuple: "a list",
}


def english(hint: Any) -> str:
    """Says in words what values a type allows.

    Args:
        hint: A type as it stands in a signature.
    """
    if hint in WORDS:
        return WORDS[hint]
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(english(part) for part in inside))
    if origin is tuple and inside and inside[-1] is not Ellipsis:
        return f"a list of {len(inside)} values, each {english(inside[0])}"
    if origin in (list, tuple, Sequence) and inside:
        return f"a list, each {english(inside[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return WORDS[dict]
    return f"a {getattr(hint, '__name__', str(hint))}"


def alternatives(names: Sequence[str], word: str = "or") -> str:
    """Writes names as `a, b or c`."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {word} {names[-1]}"
