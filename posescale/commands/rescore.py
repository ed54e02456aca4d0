"""`posescale rescore`: stored predictions under other protocols."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posescale.commands.evaluate import Change, parse_changes, rows
from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError

if TYPE_CHECKING:
    from posescale.records import Record


def rescore(
    file: Annotated[Path, typer.Argument(help="Predictions stored by `posescale evaluate --predictions`.")],
    protocol: Annotated[
        str | None, typer.Option(help="Protocol; all that fit, and its own with one thing changed at a time, if unset.")
    ] = None,
    change: Change = None,
    data: Annotated[Path | None, typer.Option(help="The prepared data; where they were, if unset.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the records to this .jsonl file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score stored predictions under other protocols: how many millimetres are protocol alone. No model is run."""
    from posescale import records
    from posescale.metrics.protocols import protocol as named
    from posescale.train import rescore as stored

    if change and not protocol:
        raise ConfigError("--change needs the --protocol that it changes")
    if protocol:
        found = [stored.rescore(file, named(protocol).changed(**parse_changes(change or [])), data)]
        refused: dict[str, str] = {}
    else:
        found, refused = stored.rescore_all(file, stored.variations(file), data)
    if record:
        records.write(record, found)
    for name, reason in refused.items():
        typer.echo(f"posescale: not under {name}: {reason}", err=True)
    if protocol:
        show(rows(found[0]), as_json, title=f"{file}, protocol {found[0].protocol}",
             columns=["action", "frames_scored", "mpjpe", "p_mpjpe", "n_mpjpe", "mpjve"])  # fmt: skip
        return
    show(_differences(found), as_json, title=f"{file} under {len(found)} protocols (mm)",
         columns=["protocol", "frames_scored", "mpjpe", "change", "p_mpjpe"])  # fmt: skip


def _differences(found: list["Record"]) -> list[dict[str, Any]]:
    """One row per protocol: its means, and what it changes against the one the predictions were made under."""
    table = []
    for result in found:
        values = {value.name: value.value for value in result.values if not value.group}
        made = result.options["rescored_from"]
        table.append({"model": result.variant, "frames": result.frames, "protocol": result.protocol, "made_under": made,
                      "frames_scored": int(sum(result.samples["frames_by_sequence"])), **values})  # fmt: skip
    base = next((row["mpjpe"] for row in table if row["protocol"] == row["made_under"]), None)
    return [row | {"change": row["mpjpe"] - base if base is not None else None} for row in table]
