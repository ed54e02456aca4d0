"""PoseTrack AP against the official poseval on a fixture, against a slow twin, and by its properties."""

import json

import numpy as np
import pytest
from posetrack_json import person, random_video, slow_ap, video, write_17, write_18

from posescale.errors import DataError
from posescale.metrics import posetrack_ap, posetrack_by_sequence, posetrack_table
from posescale.metrics.posetrack import GROUPS, JOINTS

GRID = np.stack([np.arange(15) * 20.0 + 100, np.arange(15) * 10.0 + 100], axis=1)


def scored(folder, truth, found, write=write_18, write_found=None, rule="poseval"):
    """The table of lists of frames; each write goes to its own folder."""
    (write_found or write)(folder / "pred" / "a.json", video(*found), prediction=True)
    write(folder / "gt" / "a.json", truth if isinstance(truth, dict) else video(*truth))
    return posetrack_table(folder / "gt", folder / "pred", rule)


@pytest.mark.shared
def test_official_fixture(shared):
    folder = shared / "data/samples/posetrack18/fixture"
    expected = json.loads((folder / "expected_AP.json").read_text())
    tables = posetrack_by_sequence(folder / "gt", folder / "pred") | {
        "all": posetrack_table(folder / "gt", folder / "pred")
    }
    for name, table in tables.items():
        official = expected[name]
        assert table.frames == official["frames_scored"]
        assert list(table.annotated.values()) == official["gt_joints"]
        assert list(table.predicted.values()) == official["predicted_joints"]
        for quantity, found in (("AP", table.ap), ("precision", table.precision), ("recall", table.recall)):
            for joint, value in official[quantity].items():
                assert found[joint] == pytest.approx(value, abs=1e-6)
        for group, value in official["table"].items():
            assert table.ap["total" if group == "Total" else group] == pytest.approx(value, abs=1e-6)
        assert sum(table.tied.values()) == official["max_tied_scores_in_a_joint"] == 0 and not table.ties_matter


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("write", [write_17, write_18])
def test_slow_twin(tmp_path, seed, write):
    rng = np.random.default_rng(seed)
    pairs = [random_video(rng) for _ in range(2)]
    for number, (truth, found) in enumerate(pairs):
        write(tmp_path / "gt" / f"{number}.json", video(*truth))
        write(tmp_path / "pred" / f"{number}.json", video(*found), prediction=True)
    ap = posetrack_ap(tmp_path / "gt", tmp_path / "pred")
    expected = slow_ap([t for t, _ in pairs], [f for _, f in pairs])
    np.testing.assert_allclose([ap[joint] for joint in JOINTS], expected, rtol=0, atol=1e-9)
    assert ap["total"] == pytest.approx(np.mean(expected))
    for group, joints in GROUPS.items():
        assert ap[group] == pytest.approx(np.mean([ap[joint] for joint in joints]))


def test_perfect_predictions(tmp_path):
    truth, _ = random_video(np.random.default_rng(0))
    found = [[person(p["xy"], present=p["present"], scores=np.full(15, 0.5)) for p in people] for people in truth]
    table = scored(tmp_path, truth, found)
    assert set(table.ap.values()) == {100.0} and not table.ties_matter
    assert table.tied == table.annotated


def test_only_the_order_of_scores_counts_and_not_that_of_people(tmp_path):
    truth, found = random_video(np.random.default_rng(1))
    before = scored(tmp_path / "a", truth, found).ap
    changed = [[person(p["xy"], present=p["present"], scores=np.exp(5 * p["scores"]) - 9) for p in people[::-1]]
               for people in found]  # fmt: skip
    assert scored(tmp_path / "b", [people[::-1] for people in truth], changed).ap == pytest.approx(before)


def test_a_second_prediction_of_one_person_is_a_miss(tmp_path):
    truth = [[person(GRID)]]
    good, worse = person(GRID, scores=np.full(15, 0.4)), person(GRID, scores=np.full(15, 0.9))
    worse["xy"] = np.concatenate(
        [GRID[:1] + 500, GRID[1:]]
    )  # hits one joint less, so the other prediction is taken although its scores are lower
    table = scored(tmp_path, truth, [[good, worse]])
    assert set(table.ap.values()) == {50.0} and table.precision["total"] == 50.0 and table.recall["total"] == 100.0


def test_the_first_of_equals_is_taken(tmp_path):
    twins = [person(GRID, scores=np.full(15, s)) for s in (0.1, 0.9)]
    assert scored(tmp_path, [[person(GRID)]], [twins]).ap["total"] == 50.0
    assert scored(tmp_path, [[person(GRID)]], [twins[::-1]]).ap["total"] == 100.0


def test_a_joint_on_the_threshold_hits(tmp_path):
    # Head 30 x 40: diagonal 50, size 30, threshold 15 pixels.
    at, beyond = (person(GRID + [d, 0], scores=np.ones(15)) for d in (15.0, 15.001))
    assert scored(tmp_path / "a", [[person(GRID)]], [[at]]).ap["total"] == 100.0
    assert scored(tmp_path / "b", [[person(GRID)]], [[beyond]]).ap["total"] == 0.0


def test_a_predicted_joint_that_is_not_annotated_is_a_miss(tmp_path):
    without_nose = np.arange(15) != JOINTS.index("nose")
    truth = [[person(GRID, present=without_nose)], [person(GRID)]]
    found = [[person(GRID, scores=np.full(15, s))] for s in (0.9, 0.5)]
    table = scored(tmp_path, truth, found)
    assert table.ap["nose"] == 50.0 and table.ap["left_knee"] == 100.0


def test_a_joint_nobody_has_annotated(tmp_path):
    without_nose = np.arange(15) != JOINTS.index("nose")
    truth, found = [[person(GRID, present=without_nose)]], [[person(GRID, scores=np.ones(15))]]
    table = scored(tmp_path / "a", truth, found)
    assert np.isnan(table.ap["nose"]) and np.isnan(table.ap["Head"]) and table.ap["total"] == 100.0
    unseen = scored(tmp_path / "b", truth, [[person(GRID, present=without_nose, scores=np.ones(15))]])
    assert unseen.ap["nose"] == 0.0 and unseen.ap["total"] == pytest.approx(100 * 14 / 15)
    kit = scored(tmp_path / "c", truth, found, rule="posetrack21")
    assert kit.ap["nose"] == 0.0 and kit.ap["total"] == pytest.approx(100 * 14 / 15)


@pytest.mark.parametrize("write", [write_17, write_18])
def test_frames_without_people_are_dropped_and_frames_without_joints_are_not(tmp_path, write):
    nobody, pointless = [], [person(GRID, present=np.zeros(15, bool))]
    seen = [person(GRID, scores=np.full(15, 0.9))]
    hit = [person(GRID, scores=np.full(15, 0.5))]
    dropped = scored(tmp_path / "a", [nobody, [person(GRID)]], [seen, hit], write)
    assert dropped.ap["total"] == 100.0 and dropped.frames == 1
    kept = scored(tmp_path / "b", [pointless, [person(GRID)]], [seen, hit], write)
    assert kept.ap["total"] == 50.0 and kept.frames == 2


@pytest.mark.parametrize("write", [write_17, write_18])
def test_ignore_regions(tmp_path, write):
    left = [[0, 0], [GRID[4, 0], 0], [GRID[4, 0], 400], [0, 400]]  # holds joints 0..3; joint 4 lies on its border
    found = [[person(GRID, scores=np.ones(15))]]
    table = scored(tmp_path, video([person(GRID)], regions=[left]), found, write)
    assert list(table.annotated.values()) == [0] * 4 + [1] * 11 == list(table.predicted.values())
    assert table.ap["total"] == pytest.approx(100 * 11 / 15)  # without annotation and prediction: 0, as poseval has it


def test_a_region_over_everybody_leaves_false_positives_outside_it(tmp_path):
    region = [[0, 0], [900, 0], [900, 900], [0, 900]]
    outside = person(GRID + 1000, scores=np.full(15, 0.9))
    truth = video([person(GRID)], [person(GRID + 1000)], regions=[region])
    table = scored(tmp_path, truth, [[outside], [replace_scores(outside, 0.5)]])
    assert table.frames == 2 and table.ap["total"] == 50.0


def replace_scores(one, score):
    return one | {"scores": np.full(15, score)}


def test_missing_scores_come_last(tmp_path):
    truth = [[person(GRID)], [person(GRID)]]
    found = [[person(GRID + 500)], [person(GRID, scores=np.full(15, -5000.0))]]
    assert scored(tmp_path, truth, found).ap["total"] == 50.0  # the hit, then the miss: half of the recall at 1


def test_ties_are_reported(tmp_path, caplog):
    truth = [[person(GRID)], [person(GRID)]]
    found = [[person(GRID + d, scores=np.full(15, 0.5))] for d in (500, 0)]
    table = scored(tmp_path, truth, found)
    assert table.ties_matter and set(table.tied.values()) == {2}
    assert table.bounds["total"] == (25.0, 50.0) and table.bounds["nose"] == (25.0, 50.0)
    posetrack_ap(tmp_path / "gt", tmp_path / "pred")
    assert "30 predicted joints share their scores" in caplog.text
    alike = scored(tmp_path / "b", truth, [[person(GRID, scores=np.full(15, 0.5))]] * 2)
    assert not alike.ties_matter and set(alike.tied.values()) == {2}


def test_formats_may_be_mixed(tmp_path):
    truth, found = random_video(np.random.default_rng(2))
    one = scored(tmp_path / "a", truth, found, write_18)
    assert scored(tmp_path / "b", truth, found, write_17, write_18).ap == one.ap
    assert scored(tmp_path / "c", truth, found, write_18, write_17).ap == one.ap


def test_posetrack21_needs_positive_coordinates(tmp_path):
    moved = GRID - [GRID[0, 0], 0]  # the first joint at x = 0
    found = [[person(moved, scores=np.ones(15))]]
    assert scored(tmp_path / "a", [[person(moved)]], found).annotated["right_ankle"] == 1
    kit = scored(tmp_path / "b", [[person(moved)]], found, rule="posetrack21")
    assert kit.annotated["right_ankle"] == kit.predicted["right_ankle"] == 0 and kit.ap["nose"] == 100.0


def test_posetrack21_scores_labelled_frames_without_people(tmp_path):
    seen = [person(GRID, scores=np.full(15, 0.9))]
    scored(tmp_path, [[], [person(GRID)]], [seen, [replace_scores(seen[0], 0.5)]])
    path = tmp_path / "gt" / "a.json"
    content = json.loads(path.read_text())
    content["images"][0]["is_labeled"] = True
    path.write_text(json.dumps(content))
    assert posetrack_ap(tmp_path / "gt", tmp_path / "pred", "posetrack21")["total"] == 50.0
    assert posetrack_ap(tmp_path / "gt", tmp_path / "pred")["total"] == 100.0
    del content["images"][0]["is_labeled"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is_labeled"):
        posetrack_ap(tmp_path / "gt", tmp_path / "pred", "posetrack21")


def test_a_head_without_size_is_never_hit(tmp_path):
    assert scored(tmp_path, [[person(GRID, head=(5, 5, 0, 0))]], [[person(GRID, scores=np.ones(15))]]).ap["total"] == 0


class TestRefused:
    @pytest.fixture
    def files(self, tmp_path):
        frames = [[person(GRID)], [person(GRID)], [person(GRID)]]
        found = [[person(GRID, scores=np.ones(15))]] * 3
        scored(tmp_path, frames, found)
        return tmp_path

    def refuse(self, folder, *words):
        with pytest.raises(DataError) as error:
            posetrack_ap(folder / "gt", folder / "pred")
        for word in words:
            assert word in str(error.value)

    def edit(self, path, change):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    def test_a_missing_frame(self, files):
        self.edit(files / "pred/a.json", lambda c: c["images"].pop(1))
        self.edit(files / "pred/a.json", lambda c: c["annotations"].pop(1))
        self.refuse(files, "pred/a.json", "2 frames", "has 3", "10000010001 is missing")

    def test_other_frames(self, files):
        write_18(files / "pred/a.json", video(*[[person(GRID)]] * 3), prediction=True, start=5)
        self.refuse(files, "frame 0 is 10000010005", "10000010000")

    def test_a_missing_file(self, files):
        (files / "pred/a.json").unlink()
        self.refuse(files, "a.json", "no such file")

    def test_an_empty_folder(self, files):
        (files / "gt/a.json").unlink()
        self.refuse(files, "holds no json file")

    def test_a_torn_file(self, files):
        text = (files / "pred/a.json").read_text()
        (files / "pred/a.json").write_text(text[: len(text) // 2])
        self.refuse(files, "pred/a.json", "cannot be read as JSON")

    def test_another_format(self, files):
        (files / "gt/a.json").write_text('{"frames": []}')
        self.refuse(files, "annolist", "found frames")

    @pytest.mark.parametrize("key", ["keypoints", "image_id"])
    def test_a_missing_key(self, files, key):
        self.edit(files / "gt/a.json", lambda c: c["annotations"][0].pop(key))
        self.refuse(files, "gt/a.json", key)

    def test_a_missing_head(self, files):
        self.edit(files / "gt/a.json", lambda c: c["annotations"][1].pop("bbox_head"))
        self.refuse(files, "frame 10000010001", "no head box")

    def test_too_few_keypoints_or_scores(self, files):
        self.edit(files / "pred/a.json", lambda c: c["annotations"][1].update(scores=[1.0] * 15))
        self.refuse(files, "annotation 1", "51", "17", "15")

    def test_not_a_number(self, files):
        self.edit(files / "pred/a.json", lambda c: c["annotations"][0]["keypoints"].__setitem__(0, float("nan")))
        self.refuse(files, "annotation 0", "nose")

    def test_two_videos_in_one_file(self, files):
        self.edit(files / "gt/a.json", lambda c: c["images"][1].update(file_name="images/val/2/000001.jpg"))
        self.refuse(files, "one video per file")

    def test_a_frame_twice(self, files):
        for name in ("gt", "pred"):
            self.edit(files / name / "a.json", lambda c: c["images"][1].update(id=c["images"][0]["id"]))
            self.edit(files / name / "a.json", lambda c: c["annotations"][1].update(image_id=c["images"][0]["id"]))
        self.refuse(files, "10000010000", "twice")

    def test_joints_not_named(self, files):
        self.edit(files / "gt/a.json", lambda c: c["categories"][0]["keypoints"].__setitem__(0, "left_eye"))
        self.refuse(files, "lack nose")
