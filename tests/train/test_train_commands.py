"""The verbs `train` and `evaluate`: options, tables, records, exit status."""

import json

import pytest
import typer
from swing import RECIPE
from typer.testing import CliRunner

from posescale.commands.evaluate import evaluate
from posescale.commands.train import changed, train
from posescale.errors import ConfigError
from posescale.records import read


@pytest.fixture
def run():
    app = typer.Typer()
    app.command("train")(train)
    app.command("evaluate")(evaluate)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_train_then_evaluate(run, data_dir, tmp_path):
    out = tmp_path / "run"
    options = ["--frames", 9, "--seed", 3, "--set", "epochs=2", "--set", "lr=5e-3", "--study", "swing", "--json"]
    done = run("train", "toy", "--data", data_dir, "--out", out, *options)
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout)[0]
    assert (row["model"], row["epochs"], row["steps"], row["seed"]) == ("toy", 2, 10, 3)
    (record,) = read(out / "record.jsonl")
    assert record.study == "swing" and record.options["recipe"]["lr"] == 5e-3

    score = ["evaluate", "toy", "--data", data_dir, "--frames", 9, "--weights", out / "weights-last.pt"]
    done = run(*score, "--record", tmp_path / "score.jsonl", "--study", "swing", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["action"] for row in rows] == ["walk", "wave", "mean over actions"]
    assert [row["frames_scored"] for row in rows] == [73, 5, 78]
    (record,) = read(tmp_path / "score.jsonl")
    assert rows[-1]["mpjpe"] == record.values[0].value and record.study == "swing" and record.selection == "last"
    assert "mean over actions" in run(*score).stdout


def test_divergence_exits_1_with_the_reason(run, data_dir, tmp_path):
    bad = ["--set", "losses.mpjpe=1e38", "--set", "losses.velocity=1e38", "--set", "lr=1e20"]
    done = run("train", "toy", "--data", data_dir, "--frames", 9, "--out", tmp_path, *bad)
    assert done.exit_code == 1 and "crashed: the loss became" in str(done.exception or done.output) + done.output
    assert [r.status for r in read(tmp_path / "record.jsonl")] == ["crashed"]
    assert not list(tmp_path.glob("*.pt"))


def test_settings_change_the_recipe():
    recipe = changed(RECIPE, ["losses.velocity=0", "batch=2", "lr=1e-3", "steps_per_epoch=null", "optimizer=adam"])
    assert (recipe.losses.velocity, recipe.losses.mpjpe) == (0.0, 1.0)
    assert (recipe.batch, recipe.lr, recipe.steps_per_epoch, recipe.optimizer) == (2, 1e-3, None, "adam")
    for wrong, message in [("speed=1", "speed"), ("lr", "key=value"), ("lr=-1", "lr"), ("losses.limb=1", "limb")]:
        with pytest.raises(ConfigError, match=message):
            changed(RECIPE, [wrong])


def test_refusals_are_readable(run, data_dir, tmp_path):
    done = run("evaluate", "toy", "--data", data_dir, "--weights", "a", "--checkpoint", "b")
    assert isinstance(done.exception, ConfigError) and "not both" in str(done.exception)
    done = run("train", "mean_pose", "--data", data_dir, "--frames", 9, "--out", tmp_path)
    assert isinstance(done.exception, ConfigError) and "control" in str(done.exception)
