"""`xrayssl export`: a classifier for timm, for ONNX, and its model card."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayssl.data_request import Options
from xrayssl.errors import UserError, noting, refuse
from xrayssl.files import appearing, appearing_folder, json_or_nothing, write_json
from xrayssl.request import split_equals
from xrayssl.train import speak

if TYPE_CHECKING:
    from xrayssl.classifier import Classifier
    from xrayssl.export.plain import Plain

log = logging.getLogger(__name__)
WEIGHTS, CONFIG, GRAPH, README, CARD = "model.safetensors", "config.json", "model.onnx", "README.md", "MODEL_CARD.md"
USAGE = "--run RUN [--onnx] [--out DIR]"
TEXT = f"""Writes a fine-tuned classifier for those who have no xrayssl: {WEIGHTS} and {CONFIG}, which timm alone
loads, a {README} with the lines that do it, and {CARD} with its data, recipe, figures and limits. What is written is
compared with the network first, and refused if the logits differ.

  --run RUN                       folder of a finished run of a classifier: its best checkpoint
  --onnx                          also {GRAPH}, for any number of films; needs pip install 'xrayssl[onnx]'
  --out DIR                       a new folder (default: RUN/export)
  --ckpt_path FILE                another checkpoint; `last` is the run's last
"""


def export_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl export`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake at once; a head or network that cannot be written.
    """
    options = Options("export", USAGE, TEXT)
    options.add_argument("--run", type=Path)
    options.add_argument("--onnx", action="store_true")
    options.add_argument("--out", type=Path)
    options.add_argument("--ckpt_path", default="best")
    own = options.parse_args(split_equals(argv))
    speak()
    classifier = _classifier(own)
    out = (own.out or own.run / "export").expanduser()
    with appearing_folder(out, CARD) as folder:
        for line in _write(classifier, folder, own.onnx):
            log.info("%s", line)
    sys.stdout.write(f"{out}\n")
    return 0


def _classifier(own: Namespace) -> Classifier:
    from xrayssl.classifier import load

    problems = [] if own.run else ["export needs a trained run: --run RUN."]
    out = own.out or (own.run and own.run / "export")
    if out and out.expanduser().exists():
        problems.append(f"{out} is there already, and nothing is overwritten; name a new folder with --out.")
    if own.onnx:
        from xrayssl.export import onnx_graph

        with noting(problems):
            onnx_graph.check_installed()
    found = None
    with noting(problems):
        found = load(own.run, own.ckpt_path) if own.run else None
    refuse(problems)
    assert found is not None
    return found


def _write(classifier: Classifier, folder: Path, with_graph: bool) -> list[str]:
    """Fills the folder; returns what is worth telling.

    Raises:
        UserError: If nothing of it can be written.
    """
    from safetensors.torch import save_file

    from xrayssl.export import card, onnx_graph, readme
    from xrayssl.export.plain import plain
    from xrayssl.handoff import SELECTED

    told, found = [f"Mind: {SELECTED}."] * (classifier.method.select_on == "test"), None
    try:
        found = plain(classifier.method)
    except UserError as error:
        if not with_graph:
            raise
        told += [f"Without {WEIGHTS}: {message}" for message in error.messages]
    if found is not None:
        with appearing(folder / WEIGHTS) as partial:
            save_file(found.tensors, partial, metadata={"format": "pt"})
        told.append(f"{WEIGHTS}: timm's network gives the same logits.")
    if with_graph:
        far = onnx_graph.write(classifier.method, folder / GRAPH)
        told.append(f"{GRAPH}: under onnxruntime no probability is further away than {far:.1g}.")
    write_json(folder / CONFIG, config(classifier, found))
    record = json_or_nothing(classifier.run / "run.json")
    title, graph = record.get("config") or classifier.run.name, GRAPH if with_graph else ""
    (folder / README).write_text(readme.readme(classifier, title, found, WEIGHTS, graph, CARD), encoding="utf-8")
    files = [name for name in (WEIGHTS, CONFIG, GRAPH, README) if (folder / name).is_file()]
    (folder / CARD).write_text(card.card(classifier, record, files), encoding="utf-8")
    return told


def config(classifier: Classifier, found: Plain | None) -> dict[str, Any]:
    """The content of config.json: what timm reads of a local folder, and beside it what it does not know."""
    method, backbone = classifier.method, classifier.method.backbone
    options = dict(found.options) if found else {}
    cfg = backbone.network.pretrained_cfg
    statistics = {"mean": backbone.mean.tolist(), "std": backbone.std.tolist()}
    return {
        "architecture": backbone.architecture,
        "num_classes": len(method.classes),
        "num_features": backbone.width,
        "global_pool": options.get("global_pool"),
        "model_args": {name: value for name, value in options.items() if name != "num_classes"},
        "pretrained_cfg": {"input_size": [backbone.in_chans, *backbone.img_size], **statistics,
                           "num_classes": len(method.classes), "classifier": cfg.get("classifier"),
                           "first_conv": cfg.get("first_conv"), "fixed_input_size": cfg.get("fixed_input_size", False),
                           "crop_pct": 1.0, "crop_mode": "center"},
        "label_names": list(method.classes),
        "xrayssl": {"version": 1, "task": method.task, "classes": list(method.classes),
                    "removed": ["head.norm"] if found and found.bare else [], **statistics,
                    "operating": classifier.operating, "unit": "study" if classifier.of_studies else "film",
                    "selected_on": method.select_on},
    }  # fmt: skip
