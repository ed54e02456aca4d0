"""The graph: planned without torch, clean for the linter, honest about wrong configurations, safe when killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from posescale import lifeline, workflow

ROOT = Path(__file__).resolve().parent.parent
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


def _snakemake(*arguments, cwd=ROOT, **kwargs):
    return subprocess.run(
        [SNAKEMAKE, "--snakefile", ROOT / "Snakefile", "--workflow-profile", "none", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=300, **kwargs,
    )  # fmt: skip


@pytest.mark.parametrize("path", sorted((ROOT / "workflows/config").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_configuration_plans(path, tmp_path):
    done = _snakemake("-n", "--quiet", "all", "--cores", "2", "--configfile", path, "--directory", tmp_path)
    assert done.returncode == 0, done.stderr


def test_lint_is_clean():
    done = _snakemake("--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_wrong_key_ends_in_one_paragraph(tmp_path):
    values = yaml.safe_load((ROOT / "workflows/config/default.yaml").read_text()) | {"sudies": {}}
    (tmp_path / "wrong.yaml").write_text(yaml.dump(values))
    done = _snakemake("-n", "--cores", "1", "--configfile", tmp_path / "wrong.yaml")
    assert done.returncode != 0
    assert "sudies: unknown key; did you mean 'studies'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_timings_take_every_core_and_the_lane():
    text = (ROOT / "workflows/rules/measure.smk").read_text().split("rule time_models:")[1].split("\nrule ")[0]
    assert "threads: workflow.cores" in text
    assert "measure_lane=1" in text


def test_lock_is_refused_while_held_and_free_after_the_holder_was_killed(tmp_path):
    code = "import sys, time; from posescale import workflow; from pathlib import Path; " \
           "workflow.claim(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"  # fmt: skip
    command = [sys.executable, "-c", code, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert refused.returncode != 0
        assert f"process {holder.pid}" in refused.stderr
    finally:
        holder.kill()
        holder.wait()
    workflow.claim(tmp_path)


def test_jobs_end_with_the_pipeline_that_was_killed(tmp_path):
    parent = subprocess.Popen(["sleep", "60"])
    address = lifeline.address().rsplit(":", 1)[0] + f":{parent.pid}"
    code = "from posescale import lifeline; import time; lifeline.follow(0.05); print('up', flush=True); time.sleep(60)"
    job = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, lifeline.VARIABLE: address}
    )
    assert job.stdout.readline() == b"up\n"
    assert job.poll() is None
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert job.poll() == 1
