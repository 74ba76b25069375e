"""The page that says how to load a classifier without xrayssl, and what to do with a film first."""

from __future__ import annotations

from xrayssl.classifier import Classifier
from xrayssl.export.card import preprocessing
from xrayssl.export.plain import Plain

LOADING = """# {title}

A classifier of radiographs. What it saw and how good it is: [{card}]({card}). Classes, in the order of the outputs:
{classes}.

{timm}{onnx}
## Before the network

{steps}

{meaning}
"""
TIMM = """## With timm

```python
{torch}import timm
from safetensors.torch import load_file

model = timm.create_model({call})
{bare}model.load_state_dict(load_file("{weights}"))
model.eval()
```

`model(image)` gives logits for float32 films of shape {shape}, normalised as below.

"""
ONNX = """## With onnxruntime

```python
import onnxruntime

session = onnxruntime.InferenceSession("{graph}")
logit, probability = session.run(["logit", "probability"], {{"image": image}})
```

`image`: float32 of shape {shape}, grey values of 0-1; the graph normalises them itself, so leave out the last step.

"""
BARE = "model.head.norm = torch.nn.Identity()  # this classifier pools the grid as it is\n"
MEANING = {
    "multiclass": "Probabilities are the softmax of the logits.",
    "multilabel": "Probabilities are the sigmoid of each logit.",
}


def readme(classifier: Classifier, title: str, found: Plain | None, weights: str, graph: str, card: str) -> str:
    """Writes the page in Markdown.

    Args:
        classifier: That is handed out.
        title: Of the page.
        found: The network of timm, if there is one.
        weights: Name of its file.
        graph: Name of the ONNX file; "" without.
        card: Name of the model card's file.
    """
    backbone = classifier.method.backbone
    shape = f"(films, {backbone.in_chans}, {backbone.img_size[0]}, {backbone.img_size[1]})"
    steps = preprocessing(classifier.viewing, backbone.mean.tolist(), backbone.std.tolist())
    return LOADING.format(
        title=title,
        card=card,
        classes=", ".join(classifier.classes),
        timm=_with_timm(backbone.architecture, found, weights, shape) if found else "",
        onnx=ONNX.format(graph=graph, shape=shape) if graph else "",
        steps="\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1)),
        meaning=MEANING[classifier.method.task],
    )


def _with_timm(architecture: str, found: Plain, weights: str, shape: str) -> str:
    options = "".join(f", {name}={value!r}" for name, value in found.options.items())
    imports, line = ("import torch\n", BARE) if found.bare else ("", "")
    return TIMM.format(call=f'"{architecture}"{options}', torch=imports, bare=line, weights=weights, shape=shape)
