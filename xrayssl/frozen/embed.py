"""`xrayssl embed`: frozen features as a table, and a picture of them."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrayssl.errors import UserError, noting
from xrayssl.frozen.request import FROZEN_OPTIONS, FrozenRequest, frozen_options, understand
from xrayssl.memory import keep_freed_memory
from xrayssl.train import speak

if TYPE_CHECKING:
    from argparse import Namespace

    import numpy as np

    from xrayssl.frozen.extraction import Features
    from xrayssl.frozen.projection import Projection
    from xrayssl.frozen.scatter import Colouring

log = logging.getLogger(__name__)
USAGE = "--backbone FILE --data.corpora.NAME PATH --out FILE.parquet [options]"
TEXT = f"""Writes one row per film: what it is, its labels, and its features by a frozen backbone; and beside the table
a picture of the films in the plane of the two largest principal components.

{FROZEN_OPTIONS}

what is written:
  --out FILE.parquet              the table; the pictures get its name and -pca.png, -umap.png
  --split test                    films of one split alone (default: all)
  --by label corpus split         what the films are coloured by, a panel each; also view, or the name of a class
                                  (default: those of these three that differ)
  --umap                          also a picture by UMAP: pip install 'xrayssl[umap]'

read it with:
  table = pandas.read_parquet("FILE.parquet"); features = numpy.stack(table["feature"])
"""


def embed_command(argv: Sequence[str]) -> int:
    """The verb `xrayssl embed`.

    Args:
        argv: The words after it.

    Raises:
        UserError: Every mistake at once; a film that cannot be read.
        KeyboardInterrupt: With a sentence saying what is kept.
    """
    keep_freed_memory()
    speak()
    options = frozen_options("embed", USAGE, TEXT)
    options.add_argument("--out", type=Path)
    options.add_argument("--split", choices=("train", "val", "test"))
    options.add_argument("--by", nargs="+")
    options.add_argument("--umap", action="store_true")
    request = understand(options, argv, _wrong)
    rows, colours = _wanted(request)
    own, source = request.own, request.sources[0]
    out = own.out.expanduser()
    request.report_to(out.parent)
    if source.said:
        log.info("%s", source.said)
    features = request.extraction(source, rows)
    planes = _planes(features, own.umap)
    pictures = _written(request, features, planes, colours(features.rows), out)
    count, width = features.feature_ND.shape
    sys.stdout.write(f"{out}: {count:,} films, {width} features each\n" + "".join(f"{path}\n" for path in pictures))
    return 0


def _wrong(own: Namespace) -> list[str]:
    """What is wrong with the verb's own options."""
    from xrayssl.frozen.projection import check_umap

    out = own.out
    wrong = {
        "embed needs a file for its table: --out FILE.parquet.": out is None,
        f"--out {out}: the table is a parquet file; call it so.": out is not None and out.suffix != ".parquet",
        f"--out {out} is there already; name another.": out is not None and out.expanduser().exists(),
        "embed takes one --backbone; call it once for each.": len(own.backbone) > 1,
    }
    problems = [sentence for sentence, holds in wrong.items() if holds]
    if own.umap:
        with noting(problems):
            check_umap()
    return problems


def _wanted(request: FrozenRequest) -> tuple[np.ndarray, Any]:
    """Rows of the films, and what gives the colours of those that could be read.

    Raises:
        UserError: If there are none, or they cannot be so coloured.
    """
    import numpy as np

    from xrayssl.frozen.embeddings import colourings

    manifest, split = request.data.manifest, request.own.split
    rows = manifest.rows(split) if split else np.arange(len(manifest))
    if not len(rows):
        raise UserError(f"These corpora have no film in the split {split!r}.")
    colourings(manifest, rows[:1], request.own.by)  # refuses before anything is computed
    return rows, lambda read: colourings(manifest, read, request.own.by)


def _planes(features: Features, also_umap: bool) -> list[Projection]:
    from xrayssl.frozen.projection import pca, umap

    if not features.feature_ND.isfinite().all():
        raise UserError("The backbone gives features that are not finite, as after a training that diverged.")
    return [pca(features.feature_ND), *([umap(features.feature_ND)] if also_umap else [])]


def _written(
    request: FrozenRequest, features: Features, planes: Sequence[Projection], colours: Sequence[Colouring], out: Path
) -> list[Path]:
    """Writes table and pictures; gives the paths of the pictures."""
    from xrayssl.frozen.embeddings import write
    from xrayssl.frozen.scatter import draw

    source, data = request.sources[0], request.data
    about = {"backbone": source.facts, "pool": request.own.pool, "img_size": data.img_size}
    write(out, data.manifest, features.rows, features.feature_ND, planes, about)
    title = f"{source.name} ({source.backbone.architecture}), {len(features.rows):,} films"
    return [
        draw(out.with_name(f"{out.stem}-{plane.name.lower()}.png"), plane.point_N2.numpy(), plane.axes, colours,
             f"{plane.name} of {title}")
        for plane in planes
    ]  # fmt: skip
