"""The toy component and the data of the training tests, made once."""

import textwrap

import pytest
from swing import CARD, NETWORK, write_data

from posescale.train.fit import fit


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """A folder for POSESCALE_COMPONENTS with the models `toy` (seq2seq) and `toy_frame` (seq2frame)."""
    root = tmp_path_factory.mktemp("components")
    for name, output in (("toy", "seq2seq"), ("toy_frame", "seq2frame")):
        folder = root / name
        folder.mkdir()
        card = CARD.format(name=name, output=f"output: {output}", single=str(output == "seq2frame").lower())
        (folder / "card.yaml").write_text(card.replace("id: toy", f"id: {name}"))
        (folder / "network.py").write_text(textwrap.dedent(NETWORK))
    return root


@pytest.fixture(autouse=True)
def toy_components(toy_folder, monkeypatch):
    monkeypatch.setenv("POSESCALE_COMPONENTS", str(toy_folder))


@pytest.fixture(scope="session")
def toy_runs(data_dir, toy_folder, tmp_path_factory):
    """Folder of results of each toy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSESCALE_COMPONENTS", str(toy_folder))
        out = {name: tmp_path_factory.mktemp(name) for name in ("toy", "toy_frame")}
        for name, folder in out.items():
            fit(name, data_dir, 9, 5, "small", folder)
    return out


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "swing")
