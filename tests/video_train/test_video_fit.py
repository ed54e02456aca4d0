"""Training video models: by the same loop and with the same guarantees as lifting models."""

import csv
import json
import multiprocessing
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from posescale.cards import component
from posescale.checkpoints import save_weights
from posescale.errors import CheckpointError, ConfigError, DataError
from posescale.models import create_model
from posescale.recipes import Recipe
from posescale.train.fit import Run, fit

RECIPE = Recipe(lr=0.002, lr_decay=1.0, epochs=3, batch=8, steps_per_epoch=5, flip=0.0,
                crops={"sigma": 1.0, "rotation": 0.0, "half_body": 0.0})  # fmt: skip
LONGER = RECIPE.override(epochs=30, steps_per_epoch=2, ema=0.9, flip=0.5)


def result(out):
    """Everything a run leaves that does not depend on the clock."""
    record = json.loads((out / "record.jsonl").read_text())
    for name in ("id", "started", "fingerprint"):
        record.pop(name)
    record["values"] = [v for v in record["values"] if v["unit"] != "s"]
    return [(out / n).read_bytes() for n in ("weights-last.pt", "weights-val-best.pt", "history.csv")], record


def test_record_and_history(trained):
    out, record = trained
    values = {v.name: v for v in record.values}
    assert record.status == "ok" and record.kind == "training" and record.resolution == (48, 48)
    assert (record.dataset, record.protocol, record.frames) == ("dots", "posetrack_gt_boxes", 3)
    assert values["val_pck"].unit == "%" and values["val_pck"].better == "higher"
    assert values["val_pck_best"].value == max(record.samples["val_pck"])
    history = list(csv.DictReader((out / "history.csv").open()))
    assert [float(row["val_pck"]) for row in history] == record.samples["val_pck"]
    meta = torch.load(out / "weights-last.pt", weights_only=True)["posescale"]
    assert meta["parameters"] == {"frames": 3, "height": 48, "width": 48, "joints": 15}


def test_it_learns(data_dir, tmp_path):
    record = fit("dots", data_dir, 3, 0, RECIPE.override(epochs=6, steps_per_epoch=20), tmp_path)
    assert record.samples["loss"][-1] < record.samples["loss"][0] / 2
    assert record.samples["val_pck"][-1] > 60 > record.samples["val_pck"][0]


def test_same_arguments_same_result(trained, data_dir, tmp_path):
    fit("dots", data_dir, 3, 0, "small", tmp_path / "again")
    assert result(tmp_path / "again") == result(trained[0])
    fit("dots", data_dir, 3, 1, "small", tmp_path / "other")
    assert result(tmp_path / "other")[0][0] != result(trained[0])[0][0]


def test_the_test_split_is_never_opened(trained, data_dir, tmp_path):
    folder = shutil.copytree(data_dir.parent, tmp_path / "copy") / "data"
    index = json.loads((folder / "index.json").read_text())
    index["root"] = str(folder.parent / "frames")
    (folder / "index.json").write_text(json.dumps(index))
    for name in ("d", "e"):
        shutil.rmtree(folder.parent / "frames" / name)
    fit("dots", folder, 3, 0, "small", tmp_path / "out")
    assert result(tmp_path / "out") == result(trained[0])


CHANGES = [
    {"crops": {"sigma": 2.0, "rotation": 0.0, "half_body": 0.0}},
    {"crops": {"sigma": 1.0, "rotation": 20.0, "half_body": 0.0}},
    {"crops": {"sigma": 1.0, "rotation": 0.0, "half_body": 0.0, "scale": 0.0}},
    {"crops": {"sigma": 1.0, "rotation": 0.0, "half_body": 1.0}},
    {"flip": 0.5}, {"lr_drops": [1]}, {"warmup": 4}, {"ema": 0.9}, {"gradient_clip": 0.01}, {"accumulate": 2},
]  # fmt: skip


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_field_matters(trained, data_dir, tmp_path, changes):
    record = fit("dots", data_dir, 3, 0, RECIPE.override(**changes), tmp_path)
    assert record.status == "ok" and record.weights_digest != trained[1].weights_digest


def test_learning_rate():
    recipe = RECIPE.override(lr=1e-4, lr_drops=[6, 12], warmup=500)
    assert recipe.rate(0, 0) == pytest.approx(2e-7) and recipe.rate(0, 249) == pytest.approx(5e-5)
    expected = [(0, 1e-4), (5, 1e-4), (6, 1e-5), (11, 1e-5), (12, 1e-6), (19, 1e-6)]
    for epoch, rate in expected:
        assert recipe.rate(epoch, 10_000) == pytest.approx(rate)


def job(components, *arguments):
    os.environ["POSESCALE_COMPONENTS"] = components
    fit(*arguments)


def newest(out):
    return max((int(p.name.split("-")[1]) for p in out.glob("resume/*/epoch-*.pt")), default=0)


def test_killed_and_restarted_equals_uninterrupted(data_dir, toy_folder, tmp_path):
    fit("dots", data_dir, 3, 0, LONGER, tmp_path / "whole")
    out, context = tmp_path / "killed", multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["posescale.train.fit"])
    arguments = (str(toy_folder), "dots", data_dir, 3, 0, LONGER, out)
    for _ in range(3):
        process = context.Process(target=job, args=arguments)
        reached = newest(out)
        process.start()
        deadline = time.monotonic() + 60
        while newest(out) < reached + 2 and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it was killed; train longer"
    process = context.Process(target=job, args=arguments)
    process.start()
    process.join()
    assert result(out) == result(tmp_path / "whole")


def test_a_diverging_run_leaves_a_record(data_dir, tmp_path):
    record = fit("dots", data_dir, 3, 0, RECIPE, tmp_path, overrides={"explode": 7})
    assert record.status == "crashed" and "loss became" in record.reason and not list(tmp_path.glob("*.pt"))


def test_frozen_parts_need_something_to_start_from(data_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"frozen.*--start FILE"):
        fit("dots_frozen", data_dir, 3, 0, "small", tmp_path / "a")
    whole = create_model("dots")
    save_weights(tmp_path / "vitpose.pt", whole, {})
    start = tmp_path / "vitpose.pt"
    pretrained = RECIPE.override(start="pretrained")
    record = fit("dots_frozen", data_dir, 3, 0, pretrained, tmp_path / "b", start=start)
    kept = torch.load(tmp_path / "b" / "weights-last.pt", weights_only=True)["model_pos"]
    assert record.status == "ok" and torch.equal(kept["first.weight"], whole.first.weight)
    other = create_model("dots")
    save_weights(tmp_path / "other.pt", other, {})
    keys = {Run("dots_frozen", data_dir, 3, 0, pretrained, start=f).key for f in (start, tmp_path / "other.pt")}
    assert len(keys) == 2, "a run begun from other weights would be resumed"


@pytest.mark.parametrize("name", ["glsmamba_s", "glsformer_d_b"])
def test_published_sizes_are_refused_without_an_encoder(data_dir, tmp_path, name):
    with pytest.raises(ConfigError, match="starts from pretrained weights: give their file"):
        fit(name, data_dir, 5, 0, "paper", tmp_path)
    with pytest.raises(ConfigError, match="part of it is frozen"):
        fit(name, data_dir, 5, 0, "small", tmp_path)


def test_published_recipe():
    for name in ("glsmamba_b", "glsformer_j_b"):
        recipe = component(name).card.recipes["paper"]
        assert (recipe.optimizer, recipe.epochs, recipe.lr, recipe.lr_drops) == ("adamw", 20, 1e-4, (6, 12))
        assert recipe.crops.rotation == 45 and recipe.crops.scale == 0.35 and recipe.crops.half_body == 0.3


def test_refusals(data_dir, tmp_path):
    with pytest.raises(ConfigError, match="odd"):
        fit("dots", data_dir, 4, 0, "small", tmp_path)
    with pytest.raises(ConfigError, match="stride"):
        fit("dots", data_dir, 3, 0, RECIPE.override(stride=2), tmp_path)
    with pytest.raises(ConfigError, match="joints is given twice"):
        fit("dots", data_dir, 3, 0, "small", tmp_path, overrides={"joints": 17})
    with pytest.raises(DataError, match="not an index of prepared data|not an index"):
        fit("posemamba_tiny", data_dir, 3, 0, "small", tmp_path)
    with pytest.raises(ConfigError, match="crops belong to video"):
        fit("posemamba_tiny", data_dir, 3, 0, RECIPE, tmp_path)
    (tmp_path / "torn.pt").write_bytes(b"abc")
    with pytest.raises(CheckpointError, match="torn.pt"):
        pretrained = RECIPE.override(start="pretrained")
        fit("dots_frozen", data_dir, 3, 0, pretrained, tmp_path / "x", start=tmp_path / "torn.pt")
    assert not list(tmp_path.glob("**/record.jsonl"))
    np.testing.assert_equal(sorted(p.name for p in data_dir.iterdir()), ["detections.npy", "index.json", "people.npy"])


def test_readers_ahead_change_nothing(trained, data_dir, tmp_path):
    """Augmentation depends on epoch and clip, not on the process that reads."""
    varied = RECIPE.override(flip=0.5, crops={"sigma": 1.0, "rotation": 20.0})
    fit("dots", data_dir, 3, 0, varied, tmp_path / "one")
    fit("dots", data_dir, 3, 0, varied, tmp_path / "two", workers=2)
    assert result(tmp_path / "one")[0] == result(tmp_path / "two")[0]
