"""Person-centred clips of T frames: what video models are trained and scored on."""

from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from posescale.data.camera import named_seed
from posescale.data.prepared import Split
from posescale.data.video.augment import Augmentation
from posescale.data.video.crops import affine, inverse, normalised, transform, view_of_box
from posescale.data.video.images import FrameReader
from posescale.data.video.prepared import VideoData
from posescale.data.video.skeletons import UNKNOWN
from posescale.errors import ConfigError, DataError

Boxes = Literal["gt", "detector"]
Neighbours = Literal["real", "frozen", "shuffled", "foreign"]
CACHE = 1 << 30  # bytes of decoded frames kept in memory


class VideoClips(Dataset):
    """One sample per person and key frame: the key frame and its neighbours, cropped by the key frame's box.

    With ground-truth boxes the samples are the annotated persons of labelled frames; with detector boxes they are the
    detections, whose joints are not known here (score them through files of predictions). The two answer different
    questions: their results carry different protocols.

    Attributes:
        data: the opened dataset.
        row: `(N,)` each sample's row in `data.people` (boxes "gt") or `data.detections` (boxes "detector").
        frame: `(N,)` number of each sample's key frame over all videos.
        epoch: what augmentation depends on besides seed and sample; see `set_epoch`.
    """

    def __init__(
        self, data: VideoData, split: Split, frames: int, height: int, width: int, *, boxes: Boxes = "gt",
        augmentation: Augmentation | None = None, missing: Literal["nearest", "key"] = "nearest",
        neighbours: Neighbours = "real", least_score: float = 0.2, seed: int = 0, cache: int = CACHE,
    ) -> None:  # fmt: skip
        """Choose the samples.

        Args:
            data: an opened prepared folder.
            split: which of its videos.
            frames: T, odd: offsets -T//2 .. T//2 around the key frame, in order.
            height, width: of the crops, pixels.
            boxes: the annotated persons' boxes, or the detector's.
            augmentation: varies the crops of training; None crops the box as it is.
            missing: what stands in for a frame that is not there: the nearest that is, or the key frame (FAMI-Pose).
            neighbours: `frozen` repeats the key frame T times; `shuffled` takes each neighbour from a random other
                place of the same video; `foreign` takes all of them from around a random sample of another video:
                controls that take time away from a trained model.
            least_score: detections below this score are left out (DCPose: 0.2).
            seed: of shuffled and foreign neighbours.
            cache: bytes of decoded frames kept in memory.

        Raises:
            ConfigError: an argument is out of range.
            DataError: the split has no sample, or foreign neighbours are wanted of a single video.
        """
        if frames < 1 or frames % 2 == 0:
            raise ConfigError(f"clips of {frames} frames: there must be one key frame in the middle, so T is odd")
        if height < 1 or width < 1:
            raise ConfigError(f"crops of {width} x {height} pixels")
        for name, value, known in (("boxes", boxes, ("gt", "detector")), ("missing", missing, ("nearest", "key")),
                                   ("neighbours", neighbours, get_args(Neighbours))):  # fmt: skip
            if value not in known:
                raise ConfigError(f"{name} is {value!r}; choose {' or '.join(known)}")
        self.data, self.split, self.frames, self.height, self.width = data, split, frames, height, width
        self.boxes, self.augmentation, self.missing, self.neighbours = boxes, augmentation, missing, neighbours
        self.least_score, self.seed, self.epoch = least_score, seed, 0
        self.row = self._rows()
        self.frame = np.asarray(self._table["frame"][self.row])
        if neighbours == "foreign" and len({data.frame(int(n))[0].name for n in self.frame}) < 2:
            raise DataError(f"{data.folder}: split {split!r} has people in one video alone; none is foreign to it")
        self._images = FrameReader(data.root, cache)

    @property
    def _table(self) -> np.ndarray:
        return self.data.people if self.boxes == "gt" else self.data.detections

    def _rows(self) -> np.ndarray:
        data = self.data
        rows = data.rows(self.split, "people" if self.boxes == "gt" else "detections")
        if self.boxes == "gt":
            labelled = np.array([frame.labelled for video in data.index.videos for frame in video.frames], dtype=bool)
            table = data.people[rows]
            usable = labelled[table["frame"]] & table["annotated"].any(1) & (table["box"][:, 2:] > 0).all(1)
        else:
            usable = data.detections[rows]["score"] >= self.least_score
        if not usable.any():
            what = "annotated person" if self.boxes == "gt" else f"detection of score {self.least_score} or more"
            raise DataError(f"{data.folder}: there is no {what} in split {self.split!r}")
        return rows[usable]

    def set_epoch(self, epoch: int) -> None:
        """Other augmentation from now on; the same again for the same epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.row)

    def window(self, index: int) -> list[int]:
        """Places in its video of a sample's T frames, foreign ones aside."""
        number = int(self.frame[index])
        video, key = self.data.frame(number)
        place, reach = number - video.start, self.frames // 2
        if self.neighbours == "frozen":
            return [place] * self.frames
        numbers = np.array([frame.number for frame in video.frames])
        wanted = key.number + np.arange(-reach, reach + 1)
        nearest = np.abs(numbers[None] - wanted[:, None]).argmin(1)
        if self.missing == "key":
            nearest[numbers[nearest] != wanted] = place
        if self.neighbours == "shuffled":
            elsewhere = np.setdiff1d(np.arange(len(numbers)), nearest)
            others = np.arange(self.frames) != reach
            drawn = elsewhere if len(elsewhere) else nearest
            nearest[others] = self._random("shuffled", index).choice(drawn, self.frames - 1)
        return [int(n) for n in nearest]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample.

        Returns:
            clip: `(T, 3, height, width)` float32, RGB, ImageNet-normalised.
            joints: `(K, 2)` float32, pixels of the crop; not meaningful where `annotated` is 0.
            annotated: `(K,)` float32, 1 where the joint is annotated and inside the crop: the weight in a loss.
            state: `(K,)` int64, index into `skeletons.STATES`, or UNKNOWN.
            image_joints: `(K, 2)` float64, pixels of the image; image_annotated: `(K,)` whatever the crop shows.
            back: `(2, 3)` float64, crop pixels to image pixels.
            head: float32, size of the head in image pixels as PoseTrack measures it (0.6 of its box's diagonal),
                NaN where not annotated; box: `(4,)` float64, x, y, width, height in image pixels.
            score: float32, of the box: 1 for ground truth.
            sample, row, frame, track: int64; `row` is that of `people` or `detections`, track -1 for a detection.
        """
        row = self._table[self.row[index]]
        skeleton = self.data.skeleton
        person = _person(row, len(skeleton.joints))
        view = view_of_box(row["box"], self.height, self.width)
        if self.augmentation is not None:
            view = self.augmentation.view(
                view, person["joints"], person["annotated"], skeleton, self.epoch, index, self.height, self.width
            )
        matrix = affine(view, self.height, self.width)
        order = list(skeleton.flip_order) if view.flip else slice(None)
        joints, annotated = transform(person["joints"], matrix)[order], person["annotated"][order]
        inside = ((joints >= 0) & (joints <= [self.width - 1, self.height - 1])).all(1)
        return {
            "clip": torch.from_numpy(self._clip(index, matrix)),
            "joints": torch.from_numpy(joints.astype(np.float32)),
            "annotated": torch.from_numpy((annotated * inside).astype(np.float32)),
            "state": torch.from_numpy(person["state"][order].astype(np.int64)),
            "image_joints": torch.from_numpy(np.array(person["joints"])),
            "image_annotated": torch.from_numpy(person["annotated"].astype(np.float32)),
            "back": torch.from_numpy(inverse(matrix)),
            "head": np.float32(0.6 * np.hypot(*person["head"][2:])),
            "box": torch.from_numpy(np.array(row["box"])),
            "score": np.float32(person["score"]),
            "sample": index, "row": int(self.row[index]), "frame": int(self.frame[index]), "track": person["track"],
        }  # fmt: skip

    def _clip(self, index: int, matrix: np.ndarray) -> np.ndarray:
        crops = self._crops(index, matrix)
        if self.neighbours == "foreign" and self.frames > 1:
            other = self._elsewhere(index)
            view = view_of_box(self._table[self.row[other]]["box"], self.height, self.width)
            key, crops = crops[self.frames // 2], self._crops(other, affine(view, self.height, self.width))
            crops[self.frames // 2] = key
        return normalised(np.stack(crops))

    def _crops(self, index: int, matrix: np.ndarray) -> list[np.ndarray]:
        video, _ = self.data.frame(int(self.frame[index]))
        places = self.window(index)
        crops: dict[int, np.ndarray] = {}
        for place in set(places):
            image = self._images(video.frames[place].file)
            crops[place] = cv2.warpAffine(image, matrix, (self.width, self.height), flags=cv2.INTER_LINEAR)
        return [crops[place] for place in places]

    def _elsewhere(self, index: int) -> int:
        """A random sample of another video of the split."""
        video, _ = self.data.frame(int(self.frame[index]))
        others = np.flatnonzero((self.frame < video.start) | (self.frame >= video.start + len(video.frames)))
        return int(self._random("foreign", index).choice(others))

    def _random(self, purpose: str, index: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(named_seed(purpose, self.seed, index)))


def _person(row: np.void, joints: int) -> dict[str, Any]:
    """A row of `people`, or what stands for it when only a detected box is known."""
    if "joints" in row.dtype.names:
        return {name: row[name] for name in ("joints", "annotated", "state", "head")} | {
            "score": 1.0, "track": int(row["track"])
        }  # fmt: skip
    return {
        "joints": np.zeros((joints, 2)), "annotated": np.zeros(joints, np.uint8),
        "state": np.full(joints, UNKNOWN, np.int8), "head": np.full(4, np.nan),
        "score": float(row["score"]), "track": -1,
    }  # fmt: skip
