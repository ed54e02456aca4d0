"""`posescale plan`: how many hours a configuration's trainings take, from measured steps."""

from pathlib import Path
from typing import Annotated, Any

import typer

from posescale.commands.output import AsJson, show


def plan(
    configfile: Annotated[Path, typer.Option(help="Configuration of the pipeline (workflows/config).")],
    rounds: Annotated[int, typer.Option(min=0, help="Timed steps of each cell here; 0 measures nothing.")] = 2,
    clips: Annotated[
        int | None, typer.Option(min=2, help="Clips per timed step; if unset 2 on a CPU, the recipe's batch on a GPU.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda: what is timed here.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads torch may use.")] = 1,
    records: Annotated[
        list[Path] | None, typer.Option(help="Training records of other devices; results/published if unset.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast training hours per model, clip length and device; says where a device has no measurement."""
    from rich.console import Console
    from rich.progress import Progress

    from posescale import config
    from posescale.records import read
    from posescale.train import forecast
    from posescale.train.results import check_device

    chosen = config.read(configfile)
    wanted = list(forecast.cells(chosen, Path("results") / chosen.name))
    forecast.check(wanted)
    folders = records if records is not None else [Path("results/published")]
    times = forecast.recorded((r for folder in folders if folder.exists() for r in read(folder)), wanted)
    if rounds:
        check_device(device)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            count = len({(c.model, c.frames, c.clips) for c in wanted})
            task = bar.add_task("timing steps", total=rounds * count)
            timed = forecast.measure(wanted, rounds, clips, device, threads, lambda: bar.update(task, advance=1))
        times = {
            f"{forecast.here(device)} ({threads} thread)" if device == "cpu" else forecast.here(device): timed
        } | times
    rows = forecast.forecast(wanted, times or {"any device": {}})
    if as_json:
        show(rows, as_json)
        return
    for name in dict.fromkeys(row["device"] for row in rows):
        own = [_brief(row) for row in rows if row["device"] == name]
        show(own, as_json, f"{chosen.name}: hours of training on {name}, all seeds")


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """What fits on a terminal."""
    hours = "" if row["hours"] is None else f"{row['hours']:,.2f}"
    if row["hours_low"] is not None:
        hours += f" [{row['hours_low']:,.2f}, {row['hours_high']:,.2f}]"
    cell = f"{row['model']} T={row['frames']}" if row["model"] else ""
    parts = {"study": row["study"], "cell": cell, "steps": row["steps"], "s/step": row["seconds_per_step"]}
    return parts | {"hours": hours, "basis": row["basis"]}
