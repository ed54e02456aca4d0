"""Stored predictions: what a model answered, so that other protocols can be applied without asking it again.

An `.npz` file with told (N, K), plain (N, K, J, 3), mirrored (the same, where the mirror image was asked), sequence
(N,), and meta, a JSON text. The truth is not in it: it stays with the prepared data.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from posescale.errors import DataError
from posescale.files import whole_file
from posescale.metrics.scoring import Answers

FORMAT = "posescale-predictions-1"


def save(path: Path | str, answers: dict[str, Answers], meta: dict[str, Any]) -> None:
    """Write predictions atomically.

    Args:
        path: the file.
        answers: by sequence name, in order.
        meta: plain values that describe what was asked.

    Raises:
        DataError: the file cannot be written; an earlier one stays as it was.
    """
    path = Path(path)
    said = list(answers.values())
    arrays = {
        "told": np.concatenate([a.told for a in said]).astype(np.int32),
        "plain": np.concatenate([a.plain for a in said]).astype(np.float32),
        "sequence": np.repeat(np.arange(len(said), dtype=np.int32), [len(a.told) for a in said]),
    }
    if all(a.mirrored is not None for a in said):
        arrays["mirrored"] = np.concatenate([a.mirrored for a in said]).astype(np.float32)
    text = json.dumps({"format": FORMAT, "names": list(answers), **meta})
    try:
        with whole_file(path) as stream:
            np.savez(stream, meta=np.array(text), **arrays)
    except OSError as error:
        raise DataError(f"{path}: could not be written: {error.strerror or error}") from error


def load(path: Path | str) -> tuple[dict[str, Answers], dict[str, Any]]:
    """Read predictions back: answers by sequence name, and what was noted.

    Raises:
        DataError: the file is missing, torn, or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
        if meta.pop("format") != FORMAT:
            raise ValueError("another format")
        names, sequence = meta.pop("names"), arrays["sequence"]
        parts = {name: np.split(arrays[name], np.searchsorted(sequence, np.arange(1, len(names))))
                 for name in ("told", "plain", "mirrored") if name in arrays}  # fmt: skip
        mirrored = parts.get("mirrored", [None] * len(names))
        return {n: Answers(*a) for n, *a in zip(names, parts["told"], parts["plain"], mirrored, strict=True)}, meta
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a torn or foreign file can break the reader in any way
        raise DataError(f"{path}: not a file of predictions, or torn ({type(error).__name__}: {error})") from error
