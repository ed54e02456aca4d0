"""`posescale data fetch`, `posescale data prepare` and `posescale data verify`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError

app = typer.Typer(help="Fetch, prepare and check datasets.", no_args_is_help=True)
Accept = Annotated[
    bool, typer.Option("--accept-licence", help="You have read the dataset's licence and accept it (noted once).")
]


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Dataset id, as listed by `posescale datasets`.")],
    to: Annotated[Path | None, typer.Option(help="Folder to fetch to (else its own below POSESCALE_DATA).")] = None,
    accept_licence: Accept = False,
    as_json: AsJson = False,
) -> None:
    """Download a dataset from its own site; goes on where an earlier, killed or broken one stopped.

    Files are compared with their published hashes, or with those of the first download (fetched.json).
    """
    from posescale.data.catalog import dataset_card
    from posescale.data.fetch import fetch as bring
    from posescale.data.fetch import folder_for

    agree(name, accept_licence)
    brought = bring(name, to)
    folder = folder_for(name, to)
    row = {
        "dataset": name,
        "folder": str(folder),
        "brought": len(brought),
        "bytes": sum(p.stat().st_size for p in brought),
    }
    show([row], as_json, f"{name}: everything that a program can fetch is in {folder}")
    if note := dataset_card(name).fetch.note:
        typer.echo(" ".join(note.split()), err=True)


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Dataset id, as listed by `posescale datasets`.")],
    out: Annotated[Path, typer.Option(help="Folder to write; prepared data already there are replaced.")],
    source: Annotated[Path | None, typer.Option(help="Folder of the original files (else POSESCALE_DATA).")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A setting as key=value; may be repeated.")
    ] = None,
    accept_licence: Accept = False,
    as_json: AsJson = False,
) -> None:
    """Read a dataset's own files, or generate it, and write arrays with an index."""
    from posescale.data import catalog
    from posescale.data.opening import open_prepared

    agree(name, accept_licence)
    catalog.prepare(name, out, source, parse_settings(settings or []))
    show(summary(open_prepared(out)), as_json, f"{name} in {out}")


@app.command()
def verify(
    what: Annotated[
        str, typer.Argument(metavar="NAME|FOLDER", help="A dataset's original files, or a prepared folder.")
    ],
    source: Annotated[Path | None, typer.Option(help="Folder of the original files (else POSESCALE_DATA).")] = None,
    as_json: AsJson = False,
) -> None:
    """Read a prepared folder, or a dataset's original files, from end to end.

    A prepared folder: digest, shapes, splits, values and images. Original files: known and noted hashes, then
    everything that `data prepare` checks, without writing anything.
    """
    from posescale.data import catalog
    from posescale.data.opening import open_prepared
    from posescale.data.originals import verify_originals
    from posescale.data.verify import verify as check_lifting
    from posescale.data.video.verify import verify as check_video

    if what in catalog.datasets() and not (Path(what) / "index.json").exists():
        show([verify_originals(what, source)], as_json, f"{what}: the original files can be prepared")
        return
    check = check_video if hasattr(open_prepared(Path(what)), "videos") else check_lifting
    show(summary(check(Path(what))), as_json, f"{what}: as its index declares")


def agree(name: str, accept: bool) -> None:
    """Let a dataset's licence be accepted: by the option, or by a question where a person is at the terminal.

    Raises:
        ConsentError: it was not.
    """
    from posescale import consent
    from posescale.data import catalog

    def ask(words: str) -> bool:
        return typer.confirm(f"{words}\nHave you read it, and do you accept it?", err=True)

    person = sys.stdin.isatty() and sys.stderr.isatty()
    consent.require(name, catalog.dataset_card(name).terms, accept, ask if person else None)


def parse_settings(pairs: list[str], option: str = "--set") -> dict[str, Any]:
    """`key=value` words of an option as settings; values are read as YAML, so numbers, true/false and [a, b] work.

    Raises:
        ConfigError: a word without =, or a key given twice.
    """
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key or key in settings:
            raise ConfigError(f"{option} {pair}: expected key=value, each key once")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{option} {pair}: the value cannot be read: {error}") from error
    return settings


def summary(data: Any) -> list[dict[str, Any]]:
    """One row per split of a PreparedData or VideoData."""
    if hasattr(data, "videos"):
        return _video_summary(data)
    rows = []
    for split in ("train", "val", "test"):
        sequences = data.sequences(split)
        rates = sorted({s.fps or data.index.fps for s in sequences} - {0})
        rows.append(
            {
                "dataset": data.index.dataset, "split": split, "sequences": len(sequences),
                "frames": sum(s.length for s in sequences), "subjects": len({s.subject for s in sequences}),
                "actions": len({s.action for s in sequences}),
                "fps": rates[0] if len(rates) == 1 else ", ".join(f"{rate:g}" for rate in rates) or None,
                "digest": data.index.digest,
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
