"""`posescale lift`: 3D poses for 2D keypoints of a clip of any length."""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError, DataError
from posescale.files import whole_file

if TYPE_CHECKING:
    import numpy as np

    from posescale.train.trained import Trained


def lift(
    name: Annotated[str, typer.Argument(help="Lifting model, as listed by `posescale models`.")],
    keypoints: Annotated[
        Path, typer.Option(help=".npy, or .npz with one array or one called `keypoints`: (F, J, 2|3).")
    ],
    weights: Annotated[Path, typer.Option(help="Weights of `posescale train`, or an official checkpoint.")],
    out: Annotated[Path, typer.Option(help=".npz to write: `poses` (F, J, 3), and `meta` as JSON text.")],
    frames: Annotated[int | None, typer.Option(help="T of a window; that of the weights if unset.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Frames that windows share; half of T if unset.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the picture, for keypoints in pixels.")] = None,
    flip: Annotated[bool, typer.Option(help="Average with the mirror image (joints in Human3.6M's order).")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Windows per call.")] = 8,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads of PyTorch on the CPU.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Lift a clip by overlapping windows, and say how the steps where windows meet compare with the model's own."""
    import torch

    from posescale.cards import component
    from posescale.data.skeleton import LEFT, RIGHT
    from posescale.inference import LiftStream
    from posescale.train.results import check_device

    check_device(device)
    points = read_keypoints(keypoints)
    picture = _size(size)
    torch.set_num_threads(threads)
    trained, output = _trained(name, weights, frames), component(name).card.output
    if flip and points.shape[1] != 17:
        raise ConfigError(f"--flip knows the 17 joints of Human3.6M, {keypoints} has {points.shape[1]}")
    stream = LiftStream(
        trained.model.to(device), frames=trained.frames, output=output, overlap=overlap, size=picture, batch=batch,
        flip=(LEFT, RIGHT) if flip else None, watch_seams=True,
    )  # fmt: skip
    import numpy as np

    poses = np.concatenate([stream.push(points), stream.finish()])
    steps = stream.seams() if len(poses) > 1 else None
    meta = {
        "model": name, "weights": trained.digest, "frames": trained.frames, "output": output,
        "overlap": stream.overlap, "batch": batch, "flip": flip, "size": picture, "keypoints": str(keypoints.name),
        "latency_frames": stream.latency, "seams": steps and steps._asdict(),
    }  # fmt: skip
    write_poses(out, poses, meta)
    row = {"model": name, "frames": len(poses), "window": trained.frames, "overlap": stream.overlap, "out": str(out)}
    row |= {f"step_{k}" if k != "ratio" else "seam_ratio": v for k, v in (steps._asdict() if steps else {}).items()}
    show([row], as_json)


def read_keypoints(path: Path) -> "np.ndarray":
    """The one array of a .npy or .npz file, or that called `keypoints`; its shape is checked by whoever lifts it.

    Raises:
        DataError: it is missing, torn, no array file, or holds several arrays and none called `keypoints`.
    """
    import numpy as np

    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        names = content.files
        if "keypoints" in names or len(names) == 1:
            return content["keypoints" if "keypoints" in names else names[0]]
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a .npy or .npz file of numbers, or torn ({error})") from error
    raise DataError(f"{path}: expected one array, or one called keypoints; found {', '.join(names) or 'none'}")


def write_poses(out: Path, poses: "np.ndarray", meta: dict[str, Any]) -> None:
    """Write poses (F, J, 3) and their meta data as .npz, whole or not at all."""
    import numpy as np

    with whole_file(out) as stream:
        np.savez(stream, poses=poses, meta=np.array(json.dumps(meta)))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ConfigError(f"--size {text}: expected WIDTHxHEIGHT in pixels, such as 1920x1080")
    return int(width), int(height)


def _trained(name: str, weights: Path, frames: int | None) -> "Trained":
    from posescale.cards import component
    from posescale.train.trained import load_trained

    if (task := component(name).card.task) != "lifting":
        raise ConfigError(f"{name} is a {task} component; only lifting models lift")
    return load_trained(name, frames, weights)
