"""The toy component and the data of the video training tests, made once."""

import pytest
from dots import CARD, NETWORK, write_dots


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("video_components")
    (root / "dots").mkdir()
    (root / "dots" / "card.yaml").write_text(CARD)
    (root / "dots" / "network.py").write_text(NETWORK)
    return root


@pytest.fixture(autouse=True)
def toy_components(toy_folder, monkeypatch):
    monkeypatch.setenv("POSESCALE_COMPONENTS", str(toy_folder))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return write_dots(tmp_path_factory.mktemp("dots"))


@pytest.fixture(scope="session")
def trained(data_dir, toy_folder, tmp_path_factory):
    """A folder of results of the toy, and its record."""
    from posescale.train.fit import fit

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESCALE_COMPONENTS", str(toy_folder))
        out = tmp_path_factory.mktemp("trained")
        return out, fit("dots", data_dir, 3, 0, "small", out)
