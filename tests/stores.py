"""A small corpus on the disk, and stores of it."""

import json

import numpy as np
from PIL import Image

from xrayssl.data.corpora import gather
from xrayssl.data.prepare.preparation import Tolerance, plan, prepare
from xrayssl.data.prepare.reduction import Recipe

STRICT = Tolerance()


def corpus(root, films=14, side=40):
    """A folder of films of two classes, of which every third is wider, without a split."""
    rng = np.random.default_rng(0)
    for i in range(films):
        path = root / "AB"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side + 10 * (i % 3 == 0)), np.uint8)).save(path)
    return root


def manifest(root):
    """Of such a folder."""
    return gather({"folder": str(root)})[0]


def store(root, folder, workers=0, tolerance=STRICT, **recipe):
    """Makes the store `folder` of the films in `root`; returns whether there was anything to do."""
    films = manifest(root)
    wanted = plan("folder", {"root": str(root)}, Recipe(**{"size": 32} | recipe), films)
    return prepare(folder, wanted, films, workers, tolerance)


def content(folder):
    """Name to bytes of each file."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def change(folder, **values):
    """Edits store.json."""
    facts = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps(facts | values))
