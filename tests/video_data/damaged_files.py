"""Editing small json files in place."""

import json


def edited(path, change):
    """Apply `change` to a json file's content in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
