"""Stored predictions and other protocols: the same numbers as an evaluation, or a refusal in words."""

import numpy as np
import pytest
from h36m_files import cpn_content, write_cpn
from swing import make_clip, write_data

from posescale.data import catalog
from posescale.data.prepared import Clip, PreparedData, write_prepared
from posescale.data.skeleton import H36M, MPI_INF_3DHP
from posescale.errors import ConfigError, DataError
from posescale.metrics import mpjpe
from posescale.metrics.protocols import PROTOCOLS
from posescale.metrics.scoring import Answers
from posescale.train import predictions
from posescale.train.evaluate import evaluate
from posescale.train.rescore import Incompatible, rescore, rescore_all, variations

CMU = PROTOCOLS["cmu_cam"]


def value(record, name="mpjpe", group=""):
    return next(v.value for v in record.values if (v.name, v.group) == (name, group))


@pytest.fixture
def weights(toy_runs):
    return {name: folder / "weights-last.pt" for name, folder in toy_runs.items()}


@pytest.mark.parametrize("name", ["toy", "toy_frame"])
def test_rescoring_equals_evaluating(weights, data_dir, tmp_path, name):
    file = tmp_path / "said.npz"
    made = evaluate(name, data_dir, 9, weights[name], predictions=file)
    for changes in ({}, {"flip_average": False}, {"zero_root": False}, {"aggregation": "frame_mean"},
                    {"excluded": ("test/long",)}, {"windows": "last_twice"}):  # fmt: skip
        rules = CMU.changed(**changes)
        again, direct = rescore(file, rules), evaluate(name, data_dir, 9, weights[name], rules)
        assert again.protocol == rules.id and again.options["rescored_from"] == "cmu_cam"
        assert again.weights_digest == made.weights_digest and again.id != made.id
        assert {(v.name, v.group): v.value for v in again.values} == pytest.approx(
            {(v.name, v.group): v.value for v in direct.values}, nan_ok=True, rel=1e-9
        )
        for name_of, sample in again.samples.items():
            assert sample == pytest.approx(direct.samples[name_of], nan_ok=True)
    assert value(rescore(file, CMU)) == pytest.approx(value(made), rel=1e-9)


def test_all_variations_and_what_cannot_be(weights, data_dir, tmp_path):
    file = tmp_path / "said.npz"
    evaluate("toy", data_dir, 9, weights["toy"], CMU.changed(flip_average=False), predictions=file)
    found, refused = rescore_all(file, variations(file))
    assert "cmu_cam[aggregation=frame_mean]" not in {r.protocol for r in found}  # it averages over the mirror image
    assert {r.protocol for r in found} == {"cmu_cam[flip_average=no]"}
    assert "mirror image was not asked" in refused["cmu_cam"]
    with pytest.raises(Incompatible, match="windows that protocol .* scores were not run"):
        rescore(file, CMU.changed(flip_average=False, windows="chunks"))
    with pytest.raises(Incompatible, match="made with input_2d detections"):
        rescore(file, CMU.changed(flip_average=False, input_2d="exact"))
    with pytest.raises(ConfigError, match="belongs to h36m"):
        rescore(file, "h36m_cpn_metric")
    other = write_data(tmp_path / "other", [("train/a", "train", "walk", 70, 0), ("test/x", "test", "walk", 30, 9)])
    with pytest.raises(DataError, match="was made from data"):
        rescore(file, CMU, other)


def test_predictions_come_back_whole_or_not_at_all(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    said = {
        name: Answers(random.integers(0, 9, (w, 5)), *random.normal(size=(2, w, 5, 17, 3)).astype(np.float32))
        for name, w in (("a", 2), ("b", 1), ("c", 3))
    }
    path = tmp_path / "new" / "said.npz"
    predictions.save(path, said, {"note": "x"})
    back, meta = predictions.load(path)
    assert meta == {"note": "x"} and list(back) == ["a", "b", "c"]
    for name, answers in said.items():
        for field in ("told", "plain", "mirrored"):
            np.testing.assert_array_equal(getattr(back[name], field), getattr(answers, field))
    whole = path.read_bytes()
    monkeypatch.setattr(np, "savez", lambda *a, **k: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DataError, match="No space left"):
        predictions.save(path, said, {})
    assert path.read_bytes() == whole and [p.name for p in path.parent.iterdir()] == ["said.npz"]
    for damage in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(damage)
        with pytest.raises(DataError, match="not a file of predictions, or torn"):
            predictions.load(path)
    with pytest.raises(DataError, match="cannot be read"):
        predictions.load(tmp_path / "none.npz")


@pytest.fixture(scope="module")
def cpn_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cpn")
    write_cpn(folder / "raw", cpn_content())
    catalog.prepare("h36m", folder / "data", folder / "raw", {"family": "cpn"})
    return folder / "data"


def test_the_metric_line_by_hand(cpn_data, weights, tmp_path):
    """VideoPose3D's order: errors of all frames of an action, then the mean of actions; the root's error counts."""
    data = PreparedData(cpn_data)
    mean = evaluate("mean_pose", cpn_data, 9)
    assert mean.protocol == "h36m_cpn_metric" and "frames" in mean.model_dump()
    poses = data.poses[:].astype(float) - data.poses[:, :1]
    train = np.concatenate([poses[s.rows] for s in data.sequences("train")]).mean(0)
    by_action = {}
    for s in data.sequences("test"):
        by_action.setdefault(s.action, []).append(
            1000 * mpjpe(np.broadcast_to(train, poses[s.rows].shape), poses[s.rows])
        )
    means = {action: np.concatenate(errors).mean() for action, errors in by_action.items()}
    assert value(mean) == pytest.approx(np.mean(list(means.values())), rel=1e-9)
    for action, error in means.items():
        assert value(mean, group=action) == pytest.approx(error, rel=1e-9)
    truth = evaluate("ground_truth", cpn_data, 9, protocol="h36m_cpn_chunks")
    assert value(truth) == 0 and sum(truth.samples["frames_by_sequence"]) == 12 * 72  # 64 frames in chunks of 9
    with pytest.raises(ConfigError, match="belongs to mpi_inf_3dhp"):
        evaluate("mean_pose", cpn_data, 9, protocol="3dhp_univ")
    with pytest.raises(ConfigError, match="needs data prepared with family=sh"):
        evaluate("mean_pose", cpn_data, 9, protocol="h36m_sh_25d")
    with pytest.raises(ConfigError, match="needs data prepared with detections=detectron_ft_h36m"):
        evaluate("mean_pose", cpn_data, 9, protocol="h36m_metric_detectron")


def test_weights_of_other_labels_are_refused(weights, tmp_path):

    clip = make_clip("s_09_act_02_subact_01_ca_01", "test", "walk", 30, 1)
    clip = type(clip)(**(vars(clip) | {"exact": None, "factor": np.full(30, 4, np.float32)}))
    write_prepared(
        tmp_path / "d", [clip], dataset="h36m", protocol="h36m_sh_25d", settings={"family": "sh"}, fps=50.0,
        space="image", **vars(H36M),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="predicts metres, protocol h36m_sh_25d scores screen_25d"):
        evaluate("toy", tmp_path / "d", 9, weights["toy"])


def test_centred_windows_on_valid_frames_and_the_width_of_labels(tmp_path):
    """The 3DHP line: only valid frames, pelvis at 14, and the two ways back to millimetres of a 1920-wide image."""
    random = np.random.default_rng(0)

    def clip(name, split, width, seed):
        poses = (np.random.default_rng(seed).normal(scale=0.3, size=(20, 17, 3)) + [0, 0, 4]).astype(np.float32)
        exact = random.uniform(0, width, (20, 17, 2)).astype(np.float32)
        return Clip(name, name, name, "0", split, width, width, poses, exact, valid=np.arange(20) % 4 == 1)

    clips = [clip("S1", "train", 2048, 0), clip("TS1", "test", 2048, 1), clip("TS5", "test", 1920, 2)]
    write_prepared(
        tmp_path / "d", clips, dataset="mpi_inf_3dhp", protocol="3dhp_univ", settings={}, fps=25.0, **vars(MPI_INF_3DHP)
    )
    own, fixed = (evaluate("mean_pose", tmp_path / "d", 9, protocol=p) for p in ("3dhp_univ", "3dhp_univ_1024"))
    assert own.samples["frames_by_sequence"] == [5, 5]
    data = PreparedData(tmp_path / "d")
    poses = 1000 * (data.poses[:].astype(float) - data.poses[:, 14:15])
    mean = poses[:20].mean(0)
    for number, name in enumerate(("TS1", "TS5"), start=1):
        true = poses[20 * number : 20 * number + 20][1::4]
        for record, scale in ((fixed, 1), (own, 960 / 1024 if name == "TS5" else 1)):
            expected = mpjpe(np.broadcast_to(scale * mean, true.shape), true).mean()
            assert value(record, group=name) == pytest.approx(expected, rel=1e-6)
