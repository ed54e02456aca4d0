"""`posescale restore`: bring back DVC's results and tell Snakemake that they are up to date, in the one safe order."""

import subprocess
import sys
from pathlib import Path

import typer

from posescale.cards import ROOT
from posescale.errors import PosescaleError


def restore() -> None:
    """Check out the results that dvc.lock records, then let Snakemake accept them without running anything again.

    Refused while anything differs from dvc.lock: marking results as fresh after an edit would hide the edit.
    """
    _run("dvc", "checkout")
    changed = _run("dvc", "status", "-q", check=False)
    if changed.returncode:
        raise PosescaleError(
            "restore: after `dvc checkout` the working tree still differs from dvc.lock (see `dvc status`). Marking "
            "results as up to date now would hide that difference: commit or undo the edit, or run `dvc repro`"
        )
    _run("snakemake", "--touch", "--cores", "1", "--quiet", "all")
    typer.echo("restored: `snakemake -n` has nothing to do")


def _run(tool: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run a tool that stands beside this interpreter (or on PATH) in the repository."""
    beside = Path(sys.executable).with_name(tool)
    done = subprocess.run([beside if beside.exists() else tool, *arguments], cwd=ROOT)
    if check and done.returncode:
        raise PosescaleError(f"restore: `{tool} {' '.join(arguments)}` ended with status {done.returncode}, see above")
    return done
