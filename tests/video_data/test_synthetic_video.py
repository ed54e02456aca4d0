import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posescale.data import catalog
from posescale.data.synthetic_video import motion
from posescale.data.synthetic_video import reader as reading
from posescale.data.synthetic_video.figure import PARTS_OF_JOINT, points_of
from posescale.data.synthetic_video.looks import draw_look
from posescale.data.synthetic_video.oracle import checks, interpolated
from posescale.data.synthetic_video.render import paint
from posescale.data.synthetic_video.scenario import draw_scenario
from posescale.data.synthetic_video.settings import Settings, Slot
from posescale.data.synthetic_video.writing import write_video
from posescale.data.video.prepared import VideoData
from posescale.data.video.skeletons import POSETRACK, STATES
from posescale.errors import ConfigError, DataError, UnavailableError

VISIBLE, SELF, OCCLUDER, BLURRED, OUT = range(5)
SMALL = {"width": 160, "height": 120, "frames": 6, "workers": 1}


def _digest(folder):
    content = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return content.hexdigest()


def _rendered(folder, **settings):
    catalog.prepare("synthetic_video", folder, settings=SMALL | {"train": 2, "val": 0, "test": 0} | settings)
    return folder / "rendered"


def test_it_is_posetrack18_with_every_state(small):
    people = small.people
    assert small.index.reported == "test" and small.index.settings["workers"] == 1
    assert set(np.unique(people["state"])) <= set(range(5)) and (people["state"] == OCCLUDER).any()
    out = people["state"] == OUT
    assert ((people["annotated"] == 0) == out).all(), "all joints but those outside the frame are annotated"
    x, y = people["joints"][..., 0], people["joints"][..., 1]
    assert (((x < 0) | (y < 0) | (x > 159) | (y > 119)) == out).all()
    path = small.root / "annotations" / "train" / f"{small.videos('train')[0].name}.json"
    content = json.loads(path.read_text())
    assert content["images"][0]["file_name"].startswith("images/train/") and content["images"][0]["nframes"] == 8
    assert set(content["annotations"][0]) >= {"bbox", "bbox_head", "keypoints", "track_id", "image_id", "category_id"}
    heads = 0.6 * np.hypot(people["head"][:, 2], people["head"][:, 3])
    assert (heads > 2).all() and (heads < people["box"][:, 3]).all()


def test_a_video_is_the_same_whatever_stands_beside_it(tmp_path):
    first = _rendered(tmp_path / "a")
    second = _rendered(tmp_path / "b", train=3, val=1)
    name = Slot("train", 1).name
    for part in ("images", "annotations", "states"):
        mine = sorted(p for p in (first / part / "train").rglob("*") if name in str(p) and p.is_file())
        assert mine
        for path in mine:
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()
    assert VideoData(tmp_path / "a").index.digest != VideoData(tmp_path / "b").index.digest


def test_processes_change_nothing(tmp_path):
    one, two = _rendered(tmp_path / "a"), _rendered(tmp_path / "b", workers=2)
    assert _digest(one) == _digest(two)
    assert VideoData(tmp_path / "a").index.digest == VideoData(tmp_path / "b").index.digest


def test_seeds_differ(tmp_path):
    assert _digest(_rendered(tmp_path / "a", train=1)) != _digest(_rendered(tmp_path / "b", train=1, seed=1))


VIDEO = """
import sys
from pathlib import Path
from posescale.data.synthetic_video.settings import Settings, Slot
from posescale.data.synthetic_video.writing import write_video
settings = Settings(frames=4, width=160, height=120, second_person=1, defocus=0.5)
write_video(Path(sys.argv[1]), Slot("train", 5), settings)
"""


def test_bytes_do_not_depend_on_the_processors_vector_units(tmp_path):
    """NumPy's and OpenCV's fast paths are switched off in one of two processes."""
    plain = {"NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4", "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FMA3,AVX"}
    for name, variables in (("a", {}), ("b", plain)):
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", VIDEO, str(tmp_path / name)], check=True,
            env=os.environ | variables, capture_output=True, timeout=120,
        )  # fmt: skip
    assert _digest(tmp_path / "a") == _digest(tmp_path / "b")


def test_an_interrupted_rendering_goes_on(tmp_path, monkeypatch):
    whole = _digest(_rendered(tmp_path / "whole", train=3))
    written = []

    def stopping(folder, slot, settings):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(slot.number)
        write_video(folder, slot, settings)

    monkeypatch.setattr(reading, "write_video", stopping)
    with pytest.raises(KeyboardInterrupt):
        _rendered(tmp_path / "d", train=3)
    assert not (tmp_path / "d").exists()
    again = []
    monkeypatch.setattr(reading, "write_video", lambda *a: (again.append(a[1].number), write_video(*a)))
    assert _digest(_rendered(tmp_path / "d", train=3)) == whole
    assert written == [1, 2] and again == [3]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "whole"], "nothing is left beside it"


def test_a_full_disk_is_told_and_loses_nothing(tmp_path, monkeypatch):
    _rendered(tmp_path / "d", train=1)
    before = _digest(tmp_path / "d")

    def full(*_):
        raise OSError(28, "No space left on device", "frame")

    monkeypatch.setattr(reading, "write_video", full)
    with pytest.raises(DataError, match="No space left"):
        _rendered(tmp_path / "d", train=1, seed=3)
    assert _digest(tmp_path / "d") == before


@pytest.mark.parametrize(
    "settings", [{"train": 0, "val": 0, "test": 0}, {"frames": 1}, {"motion": "dance"}, {"colour": 3}, {"seed": -1}]
)
def test_wrong_settings_are_refused(tmp_path, settings):
    with pytest.raises(ConfigError):
        catalog.prepare("synthetic_video", tmp_path / "d", settings=settings)
    assert list(tmp_path.iterdir()) == []


def test_missing_captured_motion_is_told(tmp_path):
    with pytest.raises(UnavailableError, match="CMU"):
        _rendered(tmp_path / "d", motion="cmu_mocap", motion_source=str(tmp_path))


@pytest.mark.shared
def test_captured_motion_is_rendered(tmp_path, shared):
    source = str(shared / "data" / "cmu_mocap")
    _rendered(tmp_path / "d", train=1, test=1, motion="cmu_mocap", motion_source=source)
    assert len(VideoData(tmp_path / "d").people) >= 10


def test_states_without_their_video_or_against_it_are_refused(tmp_path):
    root = _rendered(tmp_path / "d", train=1)
    path = next((root / "states").rglob("*.json"))
    whole = path.read_text()

    def refused(change, words):
        content = json.loads(whole)
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=words):
            list(reading.read(root, Settings()).videos)

    refused(lambda c: c["frames"].pop(), "no states of all joints")
    refused(lambda c: c["frames"][0][0]["state"].pop(), "no states of all joints")
    refused(lambda c: c["frames"][0][0].update(position=[[0, 0]] * 15), "lies elsewhere")
    path.write_text(whole[:50])
    with pytest.raises(DataError, match=path.name):
        list(reading.read(root, Settings()).videos)


def _scenario(number, **settings):
    options = Settings(**SMALL | {"hiders": 0.5, "second_person": 0} | settings)
    slot = Slot("train", number)
    return slot, draw_scenario(slot, options), options


def _near(image, joint):
    x, y = np.rint(joint).astype(int)
    return image[max(y, 0) : y + 1, max(x, 0) : x + 1].astype(int)


def test_what_is_called_hidden_is_hidden_and_what_is_called_visible_is_not():
    """Rendered again without the things before the people, hidden joints change and visible ones do not."""
    changed = {VISIBLE: [], OCCLUDER: []}
    for number in range(6):
        slot, scenario, options = _scenario(number, jerks=0, defocus=0, dropped=0)
        bare = dataclasses.replace(scenario, before=[])
        pairs = zip(*(paint(s, options.width, options.height, slot.rng(0, "noise")) for s in (scenario, bare)))
        for frame, (with_things, without) in enumerate(pairs):
            for k, joint in enumerate(scenario.actors[0].joints[frame]):
                state = with_things.states[0, k]
                if state in changed and without.states[0, k] == VISIBLE:
                    before, after = (_near(p.image, joint) for p in (without, with_things))
                    changed[state].append(bool((np.abs(before - after) > 3).any()))
    assert len(changed[OCCLUDER]) > 30 and np.mean(changed[OCCLUDER]) > 0.95
    assert len(changed[VISIBLE]) > 200 and np.mean(changed[VISIBLE]) < 0.1


def test_visible_joints_lie_on_the_body():
    """Rendered again without the person, the picture changes where the person's visible joints are."""
    touched = []
    for number in range(5):
        slot, scenario, options = _scenario(number, hiders=0, jerks=0, defocus=0, dropped=0)
        bare = dataclasses.replace(scenario, actors=scenario.actors, shadows=[])
        empty = dataclasses.replace(bare, actors=[])
        shown = paint(bare, options.width, options.height, slot.rng(0, "noise"))
        for frame, painted in enumerate(shown):
            background = next(
                p for n, p in enumerate(_empty(empty, options, slot)) if n == frame
            )  # fmt: skip
            for k, joint in enumerate(scenario.actors[0].joints[frame]):
                if painted.states[0, k] == VISIBLE and POSETRACK.joints[k] != "head_top":  # which lies on the edge
                    touched.append(bool((np.abs(_near(painted.image, joint) - _near(background, joint)) > 3).any()))
    assert len(touched) > 150 and np.mean(touched) > 0.9


def _empty(scenario, options, slot):
    from posescale.data.synthetic_video.scene import seen

    for frame in range(options.frames):
        image = seen(
            scenario.backdrop, scenario.zoom[frame, 12], scenario.offset[frame, 12], options.width, options.height
        )
        for thing in scenario.behind:
            thing.draw(image, frame)
        yield image


def test_blur_blanks_and_repeats_are_logged():
    slot, scenario, options = _scenario(3, hiders=0)
    off = np.zeros(options.frames)
    scenario = dataclasses.replace(
        scenario, defocus=off + [0, 6, 0, 0, 0, 0], coarse=off.astype(int) + [1, 1, 8, 1, 1, 1],
        blank=off.astype(bool) | [0, 0, 0, 1, 0, 0], repeated=off.astype(bool) | [0, 0, 0, 0, 0, 1],
    )  # fmt: skip
    painted = list(paint(scenario, options.width, options.height, slot.rng(0, "noise")))
    for frame in (1, 2):
        assert set(painted[frame].states[0]) <= {BLURRED, SELF, OUT}
    assert set(painted[3].states[0]) <= {OCCLUDER, OUT} and painted[3].image.std() < 15
    assert (painted[5].image == painted[4].image).all() and (painted[5].states == painted[4].states).all()


def test_labels_of_a_repeated_frame_are_those_of_the_picture(tmp_path):
    options = Settings(**SMALL | {"frames": 30, "dropped": 0.3})
    slot = Slot("val", 300_001)
    scenario = draw_scenario(slot, options)
    write_video(tmp_path, slot, options)
    frames = json.loads((tmp_path / "states" / "val" / f"{slot.name}.json").read_text())["frames"]
    repeats = [n for n in range(1, 30) if scenario.repeated[n]]
    assert repeats
    for n in repeats:
        assert frames[n] == frames[n - 1]


def test_jerks_smear_whole_frames():
    _, scenario, _ = _scenario(2, jerks=1, hiders=0)
    calm = _scenario(2, jerks=0, hiders=0)[1]
    assert np.abs(scenario.offset[:, 11] - scenario.offset[:, 0]).max() > 8
    assert np.abs(calm.offset[:, 11] - calm.offset[:, 0]).max() < 4


def test_garments_do_not_tell_left_from_right():
    looks = [draw_look(np.random.default_rng(n)) for n in range(300)]
    odd = [part for look in looks for part in look.sides]
    assert 0.2 < len(odd) / 300 < 0.4 and 0.35 < np.mean([part.startswith("l_") for part in odd]) < 0.65


def test_nobody_is_in_two_splits():
    ranges = [set(range(first, first + count)) for first, count in motion.SUBJECTS.values()]
    assert sum(map(len, ranges)) == len(set.union(*ranges)) == 1000
    numbers = [slot.number for slot in Settings().slots()]
    assert len(set(numbers)) == len(numbers) == 92


def test_left_and_right_are_the_persons():
    """Seen from the front, a person's left is on the picture's right."""
    rng = np.random.default_rng(0)
    joints = motion.draw_motion(rng, "train", 0.5, 0, None)
    points = points_of(joints)
    left = points[:, 4] - points[:, 1]
    face = points[:, 22] - points[:, 21]
    turn = np.cross(left, face)[:, 2]
    assert (turn < 0).mean() > 0.9, "left x forward points down"
    assert all(len(parts) >= 1 for parts in PARTS_OF_JOINT)


def test_the_oracle_bridges_what_neighbours_show():
    frames = np.arange(8.0)
    joints = np.stack([frames * 3, frames * -2], 1)[:, None]
    seen = np.ones((8, 1), bool)
    assert np.allclose(interpolated(joints, seen)[1:-1], joints[1:-1]), "a straight line is found again"
    assert np.allclose(interpolated(joints, seen)[0], joints[1]), "the one sight there is"
    seen[2:5] = False
    hidden = interpolated(joints, seen)[2:5]
    assert np.allclose(hidden[1], joints[3]) and np.allclose(hidden[[0, 2]], joints[[1, 5]])
    seen[1:6] = False
    middle = interpolated(joints, seen)[3]
    assert np.isnan(middle).all(), "five hidden frames cannot be bridged from two to either side"


def test_checks_count_what_cannot_be_bridged_as_lost():
    joints = np.zeros((10, 1, 2))
    state = np.full((10, 1), VISIBLE)
    state[2:9] = OCCLUDER
    found = checks([(joints, state, np.full(10, 10.0))])
    assert found["share_occluder"] == 0.7 and found["oracle_occluder_bridged"] == pytest.approx(4 / 7, abs=1e-4)
    assert found["oracle_occluder_below_0.3"] == pytest.approx(4 / 7, abs=1e-4) and "oracle_blurred_median" not in found


def test_most_hidden_joints_can_be_bridged(tmp_path):
    """At the default rates, over eight videos: what the generator promises of its own data."""
    settings = {"train": 8, "val": 0, "test": 0, "width": 160, "height": 120, "frames": 30, "workers": 1}
    catalog.prepare("synthetic_video", tmp_path / "d", settings=settings)
    found = VideoData(tmp_path / "d").index.checks
    assert 0.05 < found["share_occluder"] < 0.25 and 0.04 < found["share_blurred"] < 0.25
    assert found["share_visible"] > 0.4
    assert found["oracle_occluder_below_0.3"] > 0.45 and found["oracle_blurred_below_0.3"] > 0.5
    assert found["oracle_occluder_bridged"] < 1, "some stay hidden too long: the control"


def test_detections_are_boxes_of_people(small):
    for split in ("train", "test"):
        rows, people = small.detections[small.rows(split, "detections")], small.people[small.rows(split)]
        best = [max((_iou(box, p["box"]) for p in people[people["frame"] == f]), default=0) for f, box, _ in rows]
        assert np.mean(np.array(best) > 0.5) > 0.7 and (rows["score"] > 0).all() and (rows["score"] <= 1).all()


def _iou(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[:2] + a[2:], b[:2] + b[2:])
    shared = np.prod(np.maximum(high - low, 0))
    return shared / (np.prod(a[2:]) + np.prod(b[2:]) - shared)


def test_states_are_named_as_declared():
    assert STATES[:5] == ("visible", "self_occluded", "occluder", "blurred", "out_of_frame")
    assert Path(reading.__file__).parent.name == "synthetic_video"
