"""Fixtures of the report's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_records import everything

from posescale import records
from posescale.records import Record


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
