"""Fixtures of the report's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_records import everything

from posescale import records
from posescale.records import Record
from posescale.report import build


@pytest.fixture(scope="session")
def full() -> list[Record]:
    """The records of `everything`."""
    return list(everything())


@pytest.fixture
def store(tmp_path: Path) -> Callable[[list[Record]], Path]:
    """Writes records into a folder and returns it."""

    def write(found: list[Record], name: str = "results") -> Path:
        records.write(tmp_path / name / "all.jsonl", found)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def page(full, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    records.write(folder / "results" / "all.jsonl", full)
    return build([folder / "results"], folder / "out", "A <title> & more")
