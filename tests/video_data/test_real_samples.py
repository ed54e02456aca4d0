"""Real frames and annotations of PoseTrack18 and JHMDB, and fixtures in their formats."""

import numpy as np
import pytest

from posescale.data import catalog
from posescale.data.video.augment import Augmentation
from posescale.data.video.clips import VideoClips
from posescale.data.video.crops import transform
from posescale.data.video.files import frames_on_disk, size_of
from posescale.data.video.posetrack18 import read_file
from posescale.data.video.prepared import Frame, Video, VideoData, VideoPart, person_dtype, write_video_data
from posescale.data.video.submission import prediction_dtype, read_predictions, write_ground_truth, write_predictions
from posescale.data.video.verify import verify

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def samples(shared):
    return shared / "data" / "samples"


@pytest.fixture(scope="module")
def posetrack18(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("posetrack18") / "d"
    catalog.prepare("posetrack18", folder, samples / "posetrack18")
    return verify(folder)


def test_real_posetrack18_frames_load(posetrack18):
    assert [v.name for v in posetrack18.index.videos] == ["003418_mpii_test", "012834_mpii_test"]
    assert {(v.width, v.height) for v in posetrack18.index.videos} == {(1920, 1080)}
    assert len(posetrack18.people) == 12 and len(posetrack18.detections) == 200
    assert [len(v.frames[0].ignore) for v in posetrack18.index.videos] == [9, 4]
    for boxes in ("gt", "detector"):
        clips = VideoClips(posetrack18, "val", 5, 256, 192, boxes=boxes, augmentation=None)
        assert np.isfinite(clips[0]["clip"].numpy()).all() and clips[0]["clip"].std() > 0.1
    varied = VideoClips(posetrack18, "val", 5, 256, 192, augmentation=Augmentation())[0]
    back = transform(varied["joints"].numpy(), varied["back"].numpy())
    there = varied["annotated"].numpy() > 0
    assert there.any()
    row = posetrack18.people[varied["row"]]
    assert min(np.abs(back[there][0] - joint).max() for joint in row["joints"]) < 0.01


def test_predictions_of_real_frames_are_written(tmp_path, posetrack18):
    rows = np.zeros(12, prediction_dtype())
    for name in ("frame", "track", "box", "joints"):
        rows[name] = posetrack18.people[name]
    rows["scores"] = np.random.default_rng(0).random((12, 15))
    write_predictions(tmp_path / "p", posetrack18, "val", rows)
    again = read_predictions(tmp_path / "p", posetrack18, "val")
    assert all(np.array_equal(again[name], rows[name]) for name in rows.dtype.names)


def test_the_merged_file_says_the_same(samples, posetrack18):
    root = samples / "posetrack18"
    parts = {p.video.name: p for p in read_file(root / "annotations" / "posetrack18_val.json", root, "val")}
    assert sorted(parts) == [v.name for v in posetrack18.index.videos]
    for video in posetrack18.index.videos:
        rows = posetrack18.people[posetrack18.people["frame"] == video.start]
        mine = parts[video.name].people
        shared = [n for n, row in enumerate(mine) if (row["joints"] == rows["joints"]).all((1, 2)).any()]
        assert len(shared) == len(rows), "every person of the original file is in the merged one"


def test_consecutive_real_frames_make_a_clip(samples, tmp_path):
    folder = "images/test/000001_mpiinew_test"
    names = frames_on_disk(samples / "posetrack18" / folder)
    frames = [Frame(file=f"{folder}/{names[n]}", number=n, id=n, labelled=n == 2) for n in sorted(names)]
    width, height = size_of(samples / "posetrack18" / frames[0].file)
    people = np.zeros(1, person_dtype(15))
    people["frame"], people["box"], people["annotated"] = 2, [width / 4, height / 4, width / 2, height / 2], 1
    video = Video(name="000001_mpiinew_test", split="test", width=width, height=height, start=0, frames=frames)
    write_video_data(
        tmp_path / "d", [VideoPart(video, people)], dataset="posetrack18", protocol="posetrack_gt_boxes", settings={},
        fps=0.0, skeleton="posetrack15", reported="val", root=str(samples / "posetrack18"),
    )  # fmt: skip
    clips = VideoClips(verify(tmp_path / "d"), "test", 5, 256, 192)
    assert clips.window(0) == [0, 1, 2, 3, 4]
    steps = np.abs(np.diff(clips[0]["clip"].numpy(), axis=0)).mean((1, 2, 3))
    assert (steps > 0).all() and (steps < 0.5).all(), "neighbouring frames differ, but not by much"


def test_the_posetrack18_fixture_parses_and_writes_back(samples, tmp_path):
    gt = samples / "posetrack18" / "fixture" / "gt"
    source = tmp_path / "source" / "annotations"
    source.mkdir(parents=True)
    (source / "val").symlink_to(gt)
    catalog.prepare("posetrack18", tmp_path / "d", tmp_path / "source", {"images": "optional"})
    data = VideoData(tmp_path / "d")
    assert [len(v.frames) for v in data.index.videos] == [20, 20]
    assert sum(not f.labelled for v in data.index.videos for f in v.frames) >= 1
    for path in write_ground_truth(tmp_path / "g", data, "val"):
        [mine], [theirs] = (read_file(p, tmp_path, "val", need_images=False) for p in (path, gt / path.name))
        assert mine.people.tobytes() == theirs.people.tobytes() and mine.video.frames == theirs.video.frames


def test_real_jhmdb_frames_load(samples, tmp_path):
    catalog.prepare("jhmdb", tmp_path / "d", samples / "jhmdb")
    data = verify(tmp_path / "d")
    assert len(data.people) == 2 and (data.people["annotated"] == 1).all()
    assert data.people["box"][0].tolist() == [78, 61, 54, 159], "79, 62 counted from 1"
    assert VideoClips(data, "test", 5, 256, 192)[0]["clip"].shape == (5, 3, 256, 192)


def test_the_jhmdb_fixture_parses(samples, tmp_path):
    for split in (1, 2, 3):
        index = catalog.prepare(
            "jhmdb", tmp_path / "d", samples / "jhmdb" / "fixture", {"images": "optional", "split": split}
        )
        assert sorted(v.split for v in index.videos) == ["test", "test", "train", "train"]
    people = VideoData(tmp_path / "d").people
    assert len(people) == 36 + 32 + 30 + 28
    low, high = people["joints"].min(1), people["joints"].max(1)
    box = people["box"]
    inside = (low >= box[:, :2] - 15).all(1) & (high <= box[:, :2] + box[:, 2:] + 15).all(1)
    assert inside.mean() > 0.95, "joints and puppet masks lie together once both count from 0"
