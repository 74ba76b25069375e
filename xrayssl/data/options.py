"""Options of corpora, as command lines and YAML give them: of the types that their reader asks for, or refused."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from xrayssl.errors import UserError
from xrayssl.spelling import english


def settled(corpus: str, read: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the types that a reader wants; a number stands for its text where text is wanted.

    Args:
        corpus: Its name, for messages.
        read: Function of the corpus; what it leaves without a type takes anything.
        options: As they were given.

    Raises:
        UserError: If a value is of another type; all of them at once.
    """
    hints = _hints(read)
    wanted = {name: _as(value, hints.get(name, Any)) for name, value in options.items()}
    problems = [
        f"The corpus {corpus!r}: {name} is {options[name]!r}; it must be {english(hints[name])}."
        for name, value in wanted.items()
        if not _fits(value, hints.get(name, Any))
    ]
    if problems:
        raise UserError(*problems)
    return wanted


def _hints(read: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(read)
    except (NameError, TypeError, AttributeError):  # of a corpus of one's own, whose types are there for checkers only
        return {}


def _as(value: Any, hint: Any) -> Any:
    return value if _fits(value, hint) or not _fits(_text(value), hint) else _text(value)


def _text(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_text(item) for item in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _fits(value: Any, hint: Any) -> bool:
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if origin is Literal:  # which of them is for the reader to say
        return any(type(value) is type(one) for one in inside)
    if origin in (Sequence, list, tuple):
        return isinstance(value, list | tuple) and all(_fits(item, inside[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(_fits(item, inside[1]) for item in value.values())
    if isinstance(value, bool):
        return hint in (bool, Any)
    known: dict[Any, Any] = {str: str, int: int, float: (int, float), bool: bool, types.NoneType: types.NoneType}
    return isinstance(value, known.get(hint, object))
