"""Protocols of 2D video pose as values: whose boxes, what a joint's error is measured by, and how far is near.

A record of one protocol never shares a column with another's: ground-truth boxes are worth 5 to 7 mAP on PoseTrack.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from posescale.errors import ConfigError


class VideoProtocol(BaseModel):
    """How a video model is fed and scored.

    Attributes:
        id: its name in records and tables.
        boxes: the annotated people's, or a detector's.
        size: what errors are measured by: `head`, PoseTrack's head size (0.6 of the head box's diagonal); `person`,
            the longer side of the person's box; `torso`, left shoulder to right hip.
        share: of the size, within which a joint counts as found (inclusive).
        ap: whether PoseTrack's average precision is computed too.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    boxes: Literal["gt", "detector"]
    size: Literal["head", "person", "torso"]
    share: float
    ap: bool
    source: str


VIDEO_PROTOCOLS = {
    p.id: p
    for p in [
        VideoProtocol(
            id="posetrack_gt_boxes", title="PoseTrack with ground-truth boxes: poseval's AP; PCKh at 0.5 head sizes",
            boxes="gt", size="head", share=0.5, ap=True, source="poseval; boxes of the annotations, enlarged by 1.25",
        ),
        VideoProtocol(
            id="posetrack_detector_boxes", title="PoseTrack with detector boxes of score 0.2 or more: poseval's AP",
            boxes="detector", size="head", share=0.5, ap=True, source="poseval; DCPose's evaluation path",
        ),
        VideoProtocol(
            id="jhmdb_person", title="JHMDB: PCK at 0.2 of the tight mask box's longer side, ground-truth boxes",
            boxes="gt", size="person", share=0.2, ap=False, source="LSTM Pose Machines (CVPR 2018)",
        ),
        VideoProtocol(
            id="jhmdb_torso", title="JHMDB: PCK at 0.2 of the torso, ground-truth boxes",
            boxes="gt", size="torso", share=0.2, ap=False, source="LSTM Pose Machines (CVPR 2018)",
        ),
    ]
}  # fmt: skip


def video_protocol(name: str) -> VideoProtocol:
    """The protocol of this id.

    Raises:
        ConfigError: there is none.
    """
    if name not in VIDEO_PROTOCOLS:
        raise ConfigError(f"no protocol of video pose is called {name!r}; there are {', '.join(VIDEO_PROTOCOLS)}")
    return VIDEO_PROTOCOLS[name]
