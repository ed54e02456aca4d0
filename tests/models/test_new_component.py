"""`posescale new-component`: its folder passes the contract suite before anything was changed in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from posescale.commands.new_component import new_component
from posescale.errors import ConfigError

CONTRACT = Path(__file__).with_name("test_contract.py")


def test_new_component_passes_the_contract_suite_at_once(tmp_path: Path) -> None:
    new_component("demo", into=tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CONTRACT), "-k", "demo"]
    environment = {**os.environ, "POSESCALE_COMPONENTS": str(tmp_path)}
    run = subprocess.run(command, cwd=CONTRACT.parents[2], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout  # also where no test was found
    assert "skipped" not in run.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", ["mixste", "Demo", "1st", "../demo"])
def test_taken_and_unusable_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=name):
        new_component(name, into=tmp_path)
    assert not list(tmp_path.iterdir())
