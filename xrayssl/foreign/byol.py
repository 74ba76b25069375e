"""BYOL (Grill et al. 2020) as many re-implementations write it: an online network beside a moving average of it."""

from __future__ import annotations

import re

from xrayssl.foreign.file import Claim, File, Found

AVERAGE = re.compile(r"(^|_)(target|momentum|key)(_|$)|encoder_k$")


def is_average(found: Found) -> bool:
    """Whether a backbone is the moving average of another one."""
    return any(AVERAGE.search(word) for word in found.words)


def online(file: File) -> Claim | None:
    """The network called online, or the one of which there is an average."""
    named = [found for found in file.found if any(word.startswith("online") for word in found.words)]
    chosen = named or [found for found in file.found if not is_average(found)]
    if len(chosen) != 1 or not (named or len(file.found) > 1):
        return None
    predicts = file.holds(r"\w*predict(or|ion)")
    return Claim("BYOL, online network" if named or predicts else "online network beside its average", chosen[0])
