"""`posescale config-schema`: the configuration's JSON schema, for editors and for the test that keeps it in step."""

import json

import typer

from posescale.config import Config


def config_schema() -> None:
    """Print the JSON schema of the pipeline's configuration (kept in workflows/config/schema.json)."""
    typer.echo(schema_text(), nl=False)


def schema_text() -> str:
    """The schema as it stands in the file, newline included."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"
