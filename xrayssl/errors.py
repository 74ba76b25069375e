"""The one exception that means: the user can mend this."""


class UserError(Exception):
    """A mistake the user can mend; the front door prints its sentences and exits with 2.

    Args:
        *messages: One sentence each, saying what is wrong and what to do.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = list(messages)
