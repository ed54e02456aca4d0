"""Packages for a machine without a network: collected here as wheels, unpacked there before anything is imported."""

import json
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from posescale import provenance
from posescale.errors import ConfigError, UnavailableError

# What measuring and training import beyond torch, numpy, pandas and lightning.
NEEDED = (
    "pydantic", "pyyaml", "typer", "rich", "psutil", "platformdirs", "scipy", "packaging", "opencv-python-headless",
    "shapely",
)  # fmt: skip
THERE = ("torch", "numpy", "pandas", "lightning")  # and what they need
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
SEAL = "sources.json"


def pack(folder: Path, python: str = "3.12", without: tuple[str, ...] = ()) -> list[Path]:
    """Download wheels of what a campaign needs, in the versions installed here.

    Args:
        folder: for the wheels and a note of the commit; an earlier pack there is replaced.
        python: version of the other machine's Python.
        without: packages that the other machine has.

    Returns:
        the wheels.

    Raises:
        ConfigError: `folder` holds something else, or `without` names a package that is not needed.
        UnavailableError: the registry has no wheel for that Python, with pip's own words.
    """
    if folder.exists() and any(p.suffix != ".whl" and p.name != SEAL for p in folder.iterdir()):
        raise ConfigError(f"{folder}: holds other files than a pack; choose another folder")
    pins = closure(NEEDED, {*THERE, *without})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as place:
        partial = Path(place) / "pack"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                   "--python-version", python, "--implementation", "cp", "--dest", str(partial),
                   *(word for name in PLATFORMS for word in ("--platform", name)), *pins]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UnavailableError(f"pip could not collect the wheels: {done.stderr.strip().splitlines()[-1]}")
        (partial / SEAL).write_text(json.dumps(_sources()), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return sorted(folder.glob("*.whl"))


def closure(names: tuple[str, ...], there: set[str]) -> list[str]:
    """`name==version` of these packages and of all they need, but not of those that are there already.

    Raises:
        UnavailableError: one of them is not installed here.
    """
    skip = {canonicalize_name(name) for name in there}
    found: dict[str, str] = {}
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in skip or name in found:
            continue
        try:
            installed = distribution(name)
        except PackageNotFoundError as error:
            raise UnavailableError(f"{name} is not installed here, so its version is not known") from error
        found[name] = installed.version
        needs = [Requirement(text) for text in installed.requires or []]
        waiting += [canonicalize_name(r.name) for r in needs if r.marker is None or r.marker.evaluate({"extra": ""})]
    return [f"{name}=={found[name]}" for name in sorted(found)]


def _sources() -> dict[str, str | bool | None]:
    """The commit, and a digest by which a copy without git can tell that it is the same sources."""
    commit = provenance.commit()
    return {**commit, "digest": provenance.sources_digest()}
