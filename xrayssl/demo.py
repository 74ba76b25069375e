"""The main job in a few minutes, on phantoms: chest MAE, shoulder fine-tuning, test, and one page to look at."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path

from xrayssl import rundir, train
from xrayssl.study.report import write_report


def demo_command(argv: list[str]) -> int:
    """The verb `xrayssl demo [--out DIR] [--quick]`; ends by saying where to look."""
    parser = argparse.ArgumentParser("xrayssl demo", description="Pretrain, fine-tune, test and report on phantoms.")
    parser.add_argument("--out", type=Path, help="folder of the demo (default: runs/demo/<time>)")
    parser.add_argument(
        "--quick", action="store_true", help="a few small films and steps: shows the way, learns nothing"
    )
    wanted = parser.parse_args(argv)
    started = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = rundir.claim(wanted.out) if wanted.out else rundir.fresh(Path("runs") / "demo" / started)
    page = run(folder, quick=wanted.quick)
    sys.stdout.write(f"\nLook here: {page.resolve()}\n")
    return 0


def run(folder: Path, quick: bool = False) -> Path:
    """Runs the stages into a folder.

    Args:
        folder: Gets a run directory per stage, and report.html.
        quick: Few small films and one epoch per stage.

    Returns:
        The page.
    """
    chest, shoulder = folder / "chest_mae", folder / "shoulder_finetune"
    train.fit(["--config", "demo_mae_chest", "--out", str(chest), *_less(quick, "chest")])
    start = ["--model.init_from", str(chest)]
    train.fit(["--config", "demo_finetune_shoulder", "--out", str(shoulder), *start, *_less(quick, "shoulder")])
    train.test(["--run", str(shoulder)])
    return write_report([chest, shoulder], folder / "report.html", "Chest pretraining, shoulder fine-tuning: the demo")


def _less(quick: bool, body: str) -> list[str]:
    if not quick:
        return []
    films = f'{{"phantom": {{"body": "{body}", "films": 48, "size": 64}}}}'
    return ["--data.corpora", films, "--data.img_size", "32", "--data.batch_size", "8", "--trainer.max_epochs", "1"]
