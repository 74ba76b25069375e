"""A run's folder: where it is, who made it, and run.json, the record beside its results."""

import os
import platform
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

import xrayssl
from xrayssl.errors import UserError

VARIABLE = "XRAYSSL_RUN"
PACKAGES = ("torch", "lightning", "timm", "torchmetrics", "albumentations", "numpy", "pandas")


def rank() -> int:
    """Says which process of a distributed run this is, before anything distributed has started."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def choose(config: str, out: str | None = None, inside: Path | None = None, verb: str = "fit") -> Path:
    """Chooses, creates and shares the folder of this run; every process of the run gets the same one.

    Args:
        config: Name of the configuration, the folder's parent under `runs/`.
        out: The folder the user asked for with `--out`.
        inside: The finished run that is being measured (`--run`); the folder goes into it.
        verb: Names the folder where `inside` is given.

    Raises:
        UserError: `out` exists and is not empty, no folder can be made, or the processes cannot agree on one.
    """
    if rank() > 0:
        return follow(out)
    own = inside / verb if inside else Path("runs") / config / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    wanted = Path(out).expanduser() if out is not None else own
    try:
        path = (claim if out is not None else fresh)(wanted).resolve()
    except OSError as error:
        raise UserError(f"{wanted}: no folder can be made there ({error.strerror}); name another with --out.") from None
    os.environ[VARIABLE] = str(path)
    if torchrun := rendezvous():
        torchrun.set(VARIABLE, str(path))
    return path


def claim(path: Path) -> Path:
    """Takes the folder the user named, unless something is in it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"--out {path} is not empty, and a run never overwrites another; name a new folder.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def fresh(path: Path) -> Path:
    """Creates a folder that did not exist, adding -2, -3, ... to the name until it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    candidate, count = path, 1
    while True:
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            count += 1
            candidate = path.with_name(f"{path.name}-{count}")


def follow(out: str | None) -> Path:
    """Learns the folder that the first process chose."""
    if out is not None:
        return Path(out).expanduser().resolve()
    if torchrun := rendezvous():
        return Path(torchrun.get(VARIABLE).decode())
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    raise UserError("several processes cannot agree on a folder for this run; name it with --out DIR.")


def abandon() -> None:
    """Removes the folder of a run that was refused before it did anything, so that its name is free again."""
    if rank() > 0 or VARIABLE not in os.environ:
        return
    run = Path(os.environ[VARIABLE])
    written = {path.name for path in run.iterdir()} if run.is_dir() else {""}
    if written <= {"run.json", "config.yaml", "wandb"}:
        if "wandb" in sys.modules:
            sys.modules["wandb"].finish()
        shutil.rmtree(run)


def rendezvous() -> Any:
    """Connects to the key-value store that torchrun's agent keeps for its processes, or None without torchrun."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    from torch.distributed import PrefixStore, TCPStore

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=300))
    return PrefixStore(f"xrayssl/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def surroundings() -> dict[str, Any]:
    """Records what a result may depend on and the configuration does not say: revision, versions, machine."""
    return {
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git": revision(),
        "packages": {"xrayssl": xrayssl.__version__, **{name: installed(name) for name in PACKAGES}},
        "machine": machine(),
    }


def installed(package: str) -> str | None:
    """Returns a package's version, or None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def revision() -> str | None:
    """Returns the git revision of the checkout this package runs from, marked `-dirty` if changed; None elsewhere."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        call = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        answer = subprocess.run(call, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def machine() -> dict[str, Any]:
    """Describes the machine without naming it."""
    import torch

    cuda = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in cuda],
    }


def processor() -> str:
    """Names the processor, from the kernel where it says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
