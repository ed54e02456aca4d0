"""Where a number comes from: machine, software and commit, written into every record by the job that measured."""

import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from posescale.cards import ROOT, folder_digest

_PACKAGES = ("torch", "triton", "numpy", "lightning", "mamba-ssm")


def fingerprint() -> dict[str, Any]:
    """What a reader needs to judge or repeat a number: CPU, GPU, system, package versions, commit.

    Torch's own settings (threads, TF32, back ends) are included when torch is already imported.
    """
    return {**_machine(), **commit(), **_torch_settings()}


@cache
def _machine() -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


@cache
def cpu_name() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


@cache
def commit() -> dict[str, Any]:
    """The sources' commit and whether they differ from it.

    The pack of POSESCALE_WHEELS is believed first, if the sources are those it was made from: a copy may have no git,
    or one that stands elsewhere.
    """
    if sealed := _sealed():
        return sealed
    known = _git("rev-parse", "HEAD")
    return {"commit": known or "unknown", "dirty": bool(_git("status", "--porcelain")) if known else None}


def sources_digest() -> str:
    """Twelve hex digits over all code that a measurement can run."""
    parts = [folder_digest(ROOT / folder) for folder in ("posescale", "models", "baselines")]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def _sealed() -> dict[str, Any] | None:
    try:
        seal = json.loads((Path(os.environ["POSESCALE_WHEELS"]) / "sources.json").read_text(encoding="utf-8"))
        return {k: seal[k] for k in ("commit", "dirty")} if seal["digest"] == sources_digest() else None
    except (KeyError, OSError, ValueError):
        return None


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _torch_settings() -> dict[str, Any]:
    import sys

    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    settings: dict[str, Any] = {
        "torch_threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        settings |= {
            "gpu": gpu.name,
            "gpu_memory_gib": round(gpu.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return settings


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
