"""Small prepared folders and CMU-like files."""

import os
from pathlib import Path

import pytest
from acclaim_files import amc_text, asf_text, channels
from h36m_files import cpn_content, sh_content

from posescale.data import catalog
from posescale.data.prepared import PreparedData

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def pair(tmp_path):
    """An .asf and an .amc of 40 frames in one folder."""
    folder = tmp_path / "cmu"
    folder.mkdir()
    (folder / "07.asf").write_text(asf_text())
    (folder / "07_03.amc").write_text(amc_text(channels(40)))
    return folder / "07.asf", folder / "07_03.amc"


@pytest.fixture(scope="module")
def sh():
    """What Human3.6M's pickle holds; tests change copies of it."""
    return sh_content()


@pytest.fixture(scope="module")
def cpn():
    """What the pair of npz holds; tests change copies of it."""
    return cpn_content()


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """Synthetic motion: 3 subjects, 2 trials, 60 frames, 2 cameras."""
    folder = tmp_path_factory.mktemp("prepared") / "small"
    settings = {"subjects": 3, "trials": 2, "seconds": 2.0, "cameras": 2}
    catalog.prepare("synthetic_motion", folder, settings=settings)
    return folder


@pytest.fixture(scope="session")
def small(small_folder):
    return PreparedData(small_folder)


@pytest.fixture(scope="session")
def cmu_shared():
    """The shared CMU folder, where there is one."""
    root = Path(os.environ.get("POSESCALE_SHARED", REPOSITORY.parent / "shared"))
    folder = root / "data" / "cmu_mocap"
    if not folder.is_dir():
        pytest.skip(f"needs {folder} (set POSESCALE_SHARED to the folder that holds data/)")
    return folder
