"""Training: what it writes, that it depends on its arguments alone, and that it refuses and fails readably."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from swing import CLIPS, RECIPE, write_data

from posescale.cards import component
from posescale.checkpoints import load_checkpoint
from posescale.errors import ConfigError, DataError, UnavailableError
from posescale.models import create_model
from posescale.records import read
from posescale.train.fit import fit
from posescale.train.results import weights_digest
from posescale.train.resume import exclusive


def result(out):
    """Everything a run leaves that does not depend on the clock."""
    record = json.loads((out / "record.jsonl").read_text())
    for name in ("id", "started", "fingerprint"):
        record.pop(name)
    record["values"] = [v for v in record["values"] if v["unit"] != "s"]
    files = [(out / name).read_bytes() for name in ("weights-last.pt", "weights-val-best.pt", "history.csv")]
    return files, record


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory, toy_folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESCALE_COMPONENTS", str(toy_folder))
        out = tmp_path_factory.mktemp("trained")
        return out, fit("toy", data_dir, 9, 0, "small", out)


def test_writes_weights_history_and_record(trained):
    out, record = trained
    assert sorted(p.name for p in out.iterdir()) == [
        ".lock", "history.csv", "record.jsonl", "weights-last.pt", "weights-val-best.pt",
    ]  # fmt: skip
    assert [r.id for r in read(out)] == [record.id] and record.kind == "training" and record.status == "ok"
    values = {v.name: v.value for v in record.values}
    assert (values["epochs"], values["steps"], values["clips"]) == (3, 15, 120) and values["seconds"] > 0
    history = list(csv.DictReader((out / "history.csv").open()))
    assert [float(row["loss"]) for row in history] == record.samples["loss"]
    assert [float(row["lr"]) for row in history] == pytest.approx([0.01, 0.0099, 0.009801])
    assert values["val_mpjpe"] == record.samples["val_mpjpe"][-1]
    assert values["val_mpjpe_best"] == min(record.samples["val_mpjpe"])
    assert record.options["recipe"] == RECIPE.model_dump() and record.samples["loss"][2] < record.samples["loss"][0]


def test_weights_load_and_say_where_they_come_from(trained):
    out, record = trained
    for selection in ("last", "val-best"):
        path = out / f"weights-{selection}.pt"
        meta = torch.load(path, weights_only=True)["posescale"]
        assert (meta["variant"], meta["frames"], meta["seed"], meta["selection"]) == ("toy", 9, 0, selection)
        assert meta["parameters"]["frames"] == 9 and meta["component_digest"] == component("toy").digest
        model = create_model("toy", **meta["parameters"])
        load_checkpoint(model, path)
        assert weights_digest(model.state_dict()) == record.options["weights"][selection]
    assert record.weights_digest == record.options["weights"]["last"]


def test_same_arguments_same_result_other_seed_other_result(trained, data_dir, tmp_path):
    torch.manual_seed(1234)
    state = torch.get_rng_state()
    fit("toy", data_dir, 9, 0, "small", tmp_path / "again")
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state was changed"
    assert result(tmp_path / "again") == result(trained[0])
    assert not torch.are_deterministic_algorithms_enabled()
    fit("toy", data_dir, 9, 1, "small", tmp_path / "other")
    assert result(tmp_path / "other")[0][0] != result(trained[0])[0][0]


def test_the_test_split_is_never_opened(trained, data_dir, tmp_path):
    folder = shutil.copytree(data_dir, tmp_path / "data")
    index = json.loads((folder / "index.json").read_text())
    for name in ("poses", "exact", "detections"):
        array = np.load(folder / f"{name}.npy", mmap_mode="r+")
        for sequence in index["sequences"]:
            if sequence["split"] == "test":
                array[sequence["start"] : sequence["start"] + sequence["length"]] = np.nan
        array.flush()
    fit("toy", folder, 9, 0, "small", tmp_path / "out")
    assert result(tmp_path / "out") == result(trained[0])


def test_diverging_run_leaves_a_record_and_no_weights(data_dir, tmp_path):
    fit("toy", data_dir, 9, 0, RECIPE, tmp_path)
    record = fit("toy", data_dir, 9, 0, RECIPE, tmp_path, overrides={"explode": 7})
    assert record.status == "crashed" and "epoch 2, batch 3" in record.reason and "loss became" in record.reason
    assert len(record.samples["loss"]) == 1 and [r.status for r in read(tmp_path / "record.jsonl")] == ["crashed"]
    assert not list(tmp_path.glob("*.pt"))


def test_divergence_in_the_last_step_is_seen(data_dir, tmp_path):
    one_step = RECIPE.override(epochs=1, steps_per_epoch=1)
    record = fit("toy", data_dir, 9, 0, one_step, tmp_path, overrides={"explode": 1})
    assert record.status == "crashed" and "validation error" in record.reason


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9}, {"optimizer": "adam_amsgrad"}, {"accumulate": 3}, {"gradient_clip": 0.1}, {"flip": 0.0},
        {"precision": "64-true"}, {"precision": "bf16-mixed"}, {"stride": 1}, {"steps_per_epoch": None},
        {"windows": "chunks"}, {"flip": "doubling"}, {"objective": "half_squared_loss"}, {"norm_momentum": (0.5, 0.1)},
        {"losses": {"mpjpe": 1, "n_mpjpe": 0.5, "weighted_difference": 0.5}},
    ],
    ids=lambda changes: "-".join(map(str, next(iter(changes.items())))),
)  # fmt: skip
def test_every_field_of_a_recipe_matters(trained, data_dir, tmp_path, changes):
    record = fit("toy", data_dir, 9, 0, RECIPE.override(**changes), tmp_path)
    assert record.status == "ok" and record.weights_digest != trained[1].weights_digest
    values = {v.name: v.value for v in record.values}
    if changes.get("accumulate"):
        assert values["steps"] == 15 and values["clips"] == 3 * 120


def test_average_is_what_is_kept(data_dir, tmp_path):
    """The kept weights are min(decay, (1 + n) / (10 + n)) of the average so far and the rest of the newest ones."""
    recipe = RECIPE.override(epochs=1, flip=0)

    def weights(name, **changes):
        fit("toy", data_dir, 9, 0, recipe.override(**changes), tmp_path / name)
        return torch.load(tmp_path / name / "weights-last.pt")["model_pos"]["first.weight"]

    steps = [weights(f"after-{n}", steps_per_epoch=n) for n in (1, 2, 3)]
    average = steps[0]  # the first step starts it
    for n, newest in enumerate(steps[1:], start=1):
        kept = min(0.9999, (1 + n) / (10 + n))
        average = kept * average + (1 - kept) * newest
    torch.testing.assert_close(weights("average", steps_per_epoch=3, ema=0.9999), average)
    capped = weights("capped", steps_per_epoch=3, ema=0.1)
    torch.testing.assert_close(capped, 0.1 * (0.1 * steps[0] + 0.9 * steps[1]) + 0.9 * steps[2])


def test_seq2frame_models_train(data_dir, tmp_path):
    record = fit("toy_frame", data_dir, 9, 0, "small", tmp_path)
    assert record.status == "ok" and record.samples["loss"][-1] < record.samples["loss"][0]


def test_without_validation_data_the_last_epoch_is_kept(trained, data_dir, tmp_path):
    folder = write_data(tmp_path / "data", [clip for clip in CLIPS if clip[1] != "val"])
    record = fit("toy", folder, 9, 0, "small", tmp_path / "out")
    assert record.status == "ok" and set(record.options["weights"]) == {"last"}
    assert record.samples["loss"] == trained[1].samples["loss"] and "val_mpjpe" not in record.samples
    assert not {v.name for v in record.values} & {"val_mpjpe", "val_mpjpe_best", "best_epoch"}
    last = [torch.load(out / "weights-last.pt")["model_pos"] for out in (tmp_path / "out", trained[0])]
    assert weights_digest(last[0]) == weights_digest(last[1])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".lock", "history.csv", "record.jsonl", "weights-last.pt",
    ]  # fmt: skip


def test_training_goes_on_from_pretrained_weights(trained, data_dir, tmp_path):
    weights = trained[0] / "weights-last.pt"
    recipe = RECIPE.override(start="pretrained", epochs=1, lr=1e-12, weight_decay=0)
    record = fit("toy", data_dir, 9, 7, recipe, tmp_path, start=weights)
    assert record.options["start"] == "weights-last.pt"
    before, after = (torch.load(path)["model_pos"] for path in (weights, tmp_path / "weights-last.pt"))
    torch.testing.assert_close(after["first.weight"], before["first.weight"])


def test_reading_ahead_changes_nothing(trained, data_dir, tmp_path):
    fit("toy", data_dir, 9, 0, "small", tmp_path, workers=2)
    assert result(tmp_path) == result(trained[0])


def test_refusals(data_dir, tmp_path):
    with pytest.raises(ConfigError, match="no recipe 'paper'"):
        fit("toy", data_dir, 9, 0, "paper", tmp_path)
    with pytest.raises(ConfigError, match="seed must be 0 or more"):
        fit("toy", data_dir, 9, -1, "small", tmp_path)
    with pytest.raises(ConfigError, match="frames must be 1 or more"):
        fit("toy", data_dir, 0, 0, "small", tmp_path)
    with pytest.raises(UnavailableError, match="did you mean toy"):
        fit("toi", data_dir, 9, 0, "small", tmp_path)
    with pytest.raises(UnavailableError, match="device"):
        fit("toy", data_dir, 9, 0, "small", tmp_path, device="cuda:77")
    with pytest.raises(DataError, match="shorter than 99"):
        fit("toy", data_dir, 99, 0, "small", tmp_path)
    with pytest.raises(ConfigError, match="nothing in it to train"):
        fit("mean_pose", data_dir, 9, 0, "small", tmp_path)
    with pytest.raises(DataError, match="'train'"):
        fit("toy", write_data(tmp_path / "no_train", [c for c in CLIPS if c[1] != "train"]), 9, 0, "small", tmp_path)
    with pytest.raises(ConfigError, match="3dhp_univ.* mpi_inf_3dhp.*swing"):
        fit("toy", data_dir, 9, 0, RECIPE.override(protocol="3dhp_univ"), tmp_path)
    with pytest.raises(ConfigError, match="pretrained weights: give their file"):
        fit("toy", data_dir, 9, 0, RECIPE.override(start="pretrained"), tmp_path)
    with pytest.raises(ConfigError, match="starts at random, found"):
        fit("toy", data_dir, 9, 0, RECIPE, tmp_path, start=tmp_path / "weights.pt")
    assert not list(tmp_path.glob("**/record.jsonl"))


def test_second_process_is_refused_with_the_holder(tmp_path):
    with exclusive(tmp_path, patience=0), pytest.raises(UnavailableError, match=r"process \d+ is training"):
        with exclusive(tmp_path, patience=0):
            pass
    with exclusive(tmp_path, patience=0):
        pass
