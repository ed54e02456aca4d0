import json

import numpy as np
import pytest

from posescale.data.video.posetrack17 import read_file as read17
from posescale.data.video.posetrack18 import read_file as read18
from posescale.data.video.skeletons import SLOT_OF_JOINT
from posescale.data.video.submission import (
    prediction_dtype,
    read_predictions,
    write_ground_truth,
    write_predictions,
)
from posescale.errors import DataError


@pytest.fixture
def predictions(small):
    """Two thirds of the people of the training split, some joints not predicted."""
    rng = np.random.default_rng(0)
    people = small.people[small.rows("train")][rng.permutation(len(small.rows("train")))]
    people = people[: 2 * len(people) // 3]
    rows = np.zeros(len(people), prediction_dtype())
    for name in ("frame", "track", "box"):
        rows[name] = people[name]
    rows["joints"] = people["joints"] + rng.normal(0, 2, people["joints"].shape)
    rows["scores"] = rng.random((len(rows), 15))
    rows["joints"][rng.random((len(rows), 15)) < 0.2] = np.nan
    return rows


def test_predictions_round_trip_unrounded(tmp_path, small, predictions):
    paths = write_predictions(tmp_path / "p", small, "train", predictions)
    assert [p.stem for p in paths] == [v.name for v in small.videos("train")]
    again = read_predictions(tmp_path / "p", small, "train")
    order = np.argsort(predictions["frame"], kind="stable")
    for name in predictions.dtype.names:
        assert np.array_equal(again[name], predictions[order][name], equal_nan=True), name


def test_every_frame_is_there_and_the_form_is_posetracks(tmp_path, small, predictions):
    none = predictions[:0]
    for path, video in zip(write_predictions(tmp_path / "p", small, "train", none), small.videos("train")):
        content = json.loads(path.read_text())
        assert [i["id"] for i in content["images"]] == [f.id for f in video.frames] and content["annotations"] == []
    path = write_predictions(tmp_path / "p", small, "train", predictions)[0]
    person = json.loads(path.read_text())["annotations"][0]
    assert len(person["keypoints"]) == 51 and len(person["scores"]) == 17
    assert person["keypoints"][9:15] == [0.0] * 6 and person["scores"][3:5] == [0.0, 0.0], "ears are never predicted"
    assert person["category_id"] == 1 and person["id"] // 100 == person["image_id"]


def test_posetrack17_predictions_carry_scores(tmp_path, small, predictions):
    first = write_predictions(tmp_path / "p", small, "train", predictions, "posetrack17")[0]
    points = [
        (p["id"][0], p["score"][0])
        for frame in json.loads(first.read_text())["annolist"]
        for person in frame["annorect"]
        for p in person["annopoints"][0]["point"]
    ]
    video = small.videos("train")[0]
    mine = predictions[predictions["frame"] < video.start + len(video.frames)]
    assert len(points) == np.isfinite(mine["joints"]).all(-1).sum()
    assert {s for _, s in points} <= set(mine["scores"].ravel().tolist()) and {k for k, _ in points} <= set(range(15))


def test_ground_truth_reads_back(tmp_path, small):
    [path] = write_ground_truth(tmp_path / "g", small, "val")
    [part] = read18(path, small.root, "val")
    theirs = small.people[small.rows("val")]
    there = theirs["annotated"] > 0
    for name in ("track", "box", "head", "annotated"):
        assert np.array_equal(part.people[name], theirs[name])
    assert np.array_equal(part.people["joints"][there], theirs["joints"][there])
    [path] = write_ground_truth(tmp_path / "g", small, "val", "posetrack17")
    [part] = read17(path, small.root, "val")
    assert np.array_equal(part.people["joints"][there], theirs["joints"][there])


def test_slots_of_the_ears_are_not_joints():
    assert sorted(SLOT_OF_JOINT) == [n for n in range(17) if n not in (3, 4)]


def test_wrong_predictions_are_refused(tmp_path, small, predictions):
    wrong = predictions.copy()
    there = np.isfinite(wrong["joints"]).all(-1)
    wrong["scores"][np.unravel_index(there.argmax(), there.shape)] = np.nan
    with pytest.raises(DataError, match="score that is NaN"):
        write_predictions(tmp_path / "p", small, "train", wrong)
    with pytest.raises(DataError, match="not in split"):
        write_predictions(tmp_path / "p", small, "val", predictions)
    for frame in (-1, 10**6):
        wrong = predictions.copy()
        wrong["frame"][0] = frame
        with pytest.raises(DataError, match=f"frame {frame}"):
            write_predictions(tmp_path / "p", small, "train", wrong)
    with pytest.raises(DataError, match="posetrack19"):
        write_predictions(tmp_path / "p", small, "train", predictions, "posetrack19")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        write_predictions(tmp_path / "p", small, "train", predictions)


def test_damaged_prediction_files_are_refused(tmp_path, small, predictions):
    path = write_predictions(tmp_path / "p", small, "train", predictions)[0]
    whole = json.loads(path.read_text())
    for change in (
        lambda c: c["annotations"][0].update(scores=[1.0] * 16),
        lambda c: c["annotations"][0].pop("scores"),
        lambda c: c["annotations"][0].update(image_id=7),
        lambda c: c["annotations"][0].update(keypoints=[1.0] * 45),
    ):
        content = json.loads(json.dumps(whole))
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"annotations\[0\]"):
            read_predictions(tmp_path / "p", small, "train")
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        read_predictions(tmp_path / "p", small, "train")
