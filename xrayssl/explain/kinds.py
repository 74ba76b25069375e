"""All kinds of class maps behind one function, for statistics: 0 or more, float32, on their own grid."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import Tensor, nn

from xrayssl.explain import cam
from xrayssl.explain.occlusion import occlusion
from xrayssl.explain.rollout import rollout
from xrayssl.heads import AttentivePooling
from xrayssl.methods import Finetune
from xrayssl.spelling import alternatives

GRADIENTS = {
    "grad_cam": cam.grad_cam,
    "grad_cam_plus_plus": cam.grad_cam_plus_plus,
    "hires_cam": cam.hires_cam,
}
KINDS = (*GRADIENTS, "rollout", "occlusion")
"""Kinds of maps: by a gradient, by attention alone (the same for every class), and by hiding cells."""


def explain(
    kind: str, model: Finetune, image_BCHW: Tensor, classes: Sequence[int], layer: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """Maps of films for some classes; the model is afterwards what it was.

    Args:
        kind: One of `KINDS`.
        model: A classifier.
        image_BCHW: Normalised films.
        classes: Numbers of the K classes to explain.
        layer: Whose map it is, or for an occlusion whose grid; None for the grid of the backbone.

    Returns:
        map_BKhw, raw, 0 or more: of an occlusion the positive part; and the logits (B, K).

    Raises:
        ValueError: If there is no such kind or class, or kind, network and layer do not go together.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no kind of map {kind!r}; choose {alternatives(KINDS)}.")
    if not classes or not all(0 <= number < len(model.classes) for number in classes):
        raise ValueError(f"Classes are some of the numbers 0 to {len(model.classes) - 1}, not {list(classes)}.")
    if kind == "rollout":
        if layer is not None:
            raise ValueError("Rollout goes through all layers of attention; leave the layer out.")
        map_Bhw, logit_BN = rollout(model, image_BCHW)
        return map_Bhw[:, None].repeat(1, len(classes), 1, 1), logit_BN[:, list(classes)]
    layer = model.backbone.grid if layer is None else layer
    if kind == "hires_cam" and layer is model.backbone.grid and isinstance(model.head.pool, AttentivePooling):
        raise ValueError("HiResCAM is rounding alone before attentive pooling, which normalises; take grad_cam.")
    if kind == "occlusion":
        map_BKhw, logit_BK = occlusion(model, layer, image_BCHW, classes)
        return map_BKhw.relu(), logit_BK
    return cam.maps(model, layer, image_BCHW, classes, GRADIENTS[kind])


def layer_named(model: nn.Module, name: str) -> nn.Module:
    """A layer by its dotted name, such as backbone.network.layer3.

    Raises:
        ValueError: If there is none; it offers near names.
    """
    layers = {other: part for other, part in model.named_modules(remove_duplicate=False) if other}
    if name in layers:
        return layers[name]
    ends = [other for other in layers if other.endswith(f".{name}")]
    near = (ends + difflib.get_close_matches(name, layers, n=3))[:3]
    hint = f"did you mean {alternatives(near)}?" if near else "the last map of any network is backbone.grid."
    raise ValueError(f"The model has no layer {name!r}; {hint}")
