"""The `posescale` command: one verb, one step, each also a rule of the pipeline."""

import logging
import sys
from importlib import import_module

import typer

from posescale import lifeline
from posescale.errors import PosescaleError

# verb -> module below posescale.commands that holds the function of that name (dashes as underscores)
VERBS = {
    "models": "models",
    "datasets": "datasets",
    "checkpoints": "checkpoints",
    "train": "train",
    "evaluate": "evaluate",
    "average-splits": "average_splits",
    "plan": "plan",
    "rescore": "rescore",
    "tables-3dhp": "tables_3dhp",
    "lift": "lift",
    "cost": "cost",
    "latency": "latency",
    "campaign": "campaign",
    "report": "report",
    "doctor": "doctor",
    "restore": "restore",
    "new-component": "new_component",
    "claims": "claims",
    "config-schema": "config_schema",
}
GROUPS = {"data": "data"}  # verbs with verbs of their own: module -> its `app`

app = typer.Typer(
    name="posescale",
    help="How video human-pose models scale: accuracy, FLOPs, memory and latency under one protocol.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _register() -> None:
    for verb, module in VERBS.items():
        app.command(verb)(getattr(import_module(f"posescale.commands.{module}"), verb.replace("-", "_")))
    for group, module in GROUPS.items():
        app.add_typer(import_module(f"posescale.commands.{module}").app, name=group)


def main() -> None:
    """Run the command line; errors meant for people are printed as one paragraph, exit status 1."""
    logging.basicConfig(level=logging.INFO, format="posescale: %(message)s", stream=sys.stderr)
    lifeline.follow()
    _register()
    try:
        app()
    except PosescaleError as error:
        sys.exit(f"posescale: {error}")
    except OSError as error:  # a full disk, a read-only folder: the system's words name file and cause
        sys.exit(f"posescale: {error.filename or 'input/output'}: {error.strerror or error}")
