"""Protocols as values: everything that decides what an error in millimetres means.

A record of one protocol never shares a column with another's. A protocol with one thing changed
(`Protocol.changed`) is another protocol and says so in its id.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from posescale.errors import ConfigError

Labels = Literal["metres", "mm", "screen_25d", "screen_mm"]
Rule = Literal["strided", "every_frame", "official_clips", "last_twice", "centred_valid", "chunks", "tail_resampled"]


class Protocol(BaseModel):
    """How a lifting model is fed and scored.

    Attributes:
        id: its name in records and tables.
        dataset: id of the dataset it belongs to, empty for any.
        settings: reader settings that the prepared data must have; the 2D source among them.
        joints: of a pose.
        input_2d: which 2D track the model sees: a detector's, or the exact (ground-truth) one.
        labels: what the model is trained to predict, root-relative (`posescale.data.units`): metres; mm;
            `screen_25d`, image x, y and depth in pixels over half the width; `screen_mm`, mm over half the width.
        label_width: width in pixels by which predictions of the last two are scaled back; None is the width of the
            sequence's own image.
        root: joint that the target is made relative to, and the prediction where its root is zeroed.
        zero_root: whether the predicted root is set to zero before scoring. Where not, its error counts.
        alignment: how prediction and target are brought together before MPJPE.
        given_xy: whether x and y of the prediction are replaced by the exact 2D input's, so that only depth can err.
        flip_average: whether predictions of the clip and of its mirror image are averaged.
        windows: which windows are run and which of their frames are scored (`posescale.data.clips`).
        overlap: a frame that several windows answer counts once per window (`each`), or once with its mean error.
        excluded: beginnings of the names of sequences that are left out.
        skip_exact: leave out frames whose MPJPE is exactly 0, as the official evaluator does.
        measures: `pose` is the MPJPE family; `3dhp` adds PCK and AUC over the 14 joints that MPI-INF-3DHP groups.
        aggregation: `action_mean` is the mean over frames of each action, then over actions; `frame_mean` is the mean
            over all frames.
        unit: of the reported errors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    dataset: str = ""
    settings: dict[str, Any] = {}
    joints: int = 17
    input_2d: Literal["detections", "exact"] = "detections"
    labels: Labels = "metres"
    label_width: int | None = None
    root: int = 0
    zero_root: bool = True
    alignment: Literal["root"] = "root"
    given_xy: bool = False
    flip_average: bool = True
    windows: Rule = "every_frame"
    overlap: Literal["each", "mean"] = "each"
    excluded: tuple[str, ...] = ()
    skip_exact: bool = False
    measures: Literal["pose", "3dhp"] = "pose"
    aggregation: Literal["action_mean", "frame_mean"] = "action_mean"
    unit: Literal["mm"] = "mm"
    source: str

    def changed(self, **changes: Any) -> "Protocol":
        """The same protocol but for some fields, under an id that says which; itself when nothing differs.

        Raises:
            ConfigError: an unknown field or a value it cannot take.
        """
        fixed = {"id", "title", "source", "unit"} & changes.keys()
        try:
            if fixed or (unknown := changes.keys() - type(self).model_fields.keys()):
                raise ValueError(f"{', '.join(sorted(fixed or unknown))} cannot be changed")
            new = type(self).model_validate(self.model_dump() | changes)
        except (ValueError, ValidationError) as error:
            able = ", ".join(sorted(type(self).model_fields.keys() - {"id", "title", "source", "unit"}))
            raise ConfigError(f"protocol {self.id}: {error}. Fields: {able}") from error
        own, other = self.model_dump(), new.model_dump()
        differing = {name: other[name] for name in sorted(changes) if other[name] != own[name]}
        if not differing:
            return self
        words = ", ".join(f"{name}={_word(value)}" for name, value in differing.items())
        return new.model_copy(update={"id": f"{self.id}[{words}]", "title": f"{self.title}; changed: {words}"})


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "own"}[value]
    return "+".join(map(str, value)) or "none" if isinstance(value, tuple | list) else str(value)


def protocol(name: str) -> Protocol:
    """The protocol of this id.

    Raises:
        ConfigError: there is none.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"no protocol is called {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


# Greeting, SittingDown and Waiting of S9, whose ground truth is damaged.
DAMAGED = ("s_09_act_05_subact_02", "s_09_act_10_subact_02", "s_09_act_13_subact_01")

_SH = Protocol(
    id="h36m_sh_25d",
    title="Human3.6M, MotionBERT line: Stacked-Hourglass 2D; image coordinates and depth times a factor per frame; "
    "whole test clips only; three damaged S9 videos left out; predicted root zeroed; flip average; action mean",
    dataset="h36m",
    settings={"family": "sh"},
    labels="screen_25d",
    windows="official_clips",
    overlap="mean",
    excluded=DAMAGED,
    skip_exact=True,
    source="MotionBERT (ICCV 2023) and PoseMamba, their published evaluation",
)
_SH_GT = _SH.model_copy(
    update={
        "id": "h36m_sh_25d_gt2d",
        "title": _SH.title.replace("Stacked-Hourglass 2D", "x and y of the label itself, as input and as part of the "
                                   "prediction, so that only depth can err"),
        "input_2d": "exact",
        "given_xy": True,
    }
)  # fmt: skip
_CPN = Protocol(
    id="h36m_cpn_metric",
    title="Human3.6M, VideoPose3D line: CPN 2D; camera space, metric; all S9 and S11 videos; every frame once; "
    "predicted root kept; flip average; action mean",
    dataset="h36m",
    settings={"family": "cpn", "detections": "cpn_ft_h36m_dbb"},
    zero_root=False,
    source="VideoPose3D (CVPR 2019), its published evaluation",
)


def _other_2d(id: str, words: str, detections: str) -> Protocol:
    """The VideoPose3D line with another 2D source."""
    settings = {"family": "cpn", "detections": detections}
    return _CPN.model_copy(update={"id": id, "title": _CPN.title.replace("CPN 2D", words), "settings": settings})


_3DHP = Protocol(
    id="3dhp_univ",
    title="MPI-INF-3DHP, MotionAGFormer line: ground-truth 2D; universal skeleton; one window centred on each valid "
    "frame, ends repeated; pelvis zeroed; predictions scaled by the width of the sequence's image; mean over frames",
    dataset="mpi_inf_3dhp",
    input_2d="exact",
    labels="screen_mm",
    root=14,
    windows="centred_valid",
    measures="3dhp",
    aggregation="frame_mean",
    source="MotionAGFormer (WACV 2024) and the official MATLAB evaluation",
)

PROTOCOLS = {
    p.id: p
    for p in [
        Protocol(
            id="cmu_cam",
            title="CMU and its synthetic twin: camera space, metric, root-relative; detector 2D; every frame once; "
            "flip average; action mean",
            source="posescale; the VideoPose3D line of Human3.6M (docs/measuring.md)",
        ),
        _SH,
        _SH_GT,
        _SH.model_copy(
            update={
                "id": "h36m_sh_25d_frame_mean",
                "title": _SH.title.replace("action mean", "mean over all frames, as training logs print it"),
                "aggregation": "frame_mean",
            }
        ),
        _CPN,
        _CPN.model_copy(
            update={
                "id": "h36m_cpn_chunks",
                "title": "Human3.6M, MixSTE line: as h36m_cpn_metric, but in chunks of T frames, the last of which "
                "ends with the video, and whose overlap counts twice",
                "windows": "last_twice",
                "source": "MixSTE (CVPR 2022), its published evaluation",
            }
        ),
        _CPN.model_copy(
            update={
                "id": "h36m_cpn_metric_gt2d",
                "title": "Human3.6M, VideoPose3D line with ground-truth 2D",
                "settings": {"family": "cpn"},
                "input_2d": "exact",
            }
        ),
        _other_2d("h36m_metric_detectron", "Mask R-CNN 2D (detectron_ft_h36m)", "detectron_ft_h36m"),
        _other_2d("h36m_metric_sh", "Stacked-Hourglass 2D (sh_ft_h36m)", "sh_ft_h36m"),
        _3DHP,
        _3DHP.model_copy(
            update={
                "id": "3dhp_univ_1024",
                "title": "as 3dhp_univ, but TS5 and TS6 too scaled by 1024, as in training, where the official line "
                "takes 960",
                "label_width": 2048,
                "source": "posescale; see docs/measuring.md",
            }
        ),
        _3DHP.model_copy(
            update={
                "id": "3dhp_univ_mm",
                "title": _3DHP.title.replace("MotionAGFormer line", "P-STMO line").replace(
                    "predictions scaled by the width of the sequence's image", "predictions in mm"
                ),
                "labels": "mm",
                "source": "P-STMO (ECCV 2022) and the official MATLAB evaluation",
            }
        ),
    ]
}
