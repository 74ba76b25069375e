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


def refuse(found: Sequence[str]) -> None:
    """Raises what was found, if anything was.

    Raises:
        UserError: With every sentence, once.
    """
    if found:
        raise UserError(*dict.fromkeys(found))
