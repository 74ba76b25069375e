"""Small studies for tests: configurations of two films' bodies on one tiny network."""

from argparse import Namespace

import yaml

HEAD = """# Tiny
model:
  class_path: {method}
  init_args: {{backbone: test_vit, optim: {{warmup_epochs: 0}}{options}}}
data:
  class_path: {body}XrayDataModule
  init_args:
    {{img_size: 32, batch_size: 8, num_workers: 0,
      corpora: {{phantom: {{body: {lower}, films: 24, size: 48, seed: 2}}}}}}
trainer: {{max_epochs: 1, enable_progress_bar: false, accelerator: cpu, num_sanity_val_steps: 0, precision: 32-true}}
wandb: {{mode: disabled}}
"""
MASKED = ", masking: {ratio: 0.5}, decoder_width: 32, decoder_depth: 1, decoder_heads: 2"


def configs(folder):
    """Writes mae.yaml (chest), turn.yaml (shoulder) and tune.yaml (shoulder, with labels)."""
    kinds = {"mae": ("MAEPretrain", "Chest", MASKED), "turn": ("RotationProxy", "Shoulder", ""),
             "tune": ("Finetune", "Shoulder", "")}  # fmt: skip
    for name, (method, body, options) in kinds.items():
        text = HEAD.format(method=method, body=body, lower=body.lower(), options=options)
        (folder / f"{name}.yaml").write_text(text)


def written(folder, recipes, **more):
    """Writes a study, study.yaml, of recipes given as lists of configurations; returns its path."""
    configs(folder)
    chains = {name: stages if isinstance(stages, dict | str) else chain(*stages) for name, stages in recipes.items()}
    (folder / "study.yaml").write_text(yaml.safe_dump({"recipes": chains, **more}, sort_keys=False))
    return str(folder / "study.yaml")


def chain(*stages, start=None):
    """A chain of stages, each the name of a configuration or a pair of it and what is set."""
    pairs = [(stage, {}) if isinstance(stage, str) else stage for stage in stages]
    return {"start": start, "stages": [{"config": f"{name}.yaml", "set": settings} for name, settings in pairs]}


def own(config, **more):
    """The verb's own options as they are when nothing else is typed."""
    options = dict.fromkeys(("recipes", "reference", "seeds", "fractions", "pretraining_seed"))
    return Namespace(**{**options, "config": config, **more})
