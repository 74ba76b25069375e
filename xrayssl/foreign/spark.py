"""SparK (Tian et al. 2023, arXiv:2301.03580): the encoder within its wrapper; the released files have plain names."""

from __future__ import annotations

from xrayssl.foreign.file import Claim, File


def sparse(file: File) -> Claim | None:
    """A pretraining file: encoder, densify layers and decoder."""
    found = file.ending("sparse_encoder.sp_cnn.", "sparse_encoder.sp_cnn.features.")
    return Claim("SparK, pretraining", found) if found else None
