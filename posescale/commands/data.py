"""`posescale data prepare` and `posescale data verify`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError

app = typer.Typer(help="Prepare and check datasets.", no_args_is_help=True)


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Dataset id, as listed by `posescale datasets`.")],
    out: Annotated[Path, typer.Option(help="Folder to write; prepared data already there are replaced.")],
    source: Annotated[Path | None, typer.Option(help="Folder of the original files (else POSESCALE_DATA).")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting as key=value; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a dataset's own files, or generate it, and write arrays with an index."""
    from posescale.data import catalog
    from posescale.data.opening import open_prepared

    catalog.prepare(name, out, source, parse_settings(settings or []))
    show(summary(open_prepared(out)), as_json, f"{name} in {out}")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A prepared folder.")],
    as_json: AsJson = False,
) -> None:
    """Read a prepared folder from end to end and check digest, shapes, splits, values and images."""
    from posescale.data.opening import open_prepared
    from posescale.data.verify import verify as check_lifting
    from posescale.data.video.verify import verify as check_video

    check = check_video if hasattr(open_prepared(folder), "videos") else check_lifting
    show(summary(check(folder)), as_json, f"{folder}: as its index declares")


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """`key=value` words as settings; values are read as YAML scalars, so numbers and true/false work.

    Raises:
        ConfigError: a word without =, or a key given twice.
    """
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in settings:
            raise ConfigError(f"--set {pair}: expected key=value, each key once")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {pair}: the value cannot be read: {error}") from error
    return settings


def summary(data: Any) -> list[dict[str, Any]]:
    """One row per split of a PreparedData or VideoData."""
    if hasattr(data, "videos"):
        return _video_summary(data)
    rows = []
    for split in ("train", "val", "test"):
        sequences = data.sequences(split)
        rows.append(
            {
                "dataset": data.index.dataset, "split": split, "sequences": len(sequences),
                "frames": sum(s.length for s in sequences), "subjects": len({s.subject for s in sequences}),
                "actions": len({s.action for s in sequences}), "fps": data.index.fps, "digest": data.index.digest,
            }
        )  # fmt: skip
    return rows


def _video_summary(data: Any) -> list[dict[str, Any]]:
    rows = []
    for split in ("train", "val", "test"):
        videos, people = data.videos(split), data.people[data.rows(split)]
        rows.append(
            {
                "dataset": data.index.dataset, "split": split, "videos": len(videos),
                "frames": sum(len(v.frames) for v in videos),
                "labelled": sum(frame.labelled for v in videos for frame in v.frames),
                "people": len(people), "joints": int(people["annotated"].sum()),
                "detections": len(data.rows(split, "detections")), "digest": data.index.digest,
            }
        )  # fmt: skip
    return rows
