"""DICOM films in every transfer syntax that is read, encoded from arrays."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import RLELossless

PREFIX = "1.2.840.10008.1.2"
NATIVE = {"implicit": "", "explicit": ".1", "deflated": ".1.99", "big endian": ".2"}


def run_lengths(pixels: np.ndarray) -> bytes:
    """DICOM's RLE, by pydicom's own encoder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_encoder(RLELossless).encode(
            pixels,
            rows=pixels.shape[0],
            columns=pixels.shape[1],
            samples_per_pixel=1 if pixels.ndim == 2 else 3,
            bits_allocated=8 * pixels.itemsize,
            bits_stored=8 * pixels.itemsize,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2" if pixels.ndim == 2 else "RGB",
            number_of_frames=1,
            encoding_plugin="pydicom",
            **({} if pixels.ndim == 2 else {"planar_configuration": 0}),
        )


def _lossless(pixels: np.ndarray, predictor: int) -> bytes:
    bits = max(8 if pixels.itemsize == 1 else 9, int(pixels.max()).bit_length())
    return imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=bits)


def _extended(pixels: np.ndarray) -> bytes:
    return imagecodecs.jpeg8_encode(pixels, level=97, bitspersample=8 if pixels.itemsize == 1 else 12)


def _wavelets(pixels: np.ndarray, level: int) -> bytes:
    return imagecodecs.jpeg2k_encode(pixels, level=level, reversible=level == 0, codecformat="J2K")


ENCODERS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "RLE": (".5", run_lengths),
    "JPEG baseline": (".4.50", lambda pixels: imagecodecs.jpeg8_encode(pixels, level=95)),
    "JPEG extended": (".4.51", _extended),
    "JPEG lossless": (".4.57", lambda pixels: _lossless(pixels, predictor=4)),
    "JPEG lossless SV1": (".4.70", lambda pixels: _lossless(pixels, predictor=1)),
    "JPEG-LS": (".4.80", imagecodecs.jpegls_encode),
    "JPEG-LS near-lossless": (".4.81", lambda pixels: imagecodecs.jpegls_encode(pixels, level=2)),
    "JPEG 2000 lossless": (".4.90", lambda pixels: _wavelets(pixels, level=0)),
    "JPEG 2000": (".4.91", lambda pixels: _wavelets(pixels, level=80)),
    "HTJ2K": (".4.201", imagecodecs.htj2k_encode),
}


def film(pixels: np.ndarray, kind: str = "MONOCHROME2", syntax: str = "explicit", **tags: Any) -> bytes:
    """A DICOM file.

    Args:
        pixels: Stored values, (H, W), (H, W, 3), or frames (N, H, W) of which each is encoded.
        kind: Photometric Interpretation.
        syntax: A key of NATIVE or ENCODERS.
        tags: Elements by keyword, written over the rest.
    """
    frames = pixels if pixels.ndim == 3 and pixels.shape[2] != 3 else pixels[None]
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = PREFIX + (NATIVE[syntax] if syntax in NATIVE else ENCODERS[syntax][0])
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1 if frames.ndim == 3 else 3, kind
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(dataset, name, value)
    if syntax in NATIVE:
        raw = frames.astype(frames.dtype.newbyteorder(">" if syntax == "big endian" else "<")).tobytes()
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
        dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 and syntax != "implicit" else "OW"
    else:
        dataset.PixelData = encapsulate([ENCODERS[syntax][1](frame) for frame in frames])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def dicom(path: Path, pixels: np.ndarray, kind: str = "MONOCHROME2", syntax: str = "explicit", **tags: Any) -> Path:
    """Writes `film` to a path, and gives the path back."""
    path.write_bytes(film(pixels, kind, syntax, **tags))
    return path
