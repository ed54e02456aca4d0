"""Several processes that train together: the same weights as one, or a refusal that says why not."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from swing import RECIPE
from test_fit import result

from posescale.errors import ConfigError
from posescale.recipes import Recipe
from posescale.records import read
from posescale.train import team
from posescale.train.fit import fit
from posescale.train.team import HelperLost

# One pass of 47 clips: the last batches are smaller than the others, and shared unevenly.
PASSES = RECIPE.override(epochs=2, steps_per_epoch=None, batch=6, stride=2)
PLAIN = {"norm": False, "drop": 0.0}  # no batch norm, no dropout: what one process and two compute alike


def weights(out):
    return torch.load(out / "weights-last.pt", weights_only=True)["model_pos"]


def furthest(a, b):
    return max((x.double() - y.double()).abs().max().item() for x, y in zip(a.values(), b.values(), strict=True))


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"accumulate": 3, "flip": "doubling"}, {"precision": "64-true", "ema": 0.9, "gradient_clip": 0.5},
        {"objective": "half_squared_loss", "precision": "64-true"},
    ],
    ids=["plain", "accumulated", "float64", "squared"],
)  # fmt: skip
def test_two_processes_train_the_weights_of_one(data_dir, tmp_path, changes):
    recipe = PASSES.override(**changes)
    one = fit("toy", data_dir, 9, 0, recipe, tmp_path / "one", overrides=PLAIN)
    two = fit("toy", data_dir, 9, 0, recipe, tmp_path / "two", overrides=PLAIN, devices=2)
    assert (one.status, two.status) == ("ok", "ok")
    gap = furthest(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert gap < (1e-12 if recipe.precision == "64-true" else 1e-6)
    assert two.options["devices"] == 2
    for name in ("loss", "val_mpjpe"):
        assert two.samples[name] == pytest.approx(one.samples[name], rel=1e-5)
    count = {v.name: v.value for v in two.values}
    assert (count["steps"], count["clips"]) == tuple(
        {v.name: v.value for v in one.values}[n] for n in ("steps", "clips")
    )


def test_accumulated_batches_are_one_larger_batch(data_dir, tmp_path):
    recipe = PASSES.override(precision="64-true")
    for name, changes in {"whole": {"batch": 6}, "parts": {"batch": 2, "accumulate": 3}}.items():
        fit("toy", data_dir, 9, 0, recipe.override(**changes), tmp_path / name, overrides=PLAIN)
    assert furthest(weights(tmp_path / "whole"), weights(tmp_path / "parts")) < 1e-12


def test_two_processes_killed_and_started_again(data_dir, toy_folder, tmp_path):
    recipe = PASSES.override(epochs=25, accumulate=2)
    code = (
        "import sys; from posescale.train.fit import fit; from posescale.recipes import Recipe\n"
        "fit('toy', sys.argv[1], 9, 0, Recipe.model_validate_json(sys.argv[2]), sys.argv[3], devices=2, "
        "overrides={'norm': False})"
    )
    command = [sys.executable, "-c", code, str(data_dir), recipe.model_dump_json(), str(tmp_path / "killed")]
    leader = subprocess.Popen(command, env={**os.environ, "POSESCALE_COMPONENTS": str(toy_folder)})
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("killed/resume/*/epoch-000003*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(leader.pid, signal.SIGKILL)
    leader.wait()
    assert not (tmp_path / "killed/record.jsonl").exists(), "it ended before it was killed; train longer"
    fit("toy", data_dir, 9, 0, recipe, tmp_path / "killed", overrides={"norm": False}, devices=2)
    fit("toy", data_dir, 9, 0, recipe, tmp_path / "whole", overrides={"norm": False}, devices=2)
    assert result(tmp_path / "killed") == result(tmp_path / "whole")


def test_batch_norms_need_a_word(data_dir, tmp_path):
    with pytest.raises(ConfigError, match="batch_norm=per_process"):
        fit("toy", data_dir, 9, 0, PASSES, tmp_path, devices=2)
    with pytest.raises(ConfigError, match="needs GPUs"):
        fit("toy", data_dir, 9, 0, PASSES.override(batch_norm="synchronised"), tmp_path, devices=2)
    recipe = PASSES.override(batch_norm="per_process", epochs=1)
    assert fit("toy", data_dir, 9, 0, recipe, tmp_path, devices=2).status == "ok"


def test_divergence_ends_all_processes_with_one_record(data_dir, tmp_path):
    record = fit("toy", data_dir, 9, 0, PASSES, tmp_path, overrides=PLAIN | {"explode": 3}, devices=2)
    assert record.status == "crashed" and "epoch 1, batch 4" in record.reason
    assert [r.status for r in read(tmp_path / "record.jsonl")] == ["crashed"]


def test_a_lost_process_is_named_with_its_last_words(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(team, "MODULE", "posescale.no_such_module")
    with pytest.raises(HelperLost, match="process 2 .* status 1: .*No module named 'posescale.no_such_module'|no_such"):
        fit("toy", data_dir, 9, 0, PASSES, tmp_path, overrides=PLAIN, devices=2)
    assert not (tmp_path / "record.jsonl").exists()


def test_what_cannot_be_shared_is_refused(data_dir, tmp_path):
    with pytest.raises(ConfigError, match="batch of 2 clips"):
        fit("toy", data_dir, 9, 0, Recipe(batch=2), tmp_path, devices=3)
    with pytest.raises(ConfigError, match="devices must be 1"):
        fit("toy", data_dir, 9, 0, PASSES, tmp_path, devices=0)
