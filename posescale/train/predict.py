"""Poses of whole sequences, by windows."""

from typing import Literal

import numpy as np
import torch
from torch import nn

from posescale.data.clips import cover
from posescale.data.windows import mirror
from posescale.errors import ConfigError

Output = Literal["seq2seq", "seq2frame"]


@torch.inference_mode()
def predict(
    model: nn.Module,
    inputs: np.ndarray,
    frames: int,
    output: Output = "seq2seq",
    flip: tuple[list[int], list[int]] | None = None,
    batch: int = 32,
) -> np.ndarray:
    """Poses of a sequence of any length, by windows of `frames` frames.

    A seq2seq model sees the windows of `posescale.data.clips.cover`; a seq2frame model sees one window centred on
    each frame. Windows that reach over an end of the sequence repeat its last (or first) frame.

    Args:
        model: in evaluation mode; (B, T, J, C) to (B, T, J, 3), or to (B, 1, J, 3) for the centre frame (T - 1) // 2.
        inputs: (F, J, C), x in channel 0.
        frames: T.
        output: which of the two the model is.
        flip: left and right joints, to average with the unflipped prediction of the mirror image; None not to.
        batch: windows per call.

    Returns:
        (F, J, 3) float64, in the model's unit.

    Raises:
        ConfigError: the model answers with another shape than it should.
    """
    parameter = next(model.parameters(), torch.empty(0))
    rows, answered = _windows(len(inputs), frames, output)
    poses = np.full((len(inputs), inputs.shape[1], 3), np.nan)
    for start in range(0, len(rows), batch):
        part, told = rows[start : start + batch], answered[start : start + batch]
        clips = torch.from_numpy(inputs[part]).to(parameter)
        pred = _answer(model, clips, output)
        if flip:
            pred = (pred + mirror(_answer(model, mirror(clips, *flip), output), *flip)) / 2
        poses[told[told >= 0]] = pred.double().cpu().numpy()[told >= 0]
    return poses


def _windows(length: int, frames: int, output: Output) -> tuple[np.ndarray, np.ndarray]:
    """Rows that each window reads, (W, T), and the row that each answered frame is for, (W, T or 1), -1 for none."""
    if output == "seq2frame":
        centres = np.arange(length)
        rows = centres[:, None] + np.arange(frames) - (frames - 1) // 2
        return rows.clip(0, length - 1), centres[:, None]
    start, first = np.array(cover(length, frames)).T
    rows = start[:, None] + np.arange(frames)
    scored = (np.arange(frames) >= first[:, None]) & (rows < length)
    return rows.clip(max=length - 1), np.where(scored, rows, -1)


def _answer(model: nn.Module, clips: torch.Tensor, output: Output) -> torch.Tensor:
    pred = model(clips)
    expected = (len(clips), clips.shape[1] if output == "seq2seq" else 1, clips.shape[2], 3)
    if tuple(pred.shape) != expected:
        found = f"{type(model).__name__} answered with shape {tuple(pred.shape)}"
        raise ConfigError(f"{found}, a {output} model must give {expected}")
    return pred
