"""The graph: planned without torch, clean for the linter, honest about wrong configurations, safe when killed."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from posescale import config, lifeline, workflow

ROOT = Path(__file__).resolve().parent.parent
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


def _snakemake(*arguments, cwd=ROOT, **kwargs):
    return subprocess.run(
        [SNAKEMAKE, "--snakefile", ROOT / "Snakefile", "--workflow-profile", "none", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=300, **kwargs,
    )  # fmt: skip


CONFIGS = ROOT / "workflows/config"
GATED = {"cmu", "cmu_study", "paper", "paper_finetuned", "paper_tiny"}


def _environment(folder, **changes):
    """No raw data and no accepted licence, unless `changes` say where."""
    kept = {k: v for k, v in os.environ.items() if k != "POSESCALE_DATA"}
    return {**kept, "POSESCALE_CONFIG": str(folder / "consent"), **changes}


def _dry_run(path, folder, **changes):
    arguments = ["-n", "--quiet", "all", "--cores", "2", "--configfile", path, "--directory", folder]
    return _snakemake(*arguments, env=_environment(folder, **changes))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_configuration_plans_or_lists_what_is_missing(path, tmp_path):
    done = _dry_run(path, tmp_path)
    assert "Traceback" not in done.stderr
    if path.stem not in GATED:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1 and "data are missing for" in done.stderr
    datasets = {study["dataset"]["name"] for study in yaml.safe_load(path.read_text())["studies"].values()}
    for name in datasets:
        assert f"  {name}: " in done.stderr and "POSESCALE_DATA" in done.stderr
    for words in ("licence: ", "get it: ", "files: ", "size: "):
        assert done.stderr.count(f"    {words}") == len(datasets)


def test_the_report_is_told_the_titles_of_its_own_and_the_published_studies():
    options = shlex.split(workflow.Run(config.read(CONFIGS / "default.yaml")).titles())
    told = dict(option.split("=", 1) for option in options[1::2])
    expected = {}
    for name in ("video_study", "video_ablation", "default"):
        studies = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["studies"]
        expected |= {study: content["title"] for study, content in studies.items()}
    assert told == expected and options[::2] == ["--study"] * len(expected)


VIDEO = {
    "name": "x",
    "title": "t",
    "studies": {
        "v": {
            "title": "t",
            "dataset": {"name": "synthetic_video"},
            "models": ["vitpose_tiny", "glsmamba_tiny", "unified"],
            "frames": [5],
            "size": [96, 64],
            "seeds": [0, 1],
            "selections": ["last"],
            "conditions": ["as_is", "own_frame"],
            "per_model": {
                "vitpose_tiny": {"frames": [1]},
                "glsmamba_tiny": {"start_from": "vitpose_tiny"},
                "unified": {"model": "glsmamba_tiny", "overrides": {"paths": 2, "merging": "sum"}},
            },
        }
    },
}


def test_the_same_rules_plan_a_study_on_video(tmp_path):
    """Starts follow the seed, conditions are files of their own, a name of the study's own is in the paths."""
    (tmp_path / "video.yaml").write_text(yaml.dump(VIDEO))
    arguments = ["-n", "-p", "--cores", "2", "--configfile", tmp_path / "video.yaml", "--directory", tmp_path]
    done = _snakemake(*arguments, env=_environment(tmp_path))
    assert done.returncode == 0, done.stderr
    text = " ".join((done.stdout + done.stderr).split())
    for seed in (0, 1):
        start = f"results/x/train/v/vitpose_tiny-T1-seed{seed}/weights-last.pt"
        out = f"results/x/train/v/glsmamba_tiny-T5-seed{seed}"
        train = next(w for w in text.split("posescale train ") if f"--out {out}" in w)
        assert f"--start {start}" in train and 'start="pretrained"' in train and "--height 96 --width 64" in train
    named = next(w for w in text.split("posescale train ") if "--out results/x/train/v/unified-T5-seed0" in w)
    assert named.startswith("glsmamba_tiny ") and "--label unified" in named and "--start" not in named
    assert "--model paths=2" in named.replace("'", "")
    folder = "results/x/measure/v/accuracy"
    assert f"{folder}/unified-T5-seed1-last-own_frame.jsonl" in text and "--condition own_frame" in text
    assert f"{folder}/vitpose_tiny-T1-seed0-last.jsonl" in text and "vitpose_tiny-T1-seed0-last-own_frame" not in text
    assert "interpolate_visible" in text and "unified=glsmamba_tiny:merging=" in text and "17x96x64" in text


def test_what_is_only_measured_needs_no_data(tmp_path):
    done = _dry_run(CONFIGS / "video_scaling.yaml", tmp_path)
    assert done.returncode == 0
    arguments = ["-n", "-p", "--cores", "2", "--configfile", CONFIGS / "video_scaling.yaml", "--directory", tmp_path]
    done = _snakemake(*arguments, env=_environment(tmp_path))
    text = done.stdout + done.stderr
    assert "posescale data prepare" not in text and "posescale train" not in text
    assert "glsformer_j_naive=glsformer_j_tiny:attention=" in text and "--memory-limit 16" in text


def test_costs_are_planned_without_the_data(tmp_path):
    arguments = ["cost", "-n", "--cores", "2", "--configfile", CONFIGS / "paper.yaml", "--directory", tmp_path]
    done = _snakemake(*arguments, env=_environment(tmp_path))
    assert done.returncode == 0 and "mixste" in done.stdout + done.stderr


def test_only_what_is_missing_is_listed(tmp_path):
    """The files of one family are there, as empty ones, and one licence is accepted."""
    from posescale import consent
    from posescale.data.catalog import dataset_card

    raw = tmp_path / "raw" / "h36m"
    raw.mkdir(parents=True)
    (raw / "h36m_sh_conf_cam_source_final.pkl").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESCALE_CONFIG", str(tmp_path / "consent"))
        consent.require("h36m", dataset_card("h36m").terms, accept=True)
    done = _dry_run(CONFIGS / "paper.yaml", tmp_path, POSESCALE_DATA=str(tmp_path / "raw"))
    assert done.returncode == 1 and "missing for 2 of 3 studies" in done.stderr
    assert "study h36m_cpn: h36m (family=cpn" in done.stderr and "data_3d_h36m.npz" in done.stderr
    assert "study h36m_sh:" not in done.stderr and "study mpi_inf_3dhp:" in done.stderr


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
