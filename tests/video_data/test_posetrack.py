import json

import numpy as np
import pytest
from damaged_files import edited

from posescale.data import catalog
from posescale.data.video.posetrack17 import read_file as read17
from posescale.data.video.posetrack18 import read_file as read18
from posescale.data.video.posetrack18 import with_detections
from posescale.data.video.prepared import VideoData
from posescale.data.video.skeletons import COCO_SLOTS, POSETRACK, SLOT_OF_JOINT, STATES
from posescale.data.video.submission import write_ground_truth
from posescale.data.video.verify import verify
from posescale.errors import DataError


def test_the_original_layout_is_prepared(tmp_path, posetrack, small):
    source, _, _ = posetrack
    index = catalog.prepare("posetrack18", tmp_path / "d", source)
    data = verify(tmp_path / "d")
    assert index.protocol == "posetrack_gt_boxes" and index.reported == "val" and data.root == source.resolve()
    mine, theirs = data.people, small.people[small.rows("val")]
    there = mine["annotated"] > 0
    assert len(mine) == len(theirs) and (mine["annotated"] == theirs["annotated"]).all()
    assert (mine["joints"][there] == theirs["joints"][there]).all() and (mine["box"] == theirs["box"]).all()
    assert (mine["state"] == -1).all(), "PoseTrack18's flag does not tell occluded joints"
    assert len(data.detections) == len(small.rows("val", "detections"))


def test_joints_are_mapped_by_name(posetrack):
    source, path, _ = posetrack
    raw = json.loads(path.read_text())
    slots = np.array(raw["annotations"][0]["keypoints"]).reshape(17, 3)
    [part] = read18(path, source, "val")
    for k, name in enumerate(POSETRACK.joints):
        slot = COCO_SLOTS.index("head_bottom" if name == "neck" else name)
        assert (part.people["joints"][0, k] == slots[slot, :2]).all()

    def reverse(content):
        content["categories"][0]["keypoints"].reverse()
        for person in content["annotations"]:
            person["keypoints"] = np.array(person["keypoints"]).reshape(17, 3)[::-1].ravel().tolist()

    edited(path, reverse)
    [again] = read18(path, source, "val")
    assert (again.people["joints"] == part.people["joints"]).all()


def test_a_joint_counts_unless_it_is_all_zero_and_flag_zero_means_occluded(posetrack):
    source, path, _ = posetrack

    def change(content):
        keypoints = content["annotations"][0]["keypoints"]
        keypoints[:3] = [5.0, 6.0, 0]
        keypoints[3:6] = [0, 7.0, 1]
        keypoints[6:9] = [0, 0, 0]

    edited(path, change)
    nose, neck, top = (SLOT_OF_JOINT.index(slot) for slot in (0, 1, 2))
    [part] = read18(path, source, "val")
    person = part.people[0]
    assert person["annotated"][[nose, neck, top]].tolist() == [1, 1, 0]
    assert person["state"][nose] == STATES.index("occluded")
    [part] = read18(path, source, "val", flags_occlusion=True)
    person = part.people[0]
    assert person["annotated"][[nose, neck, top]].tolist() == [1, 0, 0], "PoseTrack21's kit wants x and y above 0"
    assert set(person["state"][3:9]) == {STATES.index("visible")}


def test_files_on_disk_serve_as_unlabelled_neighbours(posetrack):
    source, path, _ = posetrack

    def change(content):
        keep = {content["images"][n]["id"] for n in (2, 3)}
        content["images"] = [i for i in content["images"] if i["id"] in keep]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] in keep]

    edited(path, change)
    [part] = read18(path, source, "val")
    assert [f.number for f in part.video.frames] == list(range(8))
    assert [f.labelled for f in part.video.frames] == [n in (2, 3) for n in range(8)]


def test_merged_files_hold_many_videos(tmp_path, rendered_folder, small):
    root = rendered_folder / "rendered"
    merged = {"images": [], "annotations": [], "categories": []}
    for path in sorted((root / "annotations" / "train").glob("*.json")):
        one = json.loads(path.read_text())
        merged = {key: merged[key] + one[key] for key in ("images", "annotations")} | {"categories": one["categories"]}
    path = tmp_path / "posetrack18_train.json"
    path.write_text(json.dumps(merged))
    parts = list(read18(path, root, "train"))
    assert [p.video.name for p in parts] == [v.name for v in small.videos("train")]
    assert sum(len(p.people) for p in parts) == len(small.rows("train"))


def _drop(key, entry):
    return lambda content: content[key][0].pop(entry)


def _set(key, entry, value):
    return lambda content: content[key][0].__setitem__(entry, value)


DAMAGE_18 = {
    "no image id of a person": (_drop("annotations", "image_id"), r"annotations\[0\]\.image_id.*required"),
    "no file name": (_drop("images", "file_name"), "file_name"),
    "wrong keypoint count": (_set("annotations", "keypoints", [1.0] * 50), "50 numbers; expected 51"),
    "NaN": (lambda c: c["annotations"][0]["keypoints"].__setitem__(0, float("nan")), "finite"),
    "text for a number": (_set("annotations", "bbox", ["a", 1, 2, 3]), "bbox"),
    "short box": (_set("annotations", "bbox", [1, 2, 3]), "expected x, y, width, height"),
    "negative box": (_set("annotations", "bbox", [1, 2, -3, 4]), "expected x, y, width, height"),
    "unknown image": (_set("annotations", "image_id", 5), "image 5, which `images` does not list"),
    "no head box": (_drop("annotations", "bbox_head"), "no bbox_head"),
    "head box of nothing": (_set("annotations", "bbox_head", [0, 0, 0, 0]), "no bbox_head"),
    "absent frame": (_set("images", "file_name", "images/val/{video}/000777.jpg"), "000777.jpg: missing"),
    "frame without a number": (_set("images", "file_name", "images/val/{video}/first.jpg"), "no number in its name"),
    "no id at all": (lambda c: (c["images"][0].pop("id"), c["images"][0].pop("frame_id")), "neither id nor frame_id"),
    "image twice": (lambda c: c["images"].append(c["images"][0]), "image id is there twice"),
    "frame twice": (lambda c: c["images"].append(c["images"][0] | {"id": 1}), "is there twice"),
    "two categories": (lambda c: c["categories"].append(c["categories"][0]), "2 categories"),
    "a joint missing": (lambda c: c["categories"][0]["keypoints"].__setitem__(0, "beak"), "has no nose"),
    "uneven ignore region": (
        lambda c: c["images"][0].update(ignore_regions_x=[[1, 2, 3]], ignore_regions_y=[[1, 2]]), "not of one length",
    ),
    "sizes differ": (_set("images", "width", 17), "different sizes"),
    "no images": (lambda c: c.update(images=[], annotations=[]), "no image at all"),
    "not the format": (lambda c: c.clear(), "Field required"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE_18)
def test_damaged_posetrack18_files_are_refused_in_words(tmp_path, posetrack, name):
    source, path, _ = posetrack
    change, words = DAMAGE_18[name]
    edited(path, change)
    path.write_text(path.read_text().replace("{video}", path.stem))
    with pytest.raises(DataError, match=words) as refusal:
        catalog.prepare("posetrack18", tmp_path / "d", source)
    assert path.stem in str(refusal.value) and not (tmp_path / "d").exists()


@pytest.mark.parametrize("size", [0, 1, 200, -1])
def test_truncated_files_are_refused(posetrack, size):
    source, path, boxes = posetrack
    for torn in (path, boxes):
        torn.write_text(torn.read_text()[:size])
        with pytest.raises(DataError, match=torn.name):
            list(with_detections(read18(path, source, "val"), boxes))


def test_a_missing_source_is_told_with_how_to_get_it(tmp_path):
    from posescale.errors import UnavailableError

    for id in ("posetrack17", "posetrack18", "posetrack21", "jhmdb"):
        with pytest.raises(UnavailableError, match=r"How to get it: .*\w"):
            catalog.prepare(id, tmp_path / "d", tmp_path)


def test_strictness_can_be_chosen(tmp_path, posetrack):
    source, path, _ = posetrack
    edited(path, lambda c: c["annotations"][0].pop("bbox_head"))
    index = catalog.prepare("posetrack18", tmp_path / "d", source, {"heads": "optional", "detections": "none"})
    data = VideoData(tmp_path / "d")
    assert (
        np.isnan(data.people["head"][0]).all() and len(data.detections) == 0 and index.settings["heads"] == "optional"
    )
    for image in (source / "images" / "val" / path.stem).iterdir():
        image.unlink()
    catalog.prepare("posetrack18", tmp_path / "d", source, {"heads": "optional", "images": "optional"})
    assert len(VideoData(tmp_path / "d").people) == len(data.people)
    verify(tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c[0].pop("score"), "score"),
        (lambda c: c[0].update(bbox=[1, 2, 3]), "bbox"),
        (lambda c: c[0].update(bbox=[1, 2, 0, 5]), "width and height above 0"),
        (lambda c: c[0].update(bbox=[1, 2, float("inf"), 5]), "finite"),
        (lambda c: c[0].update(image_id=3), "none of the 1 videos"),
    ],
)
def test_damaged_detections_are_refused(posetrack, change, words):
    source, path, boxes = posetrack
    edited(boxes, change)
    with pytest.raises(DataError, match=words):
        list(with_detections(read18(path, source, "val"), boxes))


@pytest.fixture
def posetrack17(tmp_path, small):
    """An annolist of the test video, its images where DCPose's copy has them."""
    [path] = write_ground_truth(tmp_path / "annotations" / "val", small, "test", "posetrack17")
    images = tmp_path / "images_renamed" / "test"
    images.parent.mkdir()
    images.symlink_to(small.root / "images" / "test")
    return tmp_path, path


def test_posetrack17_round_trip(posetrack17, small):
    root, path = posetrack17
    [part] = read17(path, root, "val")
    theirs = small.people[small.rows("test")]
    there = theirs["annotated"] > 0
    assert (part.people["annotated"] == theirs["annotated"]).all()
    assert (part.people["joints"][there] == theirs["joints"][there]).all()
    np.testing.assert_allclose(part.people["head"], theirs["head"], atol=1e-9)
    assert part.video.name == path.stem and (part.video.width, part.video.height) == (160, 120)
    low, high = part.people["joints"][0].min(0), part.people["joints"][0].max(0)
    if there[0].all():
        np.testing.assert_allclose(part.people["box"][0][2:], (high - low) * 1.3)


def _person(content):
    return next(frame["annorect"][0] for frame in content["annolist"] if frame["annorect"])


DAMAGE_17 = {
    "no annolist": (lambda c: c.clear(), "annolist"),
    "empty": (lambda c: c.update(annolist=[]), "annolist"),
    "no image": (lambda c: c["annolist"][0].update(image=[]), r"annolist\[0\]\.image"),
    "no track": (lambda c: _person(c).pop("track_id"), "track_id"),
    "a bare number": (lambda c: _person(c).update(x1=3.0), "x1"),
    "two numbers": (lambda c: _person(c).update(x1=[3.0, 4.0]), "x1"),
    "no head box": (lambda c: _person(c).pop("x1"), "no head box"),
    "NaN": (lambda c: _person(c)["annopoints"][0]["point"][0].update(x=[float("nan")]), "finite"),
    "no y": (lambda c: _person(c)["annopoints"][0]["point"][0].pop("y"), "y: Field required"),
    "joint 15": (lambda c: _person(c)["annopoints"][0]["point"][0].update(id=[15]), "expected 0 to 14"),
    "joint without id": (lambda c: _person(c)["annopoints"][0]["point"][0].pop("id"), "a joint of id None"),
    "joint twice": (
        lambda c: _person(c)["annopoints"][0]["point"].append(_person(c)["annopoints"][0]["point"][0]), "there twice",
    ),
    "absent frame": (lambda c: c["annolist"][0]["image"][0].update(name="images/test/gone/000000.jpg"), "2 folders"),
    "no frame of that number": (
        lambda c: c["annolist"][0]["image"][0].update(
            name=c["annolist"][0]["image"][0]["name"].replace("000000", "000444")
        ), "000444.jpg: missing",
    ),
    "frame twice": (lambda c: c["annolist"].append(c["annolist"][0]), "is there twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE_17)
def test_damaged_posetrack17_files_are_refused_in_words(posetrack17, name):
    root, path = posetrack17
    change, words = DAMAGE_17[name]
    edited(path, change)
    with pytest.raises(DataError, match=words) as refusal:
        list(read17(path, root, "val"))
    assert path.stem in str(refusal.value)


def test_posetrack17_and_21_are_prepared(tmp_path, posetrack17, posetrack):
    root, path = posetrack17
    index = catalog.prepare("posetrack17", tmp_path / "d17", root)
    assert [v.name for v in index.videos] == [path.stem] and verify(tmp_path / "d17")
    source, _, _ = posetrack
    (source / "annotations").rename(source / "posetrack_data")
    catalog.prepare("posetrack21", tmp_path / "d21", source)
    people = VideoData(tmp_path / "d21").people
    assert set(people["state"][people["annotated"] > 0]) == {STATES.index("visible")}
