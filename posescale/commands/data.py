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
    """Read a dataset's own files, or generate it, and write memory-mapped arrays with an index."""
    from posescale.data import catalog
    from posescale.data.prepared import PreparedData

    catalog.prepare(name, out, source, parse_settings(settings or []))
    show(summary(PreparedData(out)), as_json, f"{name} in {out}")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A prepared folder.")],
    as_json: AsJson = False,
) -> None:
    """Read a prepared folder from end to end and check digest, shapes, splits and values."""
    from posescale.data.verify import verify as check

    show(summary(check(folder)), as_json, f"{folder}: as its index declares")


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
    """One row per split of a PreparedData."""
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
