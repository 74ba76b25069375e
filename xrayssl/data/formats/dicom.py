"""DICOM: one frame of MONOCHROME1 or MONOCHROME2, or a grey film that was stored as colour."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np

from xrayssl.data.formats import MAX_BYTES, RefusedError, check_size, greyscale, transfer
from xrayssl.data.windowing import Radiograph

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_TINT = 8  # of 255: what lossy coding adds to a grey that was stored as colour
_MAX_INFLATED = MAX_BYTES + 2**24
_PIXELS, _UNDEFINED = 0x7FE00010, 0xFFFFFFFF
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def decode(data: bytes, voi: bool = True, first_frame: bool = False) -> Radiograph:
    """Reads a DICOM film: modality LUT, VOI LUT or window, inversion of MONOCHROME1 (PS3.3 C.7.6.3, C.11).

    Padding becomes as dark as the darkest pixel beside it. Colour is read where there is none: a film that a frame
    grabber or a printer stored as RGB with equal channels. A picture with coloured marks, or a palette, is no film.

    Args:
        data: The file's bytes.
        voi: True gives what is to be shown, by the file's own VOI LUT or window, from its darkest value on. False gives
            the whole scale of the detector, 0 .. 2**bits - 1, without them.
        first_frame: Whether of several frames the first is taken.

    Returns:
        The film; its spacing is Pixel Spacing, else Imager Pixel Spacing, else Nominal Scanned Pixel Spacing.

    Raises:
        RefusedError: If it is truncated, damaged, or no film.
    """
    dataset = _parsed(data)
    frames = _check(dataset, first_frame)
    layout = _layout(dataset)
    raw = transfer.decode(transfer.frame_bytes(dataset, layout, frames), layout)
    if layout.samples == 3:
        return Radiograph(_without_colour(raw, dataset.PhotometricInterpretation, layout), 8, _spacing(dataset))
    depth = _depth(dataset, layout.allocated)
    stored = transfer.values(raw, *depth, _is_signed(dataset), _is_overlaid(dataset))
    pixels, bits = (greyscale.shown if voi else greyscale.whole_scale)(stored, dataset)
    return Radiograph(pixels, bits, _spacing(dataset), depth[0])


def _parsed(data: bytes) -> Any:
    import pydicom
    from pydicom.errors import InvalidDicomError

    if data[128:132] != b"DICM":
        raise RefusedError("this is no DICOM file.")
    if transfer.DEFLATED.encode() in data[:1024]:
        return _inflated(data)
    try:
        return _in_order(pydicom.dcmread(io.BytesIO(data)), data)
    except InvalidDicomError:
        raise RefusedError("this is no DICOM file.") from None


def _inflated(data: bytes) -> Any:
    """A deflated file (PS3.5 A.5), of which pydicom would take all that it inflates to."""
    from pydicom.filereader import read_dataset

    start = 144 + int.from_bytes(data[140:144], "little")  # behind the element that holds the length of the header
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data[start:], _MAX_INFLATED)
    if not inflater.eof:
        raise RefusedError(
            f"the film cannot be read (it is truncated, or inflates to more than {_MAX_INFLATED:,} bytes)."
        )
    dataset: Any = read_dataset(io.BytesIO(inflated), is_implicit_VR=False, is_little_endian=True)
    dataset.file_meta = read_dataset(io.BytesIO(data[132:start]), is_implicit_VR=False, is_little_endian=True)
    return _in_order(dataset, inflated)


def _in_order(dataset: Any, data: bytes) -> Any:
    """Refuses what belongs before the pixels and stands behind them: rows that are left over, read as elements."""
    tags = list(map(int, dataset.keys()))  # in the order of the file, which the elements themselves are not
    if _PIXELS not in tags:
        return dataset
    pixels, behind = dataset.get_item(_PIXELS), tags[tags.index(_PIXELS) + 1 :]
    rest = b"" if behind or pixels.length == _UNDEFINED else data[pixels.value_tell + pixels.length :]
    if any(0 < tag < _PIXELS for tag in behind) or rest.strip(b"\0"):  # files are filled up with zeros
        raise RefusedError("the film cannot be read (its pixels do not end where its header says).")
    return dataset


def _check(dataset: Any, first_frame: bool) -> int:
    """Refuses what is no film, and gives the number of frames."""
    needed = ("Rows", "Columns", "BitsAllocated", "PixelData", "PhotometricInterpretation")
    if any(dataset.get(name) is None for name in needed):
        raise RefusedError("this DICOM file holds no picture, or it is truncated.")
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    check_size(int(dataset.Rows), int(dataset.Columns), samples * int(dataset.BitsAllocated) / 8)
    kind, syntax = dataset.PhotometricInterpretation, dataset.file_meta.get("TransferSyntaxUID")
    if kind not in (_GREY if samples == 1 else _COLOUR if samples == 3 else ()):
        raise RefusedError(f"{samples} samples of {kind} are no radiograph; one is MONOCHROME1 or MONOCHROME2.")
    if frames < 1 or (frames > 1 and not first_frame):
        raise RefusedError(f"{frames} frames of {kind}; a radiograph is one frame of MONOCHROME1 or MONOCHROME2.")
    if syntax not in transfer.CODECS:
        raise RefusedError(f"its pixels are coded as {getattr(syntax, 'name', syntax)}, which is not read.")
    return frames


def _layout(dataset: Any) -> transfer.Layout:
    allocated, syntax = int(dataset.BitsAllocated), str(dataset.file_meta.TransferSyntaxUID)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if allocated not in ((8, 16, 32) if samples == 1 else (8,)):
        raise RefusedError(f"{samples} samples of {allocated} bits are not understood.")
    return transfer.Layout(
        syntax,
        int(dataset.Rows),
        int(dataset.Columns),
        samples,
        allocated,
        planar=bool(dataset.get("PlanarConfiguration", 0)),
        swapped=syntax == transfer.BIG_ENDIAN and allocated == 8 and dataset["PixelData"].VR == "OW",
    )


def _depth(dataset: Any, allocated: int) -> tuple[int, int]:
    """Bits stored, and the number of the topmost of them."""
    stored = int(dataset.get("BitsStored") or allocated)
    high = stored - 1 if dataset.get("HighBit") is None else int(dataset.HighBit)
    if not 1 <= stored <= 16 or not stored - 1 <= high < allocated:
        raise RefusedError(f"{stored} bits stored up to bit {high} of {allocated} are not understood.")
    return stored, high


def _is_signed(dataset: Any) -> bool:
    return bool(dataset.get("PixelRepresentation", 0))


def _is_overlaid(dataset: Any) -> bool:
    """Whether an overlay (60xx) lies in the bits that the grey values leave free."""
    return any((group, 0x0102) in dataset and (group, 0x3000) not in dataset for group in range(0x6000, 0x6020, 2))


def _without_colour(pixels: np.ndarray, kind: str, layout: transfer.Layout) -> np.ndarray:
    """The grey of a film that was stored as colour, uint8 (H, W)."""
    if kind == "YBR_FULL" and not transfer.gives_rgb(layout):
        luminance, tint = pixels[..., 0], np.abs(pixels[..., 1:].astype(np.int16) - 128).max()
    else:
        luminance, tint = pixels[..., 1], (pixels.max(axis=2) - pixels.min(axis=2)).max()
    if tint > _TINT:
        raise RefusedError(f"it is a colour picture ({kind}); a radiograph is grey.")
    return np.ascontiguousarray(luminance)


def _spacing(dataset: Any) -> tuple[float, float] | None:
    """Of rows and of columns in mm, if the file says it in two numbers above 0."""
    for name in _SPACINGS:
        value = dataset.get(name)
        if value is not None and not isinstance(value, str) and hasattr(value, "__len__") and len(value) == 2:
            row, column = (float(number) for number in value)
            if 0 < row < np.inf and 0 < column < np.inf:
                return row, column
    return None
