"""`card.yaml` of a dataset: what a person must know before using it, and where its files are."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from posescale.consent import Terms


class Strict(BaseModel):
    """Cards refuse unknown keys: a typing error must not become a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RemoteFile(Strict):
    """One file of a dataset's own site.

    Attributes:
        sha256: where it is known; else the first download sets it (posescale.lockfile).
        bytes: size, where it is known.
        extract: a pattern of member paths to take out of a zip, which then goes; empty for a file kept as it is.
    """

    sha256: str | None = None
    bytes: int | None = None
    extract: str = ""


class Fetch(Strict):
    """What `posescale data fetch` brings.

    Attributes:
        base: address that the paths of `files` are appended to.
        files: path below the dataset's folder (and below `base`) -> what is known of it.
        delay: seconds between two files, out of courtesy.
        disk: bytes needed in all while fetching, about.
        note: what is left out, or what else a person must do.
    """

    base: str
    files: dict[str, RemoteFile] = Field(min_length=1)
    delay: float = Field(default=1.0, ge=0)
    disk: int
    note: str = ""


class DatasetCard(Strict):
    """`card.yaml` of a dataset."""

    id: str
    title: str
    task: Literal["lifting", "video"]
    licence: str
    terms: Terms | None = None  # what must be accepted before it is fetched or prepared; None for open data
    acknowledgement: str = ""
    obtain: str  # the exact steps
    layout: str  # files a source folder must hold
    size: str
    fetch: Fetch | None = None  # None where its files cannot be downloaded without a person
    protocols: list[str]  # ids; the first is the default
    splits: str
