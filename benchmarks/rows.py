"""What a corpus of half a million films costs before and between the steps: seconds, memory, and the order of an epoch.

The table and the store are generated around a few small films. Each is opened in a process of its own, as a training
run would: manifest, checks, split, loader, workers, first batch. Memory is what a process does not share (USS, and PSS
with its part of what is shared), after workers have read on for a while: pages that were shared when a worker started
are copied when it touches them. The same is measured with a thousand rows, for comparison.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from xrayssl.data.store import file_sha256

FILMS, CLASSES, WORKERS, BATCH = 500, 14, 2, 64


def generate(folder: Path, rows: int) -> dict[str, str]:
    """A table of as many films, and a store of them; returns where they are, by the name of the corpus."""
    rng = np.random.default_rng(0)
    (folder / "films").mkdir(parents=True)
    for number in range(FILMS):
        Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(folder / f"films/{number:08}_000.png")
    for number in range(-(-rows // FILMS)):  # the same films again under other folders: as many different paths
        (folder / f"images_{number:04}").symlink_to("films")
    row = np.arange(rows)
    table = pd.DataFrame({"path": [f"images_{i // FILMS:04}/{i % FILMS:08}_000.png" for i in row]})
    table["patient"], table["study"], table["view"] = (row // 4).astype(str), (row // 2).astype(str), "PA"
    table["split"] = np.where(row // 4 % 10 == 0, "test", "")
    for k in range(CLASSES):
        table[f"finding {k}"] = (rng.random(rows) < 0.05).astype(np.float32)
    table.to_parquet(folder / "table.parquet")
    return {"table": str(folder / "table.parquet"), "store": store(folder, table)}


def store(folder: Path, table: pd.DataFrame) -> str:
    """A store of the first films, whose index is then written anew: all rows, the same pixels again and again."""
    few = folder / "few.parquet"
    table.iloc[:FILMS].assign(split="").to_parquet(few)
    source = json.dumps({"table": {"root": str(few), "labels": list(table.columns[5:])}})
    command = [sys.executable, "-m", "xrayssl", "prepare", "--data.corpora", source, "--out", str(folder / "stores")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    index = pd.read_parquet(folder / "stores/table/index.parquet").iloc[np.arange(len(table)) % FILMS]
    index = index.reset_index(drop=True).assign(**{name: table[name] for name in table.columns})
    index.to_parquet(folder / "stores/table/index.parquet")
    known = json.loads((folder / "stores/table/store.json").read_text())
    known["checksums"]["index.parquet"] = file_sha256(folder / "stores/table/index.parquet")
    (folder / "stores/table/store.json").write_text(json.dumps(known))
    return str(folder / "stores/table")


def memory(process: int | str) -> dict[str, float]:
    """MB of a process: for itself alone, with its part of what it shares, and all that belongs to no file."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    size = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines}
    own = size["Private_Clean:"] + size["Private_Dirty:"]
    return {"uss": own, "pss": size["Pss:"], "anonymous": size["Anonymous:"]}


def measure(source: str, batches: int) -> dict[str, float]:
    """Opens a corpus and reads some batches."""
    from xrayssl.data import XrayDataModule

    labels = [f"finding {k}" for k in range(CLASSES)]
    root = source if Path(source).is_dir() else {"root": source, "labels": labels}
    before, start, busy = memory("self")["anonymous"], time.perf_counter(), time.process_time()
    data = XrayDataModule({"table": root}, img_size=64, batch_size=BATCH, num_workers=WORKERS)
    opened, worked = time.perf_counter(), time.process_time()
    loader = data.train_dataloader()
    batch = iter(loader)
    next(batch)
    first, own = time.perf_counter(), time.process_time()
    for _ in islice(batch, batches):
        pass
    workers = pd.DataFrame([memory(child.pid) for child in multiprocessing.active_children()]).max()
    order = []
    for epoch in range(1, 6):
        begin = time.process_time()
        loader.sampler.set_epoch(epoch)
        next(iter(loader.sampler))
        order.append(time.process_time() - begin)
    return {
        "rows": len(data.manifest), "open_seconds": opened - start, "open_cpu_seconds": worked - busy,
        "first_batch_seconds": first - start, "first_batch_cpu_seconds": own - busy,
        "order_milliseconds": 1000 * float(np.median(order)), "parent_mb_more": memory("self")["anonymous"] - before,
        "worker_uss_mb": float(workers["uss"]), "worker_pss_mb": float(workers["pss"]),
    }  # fmt: skip


def apart(source: str, batches: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--source", source, "--batches", str(batches)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout.splitlines()[-1]
    )


def main() -> None:
    """Generates, measures and prints a table, a JSON object last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50,000 rows, fewer batches")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, default=200, help="after which memory is measured")
    wanted = parser.parse_args()
    if wanted.source:
        sys.stdout.write(json.dumps(measure(wanted.source, wanted.batches)) + "\n")
        return
    rows, batches = (50_000, 20) if wanted.quick else (wanted.rows, wanted.batches)
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for count in (1000, rows):
            for kind, source in generate(Path(folder) / str(count), count).items():
                found[f"{kind} of {count:,}"] = apart(source, batches)
    sys.stdout.write(pd.DataFrame(found).round(2).to_string() + "\n")
    figures = {kind: found[f"{kind} of {rows:,}"] for kind in ("table", "store")}
    few = {kind: found[f"{kind} of 1,000"] for kind in ("table", "store")}
    more = {kind: figures[kind]["worker_uss_mb"] - few[kind]["worker_uss_mb"] for kind in figures}
    summary = {f"{kind}_{name}": round(value, 3) for kind, values in figures.items() for name, value in values.items()}
    sys.stdout.write(json.dumps(summary | {f"{kind}_worker_mb_more": round(mb, 1) for kind, mb in more.items()}) + "\n")


if __name__ == "__main__":
    main()
