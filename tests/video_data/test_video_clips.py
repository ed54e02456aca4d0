import numpy as np
import pytest
import torch

from posescale.data.video.augment import Augmentation, half_body
from posescale.data.video.clips import VideoClips
from posescale.data.video.crops import MEAN, STD, View, affine, inverse, transform, view_of_box
from posescale.data.video.images import read_image
from posescale.data.video.skeletons import JHMDB, POSETRACK, UNKNOWN
from posescale.errors import ConfigError, DataError

SIZE = {"height": 64, "width": 48}


def _clips(data, split="train", frames=5, **options):
    return VideoClips(data, split, frames, **SIZE, **options)


def test_boxes_grow_to_the_aspect_then_by_a_quarter():
    wide = view_of_box([10, 20, 60, 20], 64, 48)
    assert wide.centre.tolist() == [40, 30] and wide.size.tolist() == [75, 100]
    tall = view_of_box([10, 20, 10, 80], 64, 48)
    assert tall.centre.tolist() == [15, 60] and tall.size.tolist() == [75, 100]
    for box in ([0, 0, 0, 0], [0, 0, float("nan"), 0]):
        with pytest.raises(ConfigError):
            view_of_box(box, 64, 48)


@pytest.mark.parametrize("view", [
    View(np.array([40.0, 30.0]), np.array([75.0, 100.0])),
    View(np.array([40.0, 30.0]), np.array([30.0, 40.0]), 37.0),
    View(np.array([-4.0, 300.0]), np.array([75.0, 100.0]), -80.0, True),
])  # fmt: skip
def test_the_map_inverts_and_keeps_shapes(view):
    matrix = affine(view, 64, 48)
    points = np.random.default_rng(0).uniform(-50, 200, (15, 2))
    assert np.allclose(transform(transform(points, matrix), inverse(matrix)), points)
    centre = transform(view.centre[None], matrix)[0]
    assert np.allclose(centre, [48 - 1 - 24 if view.flip else 24, 32])
    scale = np.linalg.det(matrix[:, :2])
    assert np.allclose(abs(scale), (48 / view.size[0]) ** 2) and (scale < 0) == view.flip


def test_a_sample_shows_the_person_and_maps_back(small):
    clips = _clips(small)
    for index in (0, len(clips) - 1):
        sample = clips[index]
        row = small.people[sample["row"]]
        assert sample["clip"].shape == (5, 3, 64, 48) and sample["clip"].dtype == torch.float32
        back = transform(sample["joints"].numpy(), sample["back"].numpy())
        assert np.allclose(back, row["joints"], atol=1e-3)
        assert np.isclose(sample["head"], 0.6 * np.hypot(*row["head"][2:])) and sample["score"] == 1
        assert (sample["state"].numpy() == row["state"]).all() and sample["track"] == row["track"]


def test_pixels_are_those_of_the_image(small):
    clips = _clips(small)
    sample = clips[3]
    video, frame = small.frame(sample["frame"])
    image = read_image(small.root / frame.file)
    matrix, middle = inverse(sample["back"].numpy()), sample["clip"][2].numpy().transpose(1, 2, 0) * STD + MEAN
    y, x = 20, 24
    there = np.rint(transform([[x, y]], inverse(matrix))[0]).astype(int)
    area = image[there[1] - 2 : there[1] + 3, there[0] - 2 : there[0] + 3].reshape(-1, 3) / 255
    assert (area.min(0) - 0.02 <= middle[y, x]).all() and (middle[y, x] <= area.max(0) + 0.02).all()


def test_windows_keep_their_order_and_stay_in_their_video(small):
    clips = _clips(small)
    for index in range(len(clips)):
        number = int(clips.frame[index])
        place = number - small.frame(number)[0].start
        assert clips.window(index) == np.clip(np.arange(place - 2, place + 3), 0, 7).tolist()
    first = int(np.flatnonzero(clips.frame == clips.frame.min())[0])
    assert _clips(small, missing="key").window(first) == [0, 0, 0, 1, 2]
    assert _clips(small, frames=1).window(first) == [0]


def test_gaps_take_the_nearest_frame_or_the_key(small):
    clips = _clips(small)
    video = small.index.videos[0]
    kept = [f for f in video.frames if f.number not in (3, 5)]
    gappy = video.model_copy(update={"frames": kept})
    clips.data = type("Gappy", (), {"frame": lambda self, n: (gappy, kept[3])})()
    assert [kept[n].number for n in clips.window(0)] == [2, 2, 4, 4, 6]
    clips.missing = "key"
    clips.frame = np.full_like(clips.frame, 3)
    assert [kept[n].number for n in clips.window(0)] == [2, 4, 4, 4, 6]


def test_controls_take_time_away(small):
    frozen = _clips(small, neighbours="frozen")[4]["clip"]
    assert all(torch.equal(frozen[n], frozen[2]) for n in range(5))
    real, shuffled = _clips(small), _clips(small, neighbours="shuffled")
    assert torch.equal(real[4]["clip"][2], shuffled[4]["clip"][2])
    assert not set(shuffled.window(4)[:2] + shuffled.window(4)[3:]) & set(real.window(4))
    assert shuffled.window(4) == _clips(small, neighbours="shuffled").window(4)
    others = [_clips(small, neighbours="shuffled", seed=s).window(4) for s in range(8)]
    assert any(w != shuffled.window(4) for w in others)


def test_foreign_neighbours_are_another_samples_clip(small):
    real, foreign = _clips(small), _clips(small, neighbours="foreign")
    clip = foreign[4]["clip"]
    assert torch.equal(clip[2], real[4]["clip"][2]) and torch.equal(foreign[4]["joints"], real[4]["joints"])
    assert torch.equal(clip, _clips(small, neighbours="foreign")[4]["clip"])
    video = small.frame(int(real.frame[4]))[0]
    given = [n for n in range(len(real)) if torch.equal(real[n]["clip"][[0, 1, 3, 4]], clip[[0, 1, 3, 4]])]
    assert given and all(small.frame(int(real.frame[n]))[0].name != video.name for n in given)


def test_one_video_has_no_foreign_neighbours(small):
    with pytest.raises(DataError, match="one video alone"):
        _clips(small, split="val", neighbours="foreign")


def test_the_cache_changes_nothing(small):
    kept, fresh = _clips(small), _clips(small, cache=0)
    for index in (0, 5, 0, 5):
        assert torch.equal(kept[index]["clip"], fresh[index]["clip"])
    assert not fresh._images._kept and kept._images._kept
    assert sum(image.nbytes for image in _filled(_clips(small, cache=130_000)).values()) <= 130_000


def _filled(clips):
    for index in range(len(clips)):
        clips[index]
    return clips._images._kept


def test_augmentation_depends_on_seed_epoch_and_sample_alone(small):
    def sample(seed=0, epoch=0, index=2):
        clips = _clips(small, augmentation=Augmentation(seed=seed))
        clips.set_epoch(epoch)
        return clips[index]["clip"]

    assert torch.equal(sample(), sample())
    np.random.seed(1)
    torch.manual_seed(1)
    assert torch.equal(sample(), sample())
    assert not torch.equal(sample(), sample(epoch=1)) and not torch.equal(sample(), sample(seed=1))


def test_one_transform_per_clip_moves_joints_and_pixels_alike(small):
    clips = _clips(small, neighbours="frozen", augmentation=Augmentation(half_body=0))
    for epoch in range(6):
        clips.set_epoch(epoch)
        sample = clips[2]
        assert all(torch.equal(sample["clip"][n], sample["clip"][2]) for n in range(5))
        matrix = inverse(sample["back"].numpy())
        flip = np.linalg.det(matrix[:, :2]) < 0
        order = list(POSETRACK.flip_order) if flip else list(range(15))
        row = small.people[sample["row"]]
        assert np.allclose(transform(row["joints"], matrix)[order], sample["joints"].numpy(), atol=1e-3)
        assert (row["state"][order] == sample["state"].numpy()).all()


def _drawn(**options):
    view = View(np.array([50.0, 50.0]), np.array([75.0, 100.0]))
    joints, all_of_them = np.random.default_rng(0).uniform(20, 80, (15, 2)), np.ones(15)
    vary = Augmentation(**options)
    return [vary.view(view, joints, all_of_them, POSETRACK, 0, n, 64, 48) for n in range(2000)]


def test_augmentation_has_the_published_numbers():
    views = _drawn(half_body=0)
    factors = np.array([v.size[0] / 75 for v in views])
    assert factors.min() == pytest.approx(0.65) and factors.max() == pytest.approx(1.35)
    inner = (factors > 0.6501) & (factors < 1.3499)
    assert 0.62 < inner.mean() < 0.75, "clip(N(0, 1) * 0.35 + 1, 0.65, 1.35): 68 % lie inside"
    turned = np.array([v.degrees for v in views])
    assert 0.56 < (turned != 0).mean() < 0.64 and np.abs(turned).max() == 90
    assert 38 < turned[(turned != 0) & (np.abs(turned) < 90)].std() < 46
    assert 0.46 < np.mean([v.flip for v in views]) < 0.54
    halves = [v for v in _drawn(flip=0, rotation_share=0, scale=0) if v.size[0] != 75]
    assert 0.26 < len(halves) / 2000 < 0.34


def test_half_bodies_are_one_half_and_need_joints():
    joints = np.zeros((15, 2))
    joints[list(POSETRACK.upper)] = [[30 + 2 * n, 10 + n] for n in range(9)]
    lower = [k for k in range(15) if k not in POSETRACK.upper]
    joints[lower] = [[40, 60 + n] for n in range(6)]
    whole, seen = view_of_box([20, 0, 40, 80], 64, 48), np.ones(15)
    up = half_body(whole, joints, seen, POSETRACK, True, 64, 48)
    down = half_body(whole, joints, seen, POSETRACK, False, 64, 48)
    assert up.centre.tolist() == [38, 14] and down.centre.tolist() == [40, 62.5]
    assert up.size[0] == pytest.approx(1.5 * 16) and down.size[1] == pytest.approx(1.5 * 5)
    seen[lower] = 0
    assert half_body(whole, joints, seen, POSETRACK, False, 64, 48).centre.tolist() == [38, 14]
    assert half_body(whole, joints, np.zeros(15), POSETRACK, True, 64, 48) is whole


def test_joints_outside_the_crop_carry_no_weight(small):
    clips = _clips(small, augmentation=Augmentation(scale=0, rotation_share=0, flip=0, half_body=1))
    weights = [(clips[n]["annotated"].sum(), clips[n]["image_annotated"].sum()) for n in range(len(clips))]
    assert any(inside < all_of_them for inside, all_of_them in weights)
    for n in range(len(clips)):
        sample = clips[n]
        joints = sample["joints"].numpy()[sample["annotated"].numpy() > 0]
        assert (joints >= 0).all() and (joints <= [47, 63]).all()


def test_detector_boxes_are_other_samples(small):
    clips = _clips(small, "test", boxes="detector", least_score=0.5)
    scores = small.detections[small.rows("test", "detections")]["score"]
    assert len(clips) == (scores >= 0.5).sum() and len(_clips(small, "test", boxes="detector", least_score=0)) == len(
        scores
    )
    sample = clips[0]
    assert sample["annotated"].sum() == 0 and (sample["state"] == UNKNOWN).all() and np.isnan(sample["head"])
    assert sample["score"] == np.float32(small.detections["score"][sample["row"]]) and sample["track"] == -1


def test_samples_batch(small):
    batch = torch.utils.data.default_collate([_clips(small)[n] for n in range(3)])
    assert batch["clip"].shape == (3, 5, 3, 64, 48) and batch["row"].dtype == torch.int64
    assert batch["head"].dtype == torch.float32


def test_unlabelled_frames_are_neighbours_only(small):
    frames = [f.model_copy(update={"labelled": f.number % 4 == 0}) for f in small.index.videos[0].frames]
    videos = [small.index.videos[0].model_copy(update={"frames": frames}), *small.index.videos[1:]]
    data = type(small)(small.folder)
    data.index = data.index.model_copy(update={"videos": videos})
    first = _clips(data).frame[_clips(data).frame < 8]
    assert set(first) == {0, 4}


@pytest.mark.parametrize("options", [
    {"frames": 4}, {"frames": 0}, {"height": 0}, {"boxes": "guess"}, {"missing": "zero"}, {"neighbours": "none"},
])  # fmt: skip
def test_wrong_arguments_are_refused(small, options):
    arguments = {"frames": 5, **SIZE} | options
    with pytest.raises(ConfigError):
        VideoClips(small, "train", arguments.pop("frames"), **arguments)


def test_an_empty_split_is_refused(small):
    with pytest.raises(DataError, match="no detection of score"):
        _clips(small, boxes="detector", least_score=2)
    with pytest.raises(DataError, match="no annotated person"):
        _clips(small, "reported")


def test_torn_images_are_refused(tmp_path, small):
    whole = (small.root / small.index.videos[0].frames[0].file).read_bytes()
    for name, content in (("a.jpg", whole[: len(whole) // 2]), ("b.jpg", b""), ("c.jpg", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_image(tmp_path / name)
    with pytest.raises(DataError, match="No such file"):
        read_image(tmp_path / "d.jpg")


@pytest.mark.parametrize("skeleton", [POSETRACK, JHMDB])
def test_flips_exchange_left_and_right(skeleton):
    names = skeleton.joints
    for joint, partner in enumerate(skeleton.flip_order):
        swapped = names[joint].replace("left", "#").replace("right", "left").replace("#", "right")
        assert names[partner] == swapped
    assert len(skeleton.flip_pairs) == 6 and len(names) == 15
    assert len(skeleton.parents) == 15 and sum(p == -1 for p in skeleton.parents) == 1
