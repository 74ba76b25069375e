"""SwAV (Caron et al. 2020) and DeepCluster v2: a ResNet beside its prototypes."""

from __future__ import annotations

from xrayssl.foreign.file import Claim, File


def prototypes(file: File) -> Claim | None:
    """A backbone with `prototypes` under the same prefix."""
    for found in file.found:
        if any(name.startswith(f"{found.prefix}prototypes.") for name in file.tensors):
            return Claim("SwAV", found)
    return None
