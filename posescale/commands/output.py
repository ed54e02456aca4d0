"""How verbs print: a table for people, or `--json` for programs, from the same rows."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON list of flat objects instead of a table.")]


def show(rows: Sequence[dict[str, Any]], as_json: bool, title: str = "", columns: Sequence[str] | None = None) -> None:
    """Print rows as a table or as a JSON list.

    Args:
        rows: flat dictionaries with the same keys.
        as_json: print every key of every row as JSON; NaN becomes null.
        title: heading of the table.
        columns: keys shown in the table, in order; all when not given.
    """
    if as_json:
        typer.echo(json.dumps([{k: _plain(v) for k, v in row.items()} for row in rows], indent=1))
        return
    keys = columns or (list(rows[0]) if rows else [])
    table = Table(title=escape(title), title_justify="left", header_style="bold")
    if len(rows) == 1 and len(keys) > 4:  # one thing: its properties below one another
        table.show_header = False
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for key in keys:
            table.add_row(key.replace("_", " "), _cell(rows[0].get(key)))
    else:
        _columns(table, keys, rows)
    Console().print(table)


def _columns(table: Table, keys: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    for position, key in enumerate(keys):
        numeric = bool(rows) and all(isinstance(row.get(key), (int, float)) for row in rows)
        justify = "right" if numeric else "left"
        name = position == 0 and all(len(_cell(row.get(key))) <= 24 for row in rows)
        table.add_column(key.replace("_", " "), justify=justify, overflow="fold", no_wrap=name)
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in keys))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
