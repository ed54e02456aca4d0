"""A small rendered dataset, and small folders in the real formats made from it."""

import shutil

import cv2
import numpy as np
import pytest
import scipy.io

from posescale.data import catalog
from posescale.data.video.prepared import VideoData
from posescale.data.video.skeletons import JHMDB

SMALL = {"train": 2, "val": 1, "test": 1, "frames": 8, "width": 160, "height": 120, "workers": 1, "second_person": 0.6}


@pytest.fixture(scope="session")
def rendered_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video") / "small"
    catalog.prepare("synthetic_video", folder, settings=SMALL)
    return folder


@pytest.fixture(scope="session")
def small(rendered_folder):
    return VideoData(rendered_folder)


@pytest.fixture
def posetrack(tmp_path, rendered_folder):
    """A source folder in PoseTrack18's layout, to be damaged: one video in val, with detector boxes."""
    source, data = tmp_path / "posetrack18", VideoData(rendered_folder)
    video = data.videos("val")[0]
    for part in ("images", "annotations"):
        shutil.copytree(rendered_folder / "rendered" / part / "val", source / part / "val")
    boxes = source / "annotations" / "posetrack18_val_human_detections.json"
    shutil.copy(rendered_folder / "rendered" / "boxes" / "val.json", boxes)
    return source, source / "annotations" / "val" / f"{video.name}.json", boxes


@pytest.fixture
def jhmdb(tmp_path):
    """A source folder in JHMDB's own layout: two clips of three frames."""
    source = tmp_path / "jhmdb"
    rng = np.random.default_rng(0)
    for number, (clip, member) in enumerate((("A_walk_f_1", 1), ("B_walk_f_2", 2))):
        place = f"walk/{clip}"
        for part in ("joint_positions", "puppet_mask", "Rename_Images"):
            (source / part / place).mkdir(parents=True)
        joints = rng.uniform(60, 100, (2, len(JHMDB.joints), 3)) + 20 * number
        mask = np.zeros((240, 320, 3), np.uint8)
        mask[55 + 20 * number : 106 + 20 * number, 50 + 20 * number : 121 + 20 * number] = 3
        scipy.io.savemat(source / "joint_positions" / place / "joint_positions.mat", {"pos_img": joints})
        scipy.io.savemat(source / "puppet_mask" / place / "puppet_mask.mat", {"part_mask": mask})
        for n in range(1, 4):
            image = np.full((240, 320, 3), 20 * n, np.uint8)
            cv2.imwrite(str(source / "Rename_Images" / place / f"{n:05d}.png"), image)
        (source / "sub_splits").mkdir(exist_ok=True)
        for split in (1, 2, 3):
            with (source / "sub_splits" / f"walk_test_split_{split}.txt").open("a") as stream:
                stream.write(f"{clip}.avi {member if split == 1 else 3 - member}\n")
    return source
