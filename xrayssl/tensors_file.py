"""Files of tensors without code (safetensors), and the header that this package writes into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from xrayssl.errors import UserError


def recognised(path: Path) -> bool:
    """Whether a file begins as safetensors do: 8 bytes of length, and a JSON object."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads a file.

    Returns:
        Its header, empty if another program wrote the file, and its tensors by name.

    Raises:
        UserError: If the file is truncated, or its header is none that this package writes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("xrayssl", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, json.JSONDecodeError, OSError, RecursionError) as error:
        raise UserError(f"{path}: no readable backbone, it may be truncated ({error}).") from None
    if not isinstance(header, dict) or not all(_is_numbers(header.get(name, [1.0])) for name in ("mean", "std")):
        raise UserError(f"{path}: its header is not one that xrayssl wrote; take another file.")
    if min(header.get("std", [1.0])) <= 0:
        raise UserError(f"{path}: its header tells a standard deviation that is not above 0; take another file.")
    return header, tensors


def _is_numbers(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, int | float) for value in values)
