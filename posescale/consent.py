"""Licences that a person must accept before gated data are used: asked once, kept in one file.

The file is `consent.json` in the user's configuration folder (POSESCALE_CONFIG names another folder). An acceptance
belongs to the text that was shown: when a card's terms change, it is asked for again.
"""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, ValidationError

from posescale import __version__
from posescale.errors import ConsentError, DataError
from posescale.files import write_whole


class Terms(BaseModel):
    """What a card asks a person to accept: the words, and where the licence itself is to be read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    read_at: str

    @property
    def digest(self) -> str:
        """SHA-256 of the words, whatever their line breaks."""
        return sha256(" ".join(f"{self.text} {self.read_at}".split()).encode()).hexdigest()


class Acceptance(BaseModel):
    """That a person accepted some terms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    terms_sha256: str
    version: str  # of posescale
    date: str


def consent_file() -> Path:
    """Where acceptances are kept."""
    folder = os.environ.get("POSESCALE_CONFIG")
    return (Path(folder) if folder else user_config_path("posescale")) / "consent.json"


def acceptances() -> list[Acceptance]:
    """What was accepted so far.

    Raises:
        DataError: the file is there and cannot be understood.
    """
    path = consent_file()
    if not path.exists():
        return []
    try:
        return [Acceptance.model_validate(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise DataError(f"{path}: not a list of accepted licences: {error}. Move it away and accept again") from error


def accepted(dataset: str, terms: Terms | None) -> bool:
    """Whether nothing has to be accepted (any more)."""
    return terms is None or any(a.dataset == dataset and a.terms_sha256 == terms.digest for a in acceptances())


def require(dataset: str, terms: Terms | None, accept: bool = False, ask: Callable[[str], bool] | None = None) -> None:
    """Let only those pass who accepted the terms: earlier, by `accept`, or by answering yes to `ask`.

    Raises:
        ConsentError: the terms were not accepted.
    """
    if accepted(dataset, terms):
        return
    words = f"{dataset} may be used under its licence only: {' '.join(terms.text.split())} Read it at {terms.read_at}"
    if not (accept or (ask is not None and ask(words))):
        raise ConsentError(
            f"{words}. You have not accepted it on this machine. When you have read it and agree, add "
            f"--accept-licence once; that is noted in {consent_file()}"
        )
    _record(dataset, terms)


def _record(dataset: str, terms: Terms) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    kept = [a for a in acceptances() if (a.dataset, a.terms_sha256) != (dataset, terms.digest)]
    kept.append(Acceptance(dataset=dataset, terms_sha256=terms.digest, version=__version__, date=now))
    write_whole(consent_file(), json.dumps([a.model_dump() for a in kept], indent=1) + "\n")
