"""`posescale campaign`: everything that wants measuring on a GPU, within given minutes."""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psutil
import typer

from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError

if TYPE_CHECKING:
    from posescale.campaign.run import Outcome


def campaign(
    out: Annotated[Path | None, typer.Option(help="Folder of records, log, data and training states.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    minutes: Annotated[float, typer.Option(min=0.05, help="After which nothing runs any more.")] = 9.0,
    records: Annotated[Path | None, typer.Option(help="The --out of an earlier call: goes on from there.")] = None,
    plan: Annotated[Path | None, typer.Option(help="A plan of your own; the committed one of the device if unset.")] = (
        None
    ),
    part: Annotated[list[str] | None, typer.Option(help="Only this part of the plan; repeatable.")] = None,
    study: Annotated[str, typer.Option(help="Name of the study, written into the records.")] = "campaign",
    pack: Annotated[
        Path | None, typer.Option(help="Measure nothing; collect packages for a machine without a network here.")
    ] = None,
    python: Annotated[str, typer.Option(help="With --pack: that machine's Python.")] = "3.12",
    without: Annotated[str, typer.Option(help="With --pack: packages it has, separated by commas.")] = "",
    as_json: AsJson = False,
) -> None:
    """Check, time, weigh and train by a plan, most valuable first; a later call goes on where this one stops."""
    if pack is not None:
        _pack(pack, python, without, as_json)
        return
    if out is None:
        raise ConfigError("campaign needs --out, a folder for records")
    from posescale.campaign.plan import PARTS, default_plan, read_plan
    from posescale.campaign.run import run

    if unknown := set(part or []) - set(PARTS):
        raise ConfigError(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    cells = [c for c in read_plan(plan or default_plan(device)) if not part or c.part in part]
    outcomes = run(cells, out, device, minutes - _since_start() / 60, records, study)
    rows = [_row(name, [o for o in outcomes if o.cell.part == name]) for name in PARTS if not part or name in part]
    title = f"{out}: {sum(r['records'] for r in rows)} records"
    show(rows, as_json, title, ["part", "cells", "now", "earlier", "left", "seconds", "min_left", "records", "ok"])
    if not as_json:
        typer.echo("\n".join(_notes(outcomes)))


def _since_start() -> float:
    """Seconds that this process took to come here, unpacking and imports included: they are part of the minutes."""
    return datetime.now().timestamp() - psutil.Process().create_time()


def _row(part: str, outcomes: list["Outcome"]) -> dict[str, Any]:
    states = [o.state for o in outcomes]
    found = [r for o in outcomes for r in o.records]
    statuses = {s: sum(r.status == s for r in found) for s in sorted({r.status for r in found})}
    ran, left = ([o.seconds for o in outcomes if (o.state == "left") == which] for which in (False, True))
    return {
        "part": part,
        "cells": len(outcomes),
        "now": states.count("done"),
        "earlier": states.count("earlier"),
        "left": states.count("left") + states.count("cut"),
        "seconds": round(sum(ran)),
        "min_left": round(sum(left) / 60, 1),
        "records": len(found),
        "ok": statuses.get("ok", 0),
        "statuses": ", ".join(f"{n} {s}" for s, n in statuses.items()),
    }


def _notes(outcomes: list["Outcome"], most: int = 12) -> list[str]:
    """Why records of this call are not `ok`: reasons that differ in their numbers only are shown once."""
    alike: dict[tuple[str, str], list[str]] = {}
    for record in (r for o in outcomes if o.state == "done" for r in o.records if r.status != "ok"):
        kind = re.sub(r"[\d.]+", "#", record.reason)
        alike.setdefault((record.status, kind), []).append(f"{record.variant}: {record.reason}"[:160])
    lines = [f"{len(texts)} {status}, such as {texts[0]}" for (status, _), texts in alike.items()]
    return lines[:most] + ([f"and {len(lines) - most} more reasons in the records"] if len(lines) > most else [])


def _pack(folder: Path, python: str, without: str, as_json: bool) -> None:
    from posescale.campaign.pack import pack

    found = pack(folder, python, tuple(name.strip() for name in without.split(",") if name.strip()))
    rows = [{"wheel": path.name, "mib": path.stat().st_size / 2**20} for path in found]
    show(rows, as_json, f"{folder}: {sum(row['mib'] for row in rows):.1f} MiB")
