"""A small graph of stages, and what stands in for the processes that train them."""

import json
from pathlib import Path

from xrayssl.chains.stage import Stage


def stage(config, parent=None, start=None, tested=False):
    key = f"{config}{'' if parent is None else parent.key}".ljust(64, "0")
    return Stage(key, config, ["--config", config], parent, start, 0, tested, films=10, epochs=2.0)


MAE = stage("mae")
TURNS = stage("rotation", MAE)
FROM_MAE, FROM_TURNS = stage("finetune", MAE, tested=True), stage("finetune", TURNS, tested=True)
ALONE = stage("random", start="timm", tested=True)
ALL = [MAE, TURNS, FROM_MAE, FROM_TURNS, ALONE]


class Launches:
    """Stands in for the processes: leaves what they would, and remembers the commands."""

    def __init__(self, statuses=None, seconds=60):
        self.words, self.statuses, self.seconds = [], dict(statuses or {}), seconds

    def __call__(self, words, lock):
        self.words.append(list(words))
        run = Path(words[-1] if words[0] == "fit" else words[2])
        status = self.statuses.pop(run.name, 0)
        if words[0] == "fit":
            (run / "checkpoints").mkdir(parents=True)
            (run / "checkpoints" / "last.ckpt").touch()
            outcome = "interrupted" if status else "finished"
            (run / "run.json").write_text(json.dumps({"outcome": outcome, "seconds": self.seconds}))
        else:
            (run / "test").mkdir()
            (run / "test" / "metrics.json").write_text("{}")
        return status

    @property
    def trained(self):
        return [Path(words[-1]).name for words in self.words if words[0] == "fit"]
