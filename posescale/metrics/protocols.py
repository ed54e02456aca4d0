"""Protocols as values: everything that decides what an error in millimetres means.

A record of one protocol never shares a column with another's.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Protocol(BaseModel):
    """How a lifting model is fed and scored.

    Attributes:
        id: its name in records and tables.
        input_2d: which 2D track the model sees.
        root: joint that prediction and target are made relative to.
        zero_root: whether the predicted root is set to zero before scoring.
        flip_average: whether predictions of the clip and of its mirror image are averaged.
        tail: which frames of a sequence are scored. `cover` scores every frame once: clips do not overlap but for
            the last, of which only the new frames count; sequences shorter than a clip are edge-padded.
        aggregation: `action_mean` is the mean over frames of each action, then the mean over actions.
        unit: of the reported errors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    input_2d: Literal["detections", "exact"] = "detections"
    root: int = 0
    zero_root: bool = True
    flip_average: bool = True
    tail: Literal["cover"] = "cover"
    aggregation: Literal["action_mean"] = "action_mean"
    unit: Literal["mm"] = "mm"
    source: str


PROTOCOLS = {
    p.id: p
    for p in [
        Protocol(
            id="cmu_cam",
            title="CMU and its synthetic twin: camera space, metric, root-relative; detector 2D; every frame once; "
            "flip average; action mean",
            source="posescale; the VideoPose3D line of Human3.6M (docs/measuring.md)",
        )
    ]
}


class VideoProtocol(BaseModel):
    """How a model of 2D pose in video is fed and scored. Boxes of different origin never share a column.

    Attributes:
        id: its name in records and tables.
        boxes: whose boxes the crops are made from.
        metric: poseval's average precision, or JHMDB's PCK.
        unit: of the reported scores.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    boxes: Literal["gt", "detector"]
    metric: Literal["poseval_ap", "jhmdb_pck"]
    unit: Literal["percent"] = "percent"
    source: str


VIDEO_PROTOCOLS = {
    p.id: p
    for p in [
        VideoProtocol(
            id="posetrack_gt_boxes",
            title="PoseTrack AP from ground-truth boxes",
            boxes="gt",
            metric="poseval_ap",
            source="poseval; boxes of the annotations",
        ),
        VideoProtocol(
            id="posetrack_detector_boxes",
            title="PoseTrack AP from detected boxes",
            boxes="detector",
            metric="poseval_ap",
            source="poseval; the DCPose line's protocol (box score 0.2 or more)",
        ),
        VideoProtocol(
            id="jhmdb_gt_boxes",
            title="JHMDB PCK from the boxes of the puppet masks",
            boxes="gt",
            metric="jhmdb_pck",
            source="LSTM Pose Machines; mmpose",
        ),
    ]
}
