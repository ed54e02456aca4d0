"""`posescale doctor`: what this machine can do, and why not the rest."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posescale.commands.output import AsJson, show

Row = dict[str, Any]


def doctor(as_json: AsJson = False) -> None:
    """Show what this machine can do: hardware, back ends of each operator, tools, data; with the reason where not."""
    rows = [*_machine(), *_operators(), *_tools(), *_places()]
    show(rows, as_json, title="posescale doctor")


def _row(area: str, item: str, state: str, detail: str = "") -> Row:
    return {"area": area, "item": item, "state": state, "detail": detail}


def _machine() -> Iterator[Row]:
    import torch

    from posescale.provenance import fingerprint

    print_ = fingerprint()
    yield _row("machine", "cpu", "ok", f"{print_['cpu']}, {print_['cores']} cores, {print_['memory_gib']} GiB")
    yield _row("machine", "cpu features", "ok", torch.backends.cpu.get_cpu_capability())
    gpu = print_.get("gpu")
    why = "torch sees no CUDA device" if torch.version.cuda else "this torch is a CPU build"
    yield _row("machine", "gpu", "ok" if gpu else "none", gpu or why)
    yield _row("machine", "torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    commit = print_["commit"][:12] + (" with uncommitted changes" if print_["dirty"] else "")
    yield _row("machine", "commit", "ok" if print_["commit"] != "unknown" else "none", commit)


def _operators() -> Iterator[Row]:
    from posescale.ops import backends

    for operator, states in backends().items():
        for backend, state in states.items():
            available = state == "available"
            yield _row(f"operator {operator}", backend, "ok" if available else "not here", "" if available else state)


def _tools() -> Iterator[Row]:
    purposes = {"cc": "compiles the native kernels", "snakemake": "runs the pipeline", "dvc": "versions results"}
    for tool, purpose in {**purposes, "git": "names the commit in records"}.items():
        found = shutil.which(tool) or _beside_python(tool)
        yield _row("tool", tool, "ok" if found else "missing", purpose)


def _beside_python(tool: str) -> str | None:
    import sys

    path = Path(sys.executable).with_name(tool)
    return str(path) if path.exists() else None


def _places() -> Iterator[Row]:
    root = os.environ.get("POSESCALE_DATA")
    state = "ok" if root and Path(root).is_dir() else "missing" if root else "not set"
    yield _row(
        "place", "POSESCALE_DATA", state, root or "root of raw datasets; `posescale datasets` tells what is missing"
    )
    target = Path("results")
    writable = os.access(target if target.exists() else Path(), os.W_OK)
    free = shutil.disk_usage(Path()).free / 2**30
    yield _row("place", "results/", "ok" if writable else "not writable", f"{free:.0f} GiB free")
