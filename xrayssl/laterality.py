"""Which labels say a side."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SIDE = re.compile(r"(?<![a-z])(left|right|l|r|laterality|situs|dextro\w*)(?![a-z])")


def sided(classes: Sequence[str]) -> list[str]:
    """Classes that say left or right, or which way round the patient is: a flipped film would belie them."""
    return [name for name in classes if _SIDE.search(re.sub(r"[\W_]+|(?<=[a-z])(?=[A-Z])", " ", name).lower())]
