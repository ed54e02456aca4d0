"""What a lifting model accepts, said once: readable refusals instead of shape errors deep inside a network."""

import torch

from posescale.errors import ShapeError


def keypoints(x: torch.Tensor, channels: int, joints: int, frames: int, model: str, exactly: str = "") -> torch.Tensor:
    """Check `(B, T, J, 2 or 3)` key points = x, y and perhaps confidence, and keep the channels the model reads.

    Args:
        x: the input of a lifting model.
        channels: 2 for a model that reads x, y (confidence is dropped if given), 3 for one that needs confidence too.
        joints: J of the model.
        frames: the longest T the model takes.
        model: its name, for the message.
        exactly: where no shorter clip will do, the reason why.

    Returns:
        `(B, T, J, channels)`.

    Raises:
        ShapeError: names what was expected and what was found.
    """
    wanted = "2 (x, y) or 3 (x, y, confidence)" if channels == 2 else f"{channels} (x, y, confidence)"
    found = f"found shape {tuple(x.shape)}"
    if x.ndim != 4:
        raise ShapeError(f"{model} expects input (batch, frames, {joints} joints, {wanted} channels), {found}")
    if x.shape[2] != joints:
        raise ShapeError(f"{model} was built for {joints} joints, input has {x.shape[2]}: {found}")
    if x.shape[3] not in (channels, 3):
        raise ShapeError(f"{model} expects {wanted} channels, input has {x.shape[3]}: {found}")
    if exactly and x.shape[1] != frames:
        raise ShapeError(
            f"this {model} takes clips of exactly {frames} frames, because {exactly}; input has {x.shape[1]}: {found}; "
            "build with frames=T"
        )
    if not 1 <= x.shape[1] <= frames:
        raise ShapeError(f"{model} takes 1 to {frames} frames, input has {x.shape[1]}: {found}; build with frames=T")
    return x[..., :channels]
