"""Small fine-tuned runs, on films in a folder."""

import numpy as np
import pytest
from PIL import Image

from xrayssl.cli import main

CONFIG = """# Tiny
model:
  class_path: Finetune
  init_args: {{optim: {{warmup_epochs: 0, layer_decay: null}}, {options}}}
data:
  class_path: ChestXrayDataModule
  init_args:
    {{img_size: 64, batch_size: 4, num_workers: 0, window: percentile, limits: [1, 99], corpora: {corpora},
      augment: {{circle: true, trim: true}}}}
trainer: {{max_epochs: 1, limit_train_batches: 2, accelerator: cpu, precision: 32-true, enable_progress_bar: false}}
wandb: {{mode: disabled}}
"""
PHANTOMS = "{phantom: {films: 24, size: 48, seed: 2}}"


def films(root, count=4):
    """Films of 12 bit of two classes in the three splits, of several shapes, with an empty border."""
    rng = np.random.default_rng(0)
    for number, (split, name) in enumerate((split, name) for split in ("train", "val", "test") for name in "AB"):
        for film in range(count):
            grey = rng.integers(0, 2000, (90 + 10 * (film % 2), 70), dtype=np.uint16)
            grey[20:60, 20:50] += 2000 if name == "A" else 1000
            grey[:6] = 0
            path = root / split / name / f"{number}-{film}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey).save(path)
    return root


def fitted(folder, corpora=PHANTOMS, options="backbone: test_resnet", *words):
    """Trains a classifier in folder / "run"."""
    (folder / "tiny.yaml").write_text(CONFIG.format(options=options, corpora=corpora))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XRAYSSL_RUN", "")
        patch.setenv("PL_GLOBAL_SEED", "0")
        assert main(["fit", "--config", str(folder / "tiny.yaml"), "--out", str(folder / "run"), *words]) == 0
    return folder / "run"


def measured(run):
    """Measures a run on its test films, and gives its folder back."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XRAYSSL_RUN", "")
        assert main(["test", "--run", str(run)]) == 0
    return run
