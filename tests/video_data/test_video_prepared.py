import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from posescale.commands import data as data_command
from posescale.data import catalog
from posescale.data.opening import open_prepared
from posescale.data.prepared import PreparedData
from posescale.data.video.prepared import (
    DETECTION,
    FILES,
    Frame,
    Video,
    VideoData,
    VideoPart,
    person_dtype,
    write_video_data,
)
from posescale.data.video.verify import verify
from posescale.errors import DataError

FIELDS = {
    "dataset": "test", "protocol": "posetrack_gt_boxes", "settings": {"images": "optional"}, "fps": 25.0,
    "skeleton": "posetrack15", "reported": "val", "root": "/nowhere",
}  # fmt: skip


def _part(name="a", split="train", **change):
    frames = [Frame(file=f"{name}/{n:06d}.jpg", number=n, id=n, labelled=True) for n in (0, 1, 4)]
    people = np.zeros(4, person_dtype(15))
    people["frame"], people["box"], people["annotated"] = [2, 0, 0, 1], [10, 10, 20, 30], 1
    people["joints"], people["head"] = np.arange(120).reshape(4, 15, 2), [1, 2, 3, 4]
    for key, value in change.items():
        people[key] = value
    detections = np.array([(1, (0, 0, 5, 5), 0.5)], DETECTION)
    return VideoPart(Video(name=name, split=split, width=64, height=48, start=0, frames=frames), people, detections)


def test_round_trip(tmp_path):
    index = write_video_data(tmp_path / "d", iter([_part("a"), _part("b", "val")]), **FIELDS)
    data = verify(tmp_path / "d")
    assert data.index == index and [v.start for v in index.videos] == [0, 3]
    assert data.people["frame"].tolist() == [0, 0, 1, 2, 3, 3, 4, 5] and data.detections["frame"].tolist() == [1, 4]
    assert data.rows("val").tolist() == [4, 5, 6, 7] and data.rows("val", "detections").tolist() == [1]
    assert data.frame(4)[0].name == "b" and data.frame(5)[1].number == 4 and len(data.rows("test")) == 0
    assert not data.people.flags.writeable and {p.name for p in (tmp_path / "d").iterdir()} == set(FILES)
    assert isinstance(open_prepared(tmp_path / "d"), VideoData)
    assert str(VideoData(tmp_path / "d", root=tmp_path).root) == str(tmp_path)


def test_the_digest_sees_annotations_and_frames(tmp_path):
    digests = {
        write_video_data(tmp_path / "d", [part], **FIELDS).digest
        for part in (_part(), _part("b"), _part(joints=1.0), _part(state=2), _part(track=5))
    }
    assert len(digests) == 5


def test_an_existing_folder_survives_a_failure(tmp_path):
    write_video_data(tmp_path / "d", [_part()], **FIELDS)
    before = {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()}

    def parts():
        yield _part()
        raise DataError("the source is torn")

    with pytest.raises(DataError, match="torn"):
        write_video_data(tmp_path / "d", parts(), **FIELDS)
    assert {p.name: p.read_bytes() for p in (tmp_path / "d").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["d"]
    (tmp_path / "d" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        write_video_data(tmp_path / "d", [_part()], **FIELDS)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (_part(joints=np.nan), "joints holds NaN"),
        (_part(box=[1, 2, np.inf, 3]), "box holds NaN"),
        (_part(box=[1, 2, -1, 3]), "width or height below 0"),
        (_part(frame=3), "frame 3 of 3"),
        (_part(frame=-1), "frame"),
        (_part(state=9), "state"),
        (_part(annotated=2), "state"),
        (VideoPart(_part().video, np.zeros(1, person_dtype(14))), "rows of type"),
        (VideoPart(_part().video.model_copy(update={"frames": []}), np.zeros(0, person_dtype(15))), "0 frames"),
        (VideoPart(_part().video, _part().people, np.array([(0, (0, 0, 0, 5), 1)], DETECTION)), "width or height"),
        (VideoPart(_part().video, _part().people, np.array([(0, (0, 0, 1, 5), np.nan)], DETECTION)), "score"),
    ],
)
def test_wrong_parts_are_refused(tmp_path, part, words):
    with pytest.raises(DataError, match=words):
        write_video_data(tmp_path / "d", [part], **FIELDS)
    assert list(tmp_path.iterdir()) == []


def test_nothing_and_everything_twice_are_refused(tmp_path):
    with pytest.raises(DataError, match="no video"):
        write_video_data(tmp_path / "d", [], **FIELDS)
    with pytest.raises(DataError, match="twice"):
        write_video_data(tmp_path / "d", [_part(), _part()], **FIELDS)
    frames = _part().video.frames
    for order in (frames[::-1], [frames[0], *frames]):
        part = VideoPart(_part().video.model_copy(update={"frames": order}), _part().people)
        with pytest.raises(DataError, match="not in order"):
            write_video_data(tmp_path / "d", [part], **FIELDS)


@pytest.mark.parametrize("name", FILES)
def test_missing_and_torn_files_are_named(tmp_path, name):
    write_video_data(tmp_path / "d", [_part()], **FIELDS)
    path = tmp_path / "d" / name
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b""):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=name):
            VideoData(tmp_path / "d")
    path.unlink()
    with pytest.raises(DataError, match=name):
        VideoData(tmp_path / "d")


def test_verify_finds_what_opening_does_not(tmp_path, rendered_folder):
    folder = tmp_path / "d"

    def fresh():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(rendered_folder, folder)
        return VideoData(folder)

    people = np.array(fresh().people)
    people["joints"][0] += 1
    np.save(folder / "people.npy", people)
    with pytest.raises(DataError, match="digest"):
        verify(folder)
    data = fresh()
    image = data.root / data.index.videos[1].frames[3].file
    image.write_bytes(image.read_bytes()[:-40])
    with pytest.raises(DataError, match="digest"):
        verify(folder)
    image.unlink()
    with pytest.raises(DataError, match=image.name):
        verify(folder)
    fresh()
    index = json.loads((folder / "index.json").read_text())
    index["videos"][1]["start"] += 1
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="digest"):
        verify(folder)
    assert len(verify(rendered_folder).index.videos) == 4


def test_images_that_were_moved_are_found_again(tmp_path, posetrack):
    source, _, _ = posetrack
    catalog.prepare("posetrack18", tmp_path / "d", source)
    source.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="were they moved"):
        verify(tmp_path / "d")
    data = VideoData(tmp_path / "d", root=tmp_path / "elsewhere")
    assert (data.root / data.index.videos[0].frames[0].file).is_file()


def test_both_tasks_from_the_command_line(tmp_path, rendered_folder):
    done = CliRunner().invoke(data_command.app, ["verify", str(rendered_folder), "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["split"]: row for row in json.loads(done.stdout)}
    assert [rows[s]["videos"] for s in ("train", "val", "test")] == [2, 1, 1] and rows["train"]["frames"] == 16
    catalog.prepare("synthetic_motion", tmp_path / "m", settings={"subjects": 3, "trials": 1, "seconds": 1.0})
    assert isinstance(open_prepared(tmp_path / "m"), PreparedData)
    for content in ("{", "[]", "{}"):
        (tmp_path / "m" / "index.json").write_text(content)
        with pytest.raises(DataError, match="not an index"):
            open_prepared(tmp_path / "m")
