"""The one exception that means: the user can mend this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class UserError(Exception):
    """A mistake the user can mend; the front door prints its sentences and exits with 2.

    Args:
        *messages: One sentence each, saying what is wrong and what to do.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = list(messages)


def sentences(error: Exception) -> list[str]:
    """What a refusal says, every sentence with its full stop."""
    if isinstance(error, UserError):
        return error.messages
    words = " ".join(str(error).split())
    return [words if words.endswith((".", "!", "?")) else f"{words}."]


@contextmanager
def noting(found: list[str]) -> Iterator[None]:
    """Adds to a list what is refused inside, so that the next mistake can be looked for."""
    try:
        yield
    except (UserError, ValueError) as error:
        found.extend(sentences(error))


def below(least: float, **values: float) -> list[str]:
    """A sentence about each of a method's values that is below the least one that makes sense."""
    wrong = {name: value for name, value in values.items() if not value >= least}
    return [f"model.{name} must be {least} or more, not {value}." for name, value in wrong.items()]


def not_above_zero(**values: float) -> list[str]:
    """A sentence about each of a method's values that should be above 0."""
    return [f"model.{name} must be above 0, not {value}." for name, value in values.items() if not value > 0]


def refuse(found: Sequence[str]) -> None:
    """Raises what was found, if anything was.

    Raises:
        UserError: With every sentence, once.
    """
    if found:
        raise UserError(*dict.fromkeys(found))
