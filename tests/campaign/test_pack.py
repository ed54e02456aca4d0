import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import distribution

import pytest

from posescale import provenance, records
from posescale.campaign import pack as packing
from posescale.cards import ROOT
from posescale.errors import ConfigError, UnavailableError


def test_the_closure_holds_what_is_needed_and_not_what_is_there():
    names = {pin.partition("==")[0] for pin in packing.closure(packing.NEEDED, {*packing.THERE})}
    assert {"pydantic", "pydantic-core", "typing-extensions", "typer", "rich", "pyyaml", "psutil", "scipy"} <= names
    assert not names & {"torch", "numpy", "pandas", "lightning"}
    assert "scipy" not in {pin.partition("==")[0] for pin in packing.closure(packing.NEEDED, {"numpy", "SciPy"})}


def test_an_unknown_package_is_named():
    with pytest.raises(UnavailableError, match="no-such-package"):
        packing.closure(("no-such-package",), set())


def test_foreign_folders_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds other files"):
        packing.pack(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def carried(folder, content):
    folder.mkdir()
    with zipfile.ZipFile(folder / "carried-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried_package.py", content)
    return folder


def test_carried_packages_reach_the_process_and_its_children(tmp_path):
    wheels = carried(tmp_path / "wheels", "HERE = 'carried'")
    script = (
        "from posescale import wheels; wheels.unpack(); import carried_package, subprocess, sys; "
        "print(carried_package.HERE, carried_package.__file__); "
        "sys.exit(subprocess.call([sys.executable, '-c', 'import carried_package']))"
    )
    environment = {**os.environ, "POSESCALE_WHEELS": str(wheels), "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("carried ") and str(tmp_path) in done.stdout
    assert not list(tmp_path.glob("posescale-wheels-*"))  # cleaned up


def test_an_empty_folder_of_wheels_is_an_error_that_says_what_to_do(tmp_path):
    environment = {**os.environ, "POSESCALE_WHEELS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "posescale"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "campaign --pack" in done.stderr and "Traceback" not in done.stderr


def test_a_missing_package_is_named():
    """Without site-packages nothing of ours can start; the message says why."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "posescale"], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 1 and "is not installed" in done.stderr and "docs/gpu.md" in done.stderr


@pytest.fixture
def no_git(monkeypatch):
    yield from git_says(monkeypatch, "")


@pytest.fixture
def old_git(monkeypatch):
    yield from git_says(monkeypatch, "an earlier commit")


def git_says(monkeypatch, words):
    monkeypatch.setattr(provenance, "_git", lambda *arguments: words)
    provenance.commit.cache_clear()
    yield
    provenance.commit.cache_clear()


def test_a_copy_without_git_knows_its_commit_from_the_pack(tmp_path, monkeypatch, no_git):
    digest = provenance.sources_digest()
    (tmp_path / packing.SEAL).write_text(json.dumps({"commit": "abc", "dirty": False, "digest": digest}))
    monkeypatch.setenv("POSESCALE_WHEELS", str(tmp_path))
    assert provenance.commit() == {"commit": "abc", "dirty": False}


def test_a_pack_is_believed_before_a_git_that_stands_elsewhere(tmp_path, monkeypatch, old_git):
    assert provenance.commit() == {"commit": "an earlier commit", "dirty": True}
    provenance.commit.cache_clear()
    seal = {"commit": "abc", "dirty": False, "digest": provenance.sources_digest()}
    (tmp_path / packing.SEAL).write_text(json.dumps(seal))
    monkeypatch.setenv("POSESCALE_WHEELS", str(tmp_path))
    assert provenance.commit() == {"commit": "abc", "dirty": False}


@pytest.mark.parametrize("seal", ['{"commit": "abc", "dirty": false, "digest": "another"}', "{", "{}"])
def test_a_pack_of_other_sources_says_nothing_of_the_commit(tmp_path, monkeypatch, no_git, seal):
    (tmp_path / packing.SEAL).write_text(seal)
    monkeypatch.setenv("POSESCALE_WHEELS", str(tmp_path))
    assert provenance.commit() == {"commit": "unknown", "dirty": None}


_OTHER_MACHINE = """
import sys
here = [p for p in sys.path if "site-packages" not in p and "dist-packages" not in p]
sys.path[:] = [*here, {site!r}]
"""

_PLAN = """
- {part: right, name: eager, run: model_is_right, model: posemamba_tiny, frames: 3, modes: [eager]}
- part: video
  name: training
  run: train
  model: vitpose_tiny
  frames: 1
  seed: 0
  overrides: {height: 64, width: 48}
  data: {name: synthetic_video, settings: {train: 1, val: 1, test: 1, frames: 3}}
  changes: {epochs: 1, steps_per_epoch: 1, batch: 1}
"""


def test_checking_and_training_need_nothing_but_what_travels(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    for pin in packing.closure((*packing.THERE, *packing.NEEDED), set()):
        package = distribution(pin.partition("==")[0])
        for top in {file.parts[0] for file in package.files} - {"..", "__pycache__"}:
            (site / top).symlink_to(package.locate_file(top))
    assert (site / "torch").exists() and not (site / "snakemake").exists()
    (tmp_path / "sitecustomize.py").write_text(_OTHER_MACHINE.format(site=str(site)))
    (tmp_path / "plan.yaml").write_text(_PLAN)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "posescale", "campaign", "--device", "cpu", "--minutes", "4", "--out", "out",
               "--plan", "plan.yaml"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    found = list(records.read(tmp_path / "out" / "records.jsonl"))
    assert not [r.reason for r in found if r.status != "ok"]
    assert [r.kind for r in found] == ["check", "training", "accuracy", "accuracy"]
