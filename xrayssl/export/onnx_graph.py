"""A classifier as an ONNX graph that takes grey values of 0-1 and gives logits and probabilities, for any batch."""

from __future__ import annotations

import importlib
import io
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xrayssl.errors import UserError
from xrayssl.files import appearing

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Of probabilities, and of logits as a share of the largest or, below 1, of 1."""
OPSET = 18
OUTPUTS = ("logit", "probability")


class Graph(nn.Module):
    """From grey values to what the classifier says.

    Args:
        method: A `Finetune`, in evaluation.
    """

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities (B, K) of films with grey values of 0-1."""
        logit_BK = self.method(self.method.backbone.normalize(image_BCHW))
        return logit_BK, self.method.probabilities(logit_BK)


def check_installed() -> None:
    """Sees whether the packages are there.

    Raises:
        UserError: If one is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--onnx needs {', '.join(missing)}: pip install 'xrayssl[onnx]'.")


def write(method: Any, path: Path) -> float:
    """Writes the graph, and runs it beside the network.

    Args:
        method: A `Finetune`, in evaluation, on the CPU.
        path: Of the file.

    Returns:
        The largest difference of a probability under onnxruntime.

    Raises:
        UserError: If torch cannot export the network, or the graph says something else than it.
    """
    graph, image_BCHW = Graph(method).eval(), _films(method, 2)
    try:
        program = _exported(graph, image_BCHW)
    except Exception as error:  # the exporter fails in its own many ways
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{method.backbone.architecture} cannot be written for ONNX ({reason}).") from error
    with appearing(path) as partial:
        program.save(str(partial), external_data=False)
        return max(_difference(graph, partial, _films(method, count)) for count in (1, 2, 5))


def _films(method: Any, count: int) -> Tensor:
    backbone = method.backbone
    return torch.rand(count, backbone.in_chans, *backbone.img_size, generator=torch.Generator().manual_seed(count))


def _exported(graph: Graph, image_BCHW: Tensor) -> Any:
    """The program, without the exporter's talk."""
    talker, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    talker.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                graph, (image_BCHW,), dynamo=True, opset_version=OPSET, input_names=["image"],
                output_names=list(OUTPUTS), dynamic_shapes=({0: torch.export.Dim("films")},), verbose=False,
            )  # fmt: skip
    finally:
        talker.setLevel(level)


def _difference(graph: Graph, path: Path, image_BCHW: Tensor) -> float:
    """How far a probability is from the network's at most.

    Raises:
        UserError: If it is too far.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    try:
        found = session.run(list(OUTPUTS), {"image": image_BCHW.numpy()})
    except Exception as error:  # onnxruntime's own kinds
        reason = str(error).splitlines()[0]
        raise UserError(
            f"The ONNX graph does not run on {len(image_BCHW)} films ({reason}). Nothing was written."
        ) from error
    with torch.no_grad():
        wanted = [values.numpy() for values in graph(image_BCHW)]
    far = [float(np.abs(ours - theirs).max()) for ours, theirs in zip(wanted, found, strict=True)]
    if not (far[0] <= TOLERANCE * max(1.0, float(np.abs(wanted[0]).max())) and far[1] <= TOLERANCE):
        raise UserError(f"The ONNX graph differs from the network: its logits by {far[0]:.2g}, its probabilities by "
                        f"{far[1]:.2g}. Nothing was written.")  # fmt: skip
    return far[1]
