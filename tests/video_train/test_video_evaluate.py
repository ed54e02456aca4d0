"""Scoring video models and controls: what is counted, in which state, under which condition in time."""

import json

import numpy as np
import pytest
import torch
from dots import write_dots
from typer.testing import CliRunner

from posescale.data.video.clips import VideoClips
from posescale.data.video.prepared import VideoData
from posescale.errors import ConfigError
from posescale.metrics.video_protocols import video_protocol
from posescale.train.fit import fit
from posescale.train.video.evaluate import CONDITIONS, evaluate
from posescale.train.video.predict import Predictions, predict
from posescale.train.video.tables import scores


def value(record, name, group=""):
    return next(v.value for v in record.values if (v.name, v.group) == (name, group))


class TestControls:
    def test_ground_truth_is_perfect(self, data_dir):
        record = evaluate("ground_truth", data_dir)
        assert record.status == "ok" and record.options["split"] == "test" and record.protocol == "posetrack_gt_boxes"
        assert {v.value for v in record.values if v.name in ("pck", "ap", "pck_by_state")} == {100.0}
        assert max(v.value for v in record.values if v.name == "error_by_state") < 1e-9
        assert value(record, "joints_by_state", "occluder") == 2 * 2 * 3  # videos, frames, joints
        assert value(record, "joints_by_state", "visible") == 2 * 6 * 15 - 12

    def test_interpolation_finds_what_drifts_evenly(self, data_dir):
        record = evaluate("interpolate_visible", data_dir, frames=3)
        assert value(record, "pck_by_state", "hidden") == 100.0 and value(record, "error_by_state", "hidden") < 1e-6

    def test_interpolation_out_of_reach_finds_nothing(self, data_dir):
        record = evaluate("interpolate_visible", data_dir, frames=1)
        assert value(record, "pck_by_state", "occluder") == 0.0 and value(record, "pck_by_state", "visible") == 100.0

    def test_mean_pose_learns_from_train_alone(self, data_dir):
        data = VideoData(data_dir)
        people = data.people[data.rows("train")]
        mean = ((people["joints"] - 24) / 38).mean(0) * 38 + 24
        test = data.people[data.rows("test")]
        hits = np.linalg.norm(test["joints"] - mean, axis=-1) <= 0.5 * 0.6 * 10
        assert value(evaluate("mean_pose", data_dir), "pck") == pytest.approx(100 * hits.mean())

    def test_copy_previous_is_late_by_one_frame(self, data_dir):
        joints = VideoData(data_dir).people["joints"][-12:].reshape(2, 6, 15, 2)  # two test videos of six frames
        late = np.concatenate([joints[:, :1], joints[:, :-1]], axis=1)
        errors = np.linalg.norm(late - joints, axis=-1) / 6.0  # heads of 6 pixels
        record = evaluate("copy_previous", data_dir)
        assert value(record, "pck") == pytest.approx(100 * (errors <= 0.5).mean())
        assert value(record, "error_by_state", "visible") > 0

    @pytest.mark.parametrize("options", [{"weights": "x.pt"}, {"condition": "shuffled"},
                                         {"protocol": "posetrack_detector_boxes"}], ids=str)  # fmt: skip
    def test_refused(self, data_dir, options):
        with pytest.raises(ConfigError, match="control"):
            evaluate("ground_truth", data_dir, **options)


def test_a_trained_model(trained, data_dir):
    out, training = trained
    record = evaluate("dots", data_dir, weights=out / "weights-last.pt", study="s")
    assert record.status == "ok" and record.weights_digest == training.weights_digest
    assert (record.frames, record.resolution, record.seed, record.selection) == (3, (48, 48), 0, "last")
    assert record.options["task"] == "video" and record.options["condition"] == "as_is"
    assert len(record.samples["pck_by_sequence"]) == 2 and record.labels["pck_by_sequence"] == ["d", "e"]
    pooled = np.average(record.samples["pck_by_sequence"], weights=record.samples["joints_by_sequence"])
    assert value(record, "pck") == pytest.approx(pooled)
    groups = {v.group for v in record.values if v.name == "ap"}
    assert groups == {"", "Head", "Shou", "Elb", "Wri", "Hip", "Knee", "Ankl"}
    counts = {v.group: v.value for v in record.values if v.name == "joints_by_state"}
    shares = {v.group: v.value for v in record.values if v.name == "pck_by_state"}
    both = sum(counts[s] * shares[s] for s in ("visible", "occluder")) / (counts["visible"] + counts["occluder"])
    assert value(record, "pck") == pytest.approx(both) and shares["hidden"] == shares["occluder"]


def test_validation_during_training_is_the_same_number(trained, data_dir):
    out, training = trained
    record = evaluate("dots", data_dir, weights=out / "weights-last.pt", split="val")
    assert value(record, "pck") == pytest.approx(training.samples["val_pck"][-1])


def test_conditions_take_time_away(data_dir, tmp_path):
    """The toy reads all frames; with its own frame alone, hidden joints must suffer."""
    from test_video_fit import RECIPE

    fit("dots", data_dir, 3, 0, RECIPE.override(epochs=6, steps_per_epoch=30), tmp_path)
    weights = tmp_path / "weights-last.pt"
    found = {c: evaluate("dots", data_dir, weights=weights, condition=c) for c in CONDITIONS}
    assert len({r.id for r in found.values()}) == len(CONDITIONS)
    hidden = {c: value(r, "pck_by_state", "hidden") for c, r in found.items()}
    assert hidden["as_is"] > hidden["own_frame"] and hidden["as_is"] > hidden["other_video"]
    assert found["own_frame"].options["condition"] == "own_frame"


class Peak(torch.nn.Module):
    """Heat maps with one maximum, in the middle."""

    def forward(self, x):
        maps = torch.zeros(len(x), 15, x.shape[-2] // 4, x.shape[-1] // 4)
        maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2] = 0.5
        return maps


def test_joints_go_back_to_the_image_and_scores_are_multiplied(data_dir):
    data = VideoData(data_dir)
    clips = VideoClips(data, "test", 3, 48, 48)
    found = predict(Peak(), clips, 4, "cpu")
    np.testing.assert_allclose(found.table["joints"], 24.0)  # the centre of every box
    assert set(found.table["scores"].ravel()) == {0.5} and (found.row == data.rows("test")).all()


def test_a_joint_that_is_not_predicted_is_not_found(data_dir):
    data = VideoData(data_dir)
    rows = data.rows("test")
    truth = data.people[rows]
    from posescale.data.video.submission import prediction_dtype

    table = np.zeros(len(rows), prediction_dtype(15))
    table["frame"], table["box"], table["joints"], table["scores"] = truth["frame"], truth["box"], truth["joints"], 1.0
    table["joints"][:, 13] = np.nan  # noses
    found = scores(data, "test", video_protocol("posetrack_gt_boxes"), Predictions(rows, table))
    values = {(v.name, v.group): v.value for v in found["values"]}
    assert values["pck", "Head"] == pytest.approx(200 / 3) and values["ap", "Head"] == pytest.approx(200 / 3)
    assert values["pck", "Hip"] == values["ap", "Hip"] == 100.0


def test_not_finite_predictions_are_a_record(data_dir, tmp_path):
    from test_video_fit import RECIPE

    fit("dots", data_dir, 3, 0, RECIPE, tmp_path)
    content = torch.load(tmp_path / "weights-last.pt", weights_only=True)
    content["model_pos"]["last.bias"][3] = float("nan")
    torch.save(content, tmp_path / "nan.pt")
    record = evaluate("dots", data_dir, weights=tmp_path / "nan.pt")
    assert record.status == "crashed" and "NaN" in record.reason and not record.values
    assert record.options["task"] == "video"


def test_refusals(trained, data_dir):
    weights = trained[0] / "weights-last.pt"
    with pytest.raises(ConfigError, match="needs weights"):
        evaluate("dots", data_dir)
    with pytest.raises(ConfigError, match="holds dots"):
        evaluate("glsmamba_tiny", data_dir, weights=weights)
    with pytest.raises(ConfigError, match="condition"):
        evaluate("dots", data_dir, weights=weights, condition="backwards")
    with pytest.raises(ConfigError, match="no protocol"):
        evaluate("dots", data_dir, weights=weights, protocol="cmu_cam")
    with pytest.raises(ConfigError, match="lifting model"):
        evaluate("posemamba_tiny", data_dir, weights=weights)


def test_commands(data_dir, tmp_path, monkeypatch):
    from posescale import cli

    if not cli.app.registered_commands:
        cli._register()
    run = CliRunner()
    result = run.invoke(cli.app, ["train", "dots", "--data", str(data_dir), "--frames", "3", "--out", str(tmp_path),
                                  "--set", "epochs=1", "--set", "crops.sigma=1.5", "--json"])  # fmt: skip
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)[0]
    assert row["model"] == "dots" and "val_pck" in row
    weights = str(tmp_path / "weights-last.pt")
    result = run.invoke(cli.app, ["evaluate", "dots", "--data", str(data_dir), "--weights", weights, "--json",
                                  "--condition", "own_frame", "--record", str(tmp_path / "r.jsonl")])  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = {row["of"]: row for row in json.loads(result.stdout)}
    assert {"all joints", "Head", "state visible", "state hidden"} <= rows.keys()
    assert rows["all joints"]["ap"] is not None and rows["state hidden"]["joints"] == 12


def test_a_dataset_without_heads_is_refused_by_poseval_protocols(tmp_path):
    folder = write_dots(tmp_path)
    people = np.load(folder / "people.npy")
    people["head"] = np.nan
    np.save(folder / "people.npy", people)
    from posescale.errors import DataError

    with pytest.raises(DataError, match="no head"):
        evaluate("ground_truth", folder)
