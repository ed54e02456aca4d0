"""Fixtures for all tests: one thread, and the shared data folder where there is one."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # helper threads spin against xdist's processes

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path | None:
    """The folder of goldens and sample data beside the repository, or None."""
    folder = Path(os.environ.get("POSESCALE_SHARED", ROOT.parent / "shared"))
    return folder if (folder / "data").is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if folder is None:
        pytest.skip("needs the shared data folder: set POSESCALE_SHARED or put it beside the repository")
    return folder


@pytest.fixture(scope="session", autouse=True)
def licences_accepted(tmp_path_factory):
    """Settings of the tests' own, in which all datasets' licences are accepted: the tests use made-up data."""
    os.environ["POSESCALE_CONFIG"] = str(tmp_path_factory.mktemp("settings"))
    from posescale import consent
    from posescale.data import catalog

    for name in catalog.datasets():
        consent.require(name, catalog.dataset_card(name).terms, accept=True)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    import torch

    torch.set_num_threads(1)
