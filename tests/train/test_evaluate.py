"""Evaluation: every frame once, the protocol's rules, the controls' known errors, and honest failures."""

import json
import shutil

import numpy as np
import pytest
import torch
from swing import CLIPS, LEFT, RIGHT, write_data
from torch import nn

from posescale.data.clips import Videos, cut
from posescale.data.prepared import PreparedData
from posescale.errors import CheckpointError, ConfigError, DataError, UnavailableError
from posescale.metrics import mpjpe
from posescale.metrics.protocols import PROTOCOLS
from posescale.models import create_model
from posescale.train.evaluate import evaluate, sequences
from posescale.train.predict import answer


class Echo(nn.Module):
    """Answers with the input itself (all frames or the centre one) and remembers how often it was called."""

    def __init__(self, single=False):
        super().__init__()
        self.single, self.shapes = single, []

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return x[:, (x.shape[1] - 1) // 2][:, None] if self.single else x


@pytest.fixture
def weights(toy_runs):
    """Weights files of both toys."""
    return {name: folder / "weights-val-best.pt" for name, folder in toy_runs.items()}


def value(record, name, group=""):
    return next(v.value for v in record.values if (v.name, v.group) == (name, group))


RULES = PROTOCOLS["cmu_cam"]


def whole(model, inputs, frames, output="seq2seq", flip=None, batch=32):
    """Poses of all frames of a sequence, each answered once."""
    rule = "centred_valid" if output == "seq2frame" else "every_frame"
    windows = cut(rule, Videos([len(inputs)]), frames)
    every, lengths = np.arange(len(windows)), np.array([len(inputs)])
    rows, counted = windows.rows(every, lengths), windows.counted(every)
    told, counted = (
        (rows[counted][:, None], np.ones((len(rows), 1), bool)) if output == "seq2frame" else (rows, counted)
    )
    plain, mirrored = answer(model, inputs, rows, output, flip, batch)
    poses = plain if mirrored is None else (plain.astype(float) + mirrored) / 2
    assert sorted(told[counted]) == list(range(len(inputs)))
    found = np.empty((len(inputs), *poses.shape[2:]))
    found[told[counted]] = poses[counted]
    return found


@pytest.mark.parametrize("length", [1, 4, 9, 10, 18, 50])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("frames", [1, 8, 9])
def test_each_frame_is_answered_once_from_its_own_place(length, single, frames):
    inputs = np.random.default_rng(length).normal(size=(length, 17, 3)).astype(np.float32)
    model = Echo(single)
    kind = "seq2frame" if single else "seq2seq"
    np.testing.assert_array_equal(whole(model, inputs, frames, kind, batch=4), inputs)
    assert all(shape[1:] == (frames, 17, 3) and shape[0] <= 4 for shape in model.shapes)
    np.testing.assert_array_equal(whole(model, inputs, frames, kind, (LEFT, RIGHT), batch=4), inputs)


def test_overlapping_tail_takes_new_frames_only():
    class FirstFrame(nn.Module):
        def forward(self, x):
            return x[:, :1].expand_as(x)

    inputs = np.arange(11.0, dtype=np.float32)[:, None, None] * np.ones((1, 17, 3), np.float32)
    poses = whole(FirstFrame(), inputs, 4)
    np.testing.assert_array_equal(poses[:, 0, 0], [0, 0, 0, 0, 4, 4, 4, 4, 7, 7, 7])


def test_centred_windows_repeat_the_ends():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(1, keepdim=True)

    inputs = np.arange(5.0, dtype=np.float32)[:, None, None] * np.ones((1, 17, 3), np.float32)
    poses = whole(Mean(), inputs, 5, "seq2frame")
    np.testing.assert_allclose(poses[:, 0, 0], np.array([3, 6, 10, 14, 17]) / 5, rtol=1e-6)


def test_flip_average_is_the_mean_of_both_views():
    class Shift(nn.Module):
        def forward(self, x):
            return x + torch.tensor([1.0, 2.0, 3.0])

    inputs = np.zeros((6, 17, 3), np.float32)
    np.testing.assert_allclose(whole(Shift(), inputs, 3, flip=(LEFT, RIGHT)), inputs + [0, 2, 3])


def test_wrong_output_is_named():
    with pytest.raises(ConfigError, match="seq2frame model must give"):
        answer(Echo(), np.zeros((5, 17, 3), np.float32), np.arange(5)[None], "seq2frame")


def test_controls_have_their_known_errors(data_dir):
    truth = evaluate("ground_truth", data_dir, 9)
    assert value(truth, "mpjpe") == value(truth, "n_mpjpe") == value(truth, "mpjve") == 0.0
    assert value(truth, "p_mpjpe") < 1e-9
    data = PreparedData(data_dir)
    train = np.concatenate([s.targets for s in sequences(data, "train", RULES)]).astype(np.float64).mean(0)
    mean, copy = evaluate("mean_pose", data_dir, 9), evaluate("copy_previous", data_dir, 9)
    by_action = {"walk": [], "wave": []}
    for s in sequences(data, "test", RULES):
        by_action[s.action].append(1000 * mpjpe(np.broadcast_to(train, s.targets.shape), s.targets))
    expected = {action: np.concatenate(errors).mean() for action, errors in by_action.items()}
    assert value(mean, "mpjpe") == pytest.approx(np.mean(list(expected.values())), rel=1e-5)
    for action, error in expected.items():
        assert value(mean, "mpjpe", action) == pytest.approx(error, rel=1e-5)
    for s, error in zip(sequences(data, "test", RULES), copy.samples["mpjpe_by_sequence"], strict=True):
        steps = 1000 * mpjpe(s.targets[:-1], s.targets[1:])
        assert error == pytest.approx(steps.sum() / len(s.targets), rel=1e-5)
    assert truth.weights_digest is None and truth.seed is None and truth.frames == 9


@pytest.mark.parametrize("name", ["toy", "toy_frame"])
def test_record_of_a_trained_model(weights, data_dir, name):
    record = evaluate(name, data_dir, 9, weights[name])
    assert record.status == "ok" and record.kind == "accuracy" and record.protocol == "cmu_cam"
    assert (record.seed, record.selection, record.dataset) == (5, "val-best", "swing")
    training = json.loads((weights[name].parent / "record.jsonl").read_text())
    assert record.weights_digest == training["options"]["weights"]["val-best"]
    tests = [clip for clip in CLIPS if clip[1] == "test"]
    assert record.labels["mpjpe_by_sequence"] == [clip[0] for clip in tests]
    frames = record.samples["frames_by_sequence"]
    assert frames == [clip[3] for clip in tests]
    for metric in ("mpjpe", "p_mpjpe", "n_mpjpe"):
        rows = zip(record.labels["actions"], record.samples[f"{metric}_by_sequence"], frames, strict=True)
        walk = [(error, count) for action, error, count in rows if action == "walk"]
        again = np.average([e for e, _ in walk], weights=[n for _, n in walk])
        assert value(record, metric, "walk") == pytest.approx(again)
        means = [value(record, metric, action) for action in ("walk", "wave")]
        assert value(record, metric) == pytest.approx(np.mean(means))
    assert value(record, "p_mpjpe") <= value(record, "mpjpe")
    assert {v.unit for v in record.values if v.name == "mpjve"} == {"mm/frame"}


def test_batch_size_and_default_frames_change_nothing(weights, data_dir):
    whole, small = (
        evaluate("toy", data_dir, 9, weights["toy"]),
        evaluate("toy", data_dir, None, weights["toy"], batch=1),
    )
    assert small.frames == 9
    for a, b in zip(whole.values, small.values, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-5)


def test_validation_split_and_single_frame_sequences(weights, data_dir, tmp_path):
    assert evaluate("toy", data_dir, 9, weights["toy"], split="val").labels["actions"] == ["walk"]
    short = write_data(tmp_path / "d", [("t", "train", "a", 20, 0), ("x", "test", "a", 1, 1), ("y", "test", "b", 9, 2)])
    record = evaluate("toy", short, 9, weights["toy"])
    assert record.status == "ok" and np.isfinite(value(record, "mpjpe"))
    assert np.isnan(value(record, "mpjve", "a")) and np.isnan(value(record, "mpjve"))
    with pytest.raises(DataError, match="'val'"):
        evaluate("toy", short, 9, weights["toy"], split="val")


def test_non_finite_prediction_is_a_crashed_record(weights, data_dir, tmp_path):
    content = torch.load(weights["toy"], weights_only=True)
    content["model_pos"]["last.bias"][7] = float("nan")
    torch.save(content, tmp_path / "broken.pt")
    record = evaluate("toy", data_dir, 9, tmp_path / "broken.pt")
    assert record.status == "crashed" and "test/long" in record.reason and "frame 0" in record.reason
    assert not record.values and not record.samples


def test_refusals(weights, data_dir, tmp_path):
    with pytest.raises(ConfigError, match="needs weights"):
        evaluate("toy", data_dir, 9)
    with pytest.raises(ConfigError, match="takes no weights"):
        evaluate("mean_pose", data_dir, 9, weights["toy"])
    with pytest.raises(ConfigError, match="holds toy, not toy_frame"):
        evaluate("toy_frame", data_dir, 9, weights["toy"])
    with pytest.raises(ConfigError, match="no protocol"):
        evaluate("toy", data_dir, 9, weights["toy"], protocol="p9")
    with pytest.raises(ConfigError, match="frames must be 1"):
        evaluate("toy", data_dir, -3, weights["toy"])
    with pytest.raises(UnavailableError, match="device"):
        evaluate("toy", data_dir, 9, weights["toy"], device="cuda:77")
    torch.save(create_model("posemamba_tiny", frames=3).state_dict(), tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="does not fit"):
        evaluate("toy", data_dir, 9, tmp_path / "other.pt")


def test_frame_rates_change_no_value(data_dir, tmp_path):
    """MPJVE is in mm per frame, whatever rates the sequences have."""
    folder = shutil.copytree(data_dir, tmp_path / "d")
    index = json.loads((folder / "index.json").read_text())
    index["fps"] = 0.0
    for number, sequence in enumerate(index["sequences"]):
        sequence["fps"] = 25.0 * (1 + number % 2)
    (folder / "index.json").write_text(json.dumps(index))
    one, own = (evaluate("mean_pose", place, 9) for place in (data_dir, folder))
    assert own.values == one.values and value(own, "mpjve") > 0
