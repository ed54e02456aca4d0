"""The repository's own rules: environments in step, imports in order, nothing tracked that should not be."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from posescale.commands.config_schema import schema_text

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def _tracked() -> list[Path]:
    done = _run("git", "ls-files", "-z")
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_environment_yml_brings_the_same_set_as_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [d for d in environment["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert f"python {PYPROJECT['project']['requires-python']}" in conda
    assert "-c constraints.txt" in pip
    extras = re.search(r"-e \.\[(.*)\]", " ".join(pip)).group(1).split(",")
    assert set(extras) == set(PYPROJECT["project"]["optional-dependencies"]) - {"cuda"}
    named = {re.split(r"[ <>=]", d)[0] for d in conda}
    assert named <= {"python", "pip", "c-compiler"}, "a Python package belongs in pyproject.toml, not here"


def test_constraints_pin_every_dependency_and_take_any_torch_build():
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.M))
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    project = PYPROJECT["project"]
    groups = [project["dependencies"], *(v for k, v in project["optional-dependencies"].items() if k != "cuda")]
    needed = {re.split(r"[ <>=\[]", d)[0].lower() for group in groups for d in group}
    assert needed <= set(pins), needed - set(pins)
    assert "+" not in pins["torch"]


def test_every_dependency_has_its_reason():
    lines = (ROOT / "pyproject.toml").read_text().split("[project.scripts]")[0].splitlines()
    requirements = [line for line in lines if re.match(r'\s+"[a-z0-9-]+[<>=]', line)]
    assert len(requirements) > 20
    assert all(re.search(r"#\s+\S+", line) for line in requirements), requirements


def test_import_contracts_hold():
    done = _run(_tool("lint-imports"))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "module", ["posescale", "posescale.workflow", "posescale.report", "posescale.stats", "posescale.metrics"]
)
def test_light_modules_do_not_load_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert _run(sys.executable, "-c", code).returncode == 0


def test_config_schema_file_is_generated():
    assert (ROOT / "workflows/config/schema.json").read_text() == schema_text()
    json.loads(schema_text())


def test_no_build_products_or_large_files_are_tracked():
    forbidden = {".pyc", ".so", ".ckpt", ".pt", ".bin", ".pth", ".amc", ".asf"}
    for path in _tracked():
        if path.exists():
            assert path.suffix not in forbidden, path
            assert path.stat().st_size < 2_000_000, path


def test_no_file_of_ours_outgrows_one_sitting():
    sources = [p for p in _tracked() if p.suffix == ".py" and p.exists()]
    long = {str(p.relative_to(ROOT)): n for p in sources if (n := len(p.read_text().splitlines())) > 420}
    assert not long, long


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("snakefmt", "--check", "Snakefile", "workflows")],
)
def test_style(command):
    done = _run(_tool(command[0]), *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr
