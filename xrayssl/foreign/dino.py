"""DINO (Caron et al. 2021), iBOT and DINOv2 (Oquab et al. 2023): the teacher, which their authors evaluate."""

from __future__ import annotations

from xrayssl.foreign.file import Claim, File


def teacher(file: File) -> Claim | None:
    """Teacher and student, or the teacher alone."""
    found = next((found for found in file.found if "teacher" in found.words), None)
    if found is None:
        return None
    second = {"mask_token", "register_tokens"} & set(file.below(found.prefix))
    return Claim("DINOv2, teacher" if second else "DINO, teacher", found)


def second(file: File) -> Claim | None:
    """DINOv2's released ViTs: LayerScale, a mask token, perhaps registers."""
    for found in file.found:
        below = file.below(found.prefix)
        if {"mask_token", "register_tokens"} & set(below) and any(name.endswith(".ls1.gamma") for name in below):
            return Claim("DINOv2", found)
    return None
