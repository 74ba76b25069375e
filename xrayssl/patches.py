"""Images as sequences of patches, and back."""

from __future__ import annotations

from torch import Tensor


def patchify(image_BCHW: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cuts images into patches in raster order.

    Args:
        image_BCHW: Height and width divisible by the patch.
        patch: Height and width of a patch in pixels.

    Returns:
        patches_BLP with P = C * height * width in the axis order of a convolution's weight.
    """
    batch, channels, height, width = image_BCHW.shape
    rows, columns = height // patch[0], width // patch[1]
    blocks = image_BCHW.reshape(batch, channels, rows, patch[0], columns, patch[1])
    return blocks.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)


def unpatchify(patches_BLP: Tensor, patch: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Puts patches back together: the inverse of `patchify`.

    Args:
        patches_BLP: In raster order.
        patch: Height and width of a patch in pixels.
        grid: Rows and columns of patches, L = rows * columns.

    Returns:
        image_BCHW.
    """
    batch, (rows, columns) = patches_BLP.shape[0], grid
    blocks = patches_BLP.reshape(batch, rows, columns, -1, *patch).permute(0, 3, 1, 4, 2, 5)
    return blocks.reshape(batch, -1, rows * patch[0], columns * patch[1])


def gather(sequence_BLD: Tensor, index_BV: Tensor) -> Tensor:
    """Takes the entries of each sequence that its index names; a batch of 1 serves every index.

    Returns:
        sequence_BVD.
    """
    batch, width = index_BV.shape[0], sequence_BLD.shape[-1]
    return sequence_BLD.expand(batch, -1, -1).gather(1, index_BV[..., None].expand(-1, -1, width))
