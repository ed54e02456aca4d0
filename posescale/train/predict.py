"""Answers of a model to windows of a sequence."""

import numpy as np
import torch
from torch import nn

from posescale.data.scored import Output
from posescale.data.windows import mirror
from posescale.errors import ConfigError


@torch.inference_mode()
def answer(
    model: nn.Module,
    inputs: np.ndarray,
    rows: np.ndarray,
    output: Output = "seq2seq",
    flip: tuple[list[int], list[int]] | None = None,
    batch: int = 32,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Poses for windows of one sequence.

    Args:
        model: in evaluation mode; (B, T, J, C) to (B, T, J, 3), or to (B, 1, J, 3) for the centre frame (T - 1) // 2.
        inputs: (F, J, C), x in channel 0.
        rows: (W, T) frames that each window reads.
        output: which of the two the model is.
        flip: left and right joints, to ask for the mirror image too; None not to.
        batch: windows per call.

    Returns:
        (W, T or 1, J, 3) float32 in the model's unit; and the same from the mirror image, mirrored back, or None.

    Raises:
        ConfigError: the model answers with another shape than it should.
    """
    parameter = next(model.parameters(), torch.empty(0))
    shape = (len(rows), rows.shape[1] if output == "seq2seq" else 1, inputs.shape[1], 3)
    plain, mirrored = np.empty(shape, np.float32), np.empty(shape, np.float32) if flip else None
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        clips = torch.from_numpy(inputs[rows[part]]).to(parameter)
        plain[part] = _answer(model, clips, output).float().cpu().numpy()
        if flip:
            mirrored[part] = mirror(_answer(model, mirror(clips, *flip), output), *flip).float().cpu().numpy()
    return plain, mirrored


def _answer(model: nn.Module, clips: torch.Tensor, output: Output) -> torch.Tensor:
    pred = model(clips)
    expected = (len(clips), clips.shape[1] if output == "seq2seq" else 1, clips.shape[2], 3)
    if tuple(pred.shape) != expected:
        found = f"{type(model).__name__} answered with shape {tuple(pred.shape)}"
        raise ConfigError(f"{found}, a {output} model must give {expected}")
    return pred
