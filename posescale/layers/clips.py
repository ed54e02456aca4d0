"""What a video model accepts, said once: readable refusals instead of shape errors deep inside a network."""

import torch

from posescale.errors import ConfigError, ShapeError


def check_frames(frames: int) -> None:
    """Refuse a clip length that is no positive whole number.

    Raises:
        ConfigError: says what was found.
    """
    if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
        raise ConfigError(f"frames must be a whole number of at least 1, found {frames!r}")


def check_clip(x: torch.Tensor, frames: int, height: int, width: int, model: str) -> None:
    """Refuse anything but `(B, frames, 3, height, width)`: standardised RGB crops of one person.

    Raises:
        ShapeError: names what was expected and what was found.
    """
    if x.ndim == 5 and tuple(x.shape[1:]) == (frames, 3, height, width):
        return
    raise ShapeError(
        f"this {model} takes clips (batch, {frames} frames, 3 channels, height {height}, width {width}), found shape "
        f"{tuple(x.shape)}; build the model with frames=, height= and width= for other clips"
    )
