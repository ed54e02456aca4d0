"""The state a training run resumes from, and the lock that keeps two processes from writing one run."""

import hashlib
import io
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from posescale.errors import UnavailableError
from posescale.files import write_whole

try:
    import fcntl
except ImportError:  # not a POSIX system: no lock to take
    fcntl = None

log = logging.getLogger(__name__)


def tensors_to_bytes(content: Any) -> bytes:
    """What `torch.save` would write; equal content gives equal bytes, whatever the file is called."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class ResumeStore:
    """States of one run at the ends of its epochs; the two newest are kept.

    A file's name ends with the digest of its bytes, so a torn or foreign one is recognised and passed over.

    Args:
        folder: of this run alone; another run's settings have another folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: dict[str, Any], epoch: int) -> None:
        """Keep the state after `epoch`."""
        content = tensors_to_bytes(state)
        write_whole(self.folder / f"epoch-{epoch:06d}-{_digest(content)}.pt", content)
        for old in self._files()[:-2]:
            old.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest whole state, or None. Torn files are named in a warning and passed over."""
        for path in reversed(self._files()):
            content = path.read_bytes()
            if path.stem.rpartition("-")[2] == _digest(content):
                log.info("resuming after epoch %d (%s)", int(path.stem.split("-")[1]), path)
                return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            log.warning("%s is torn; going back to the epoch before it", path)
            path.unlink()
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.pt"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@contextmanager
def exclusive(folder: Path, patience: float = 5.0) -> Iterator[None]:
    """Hold a folder for this process; the kernel lets go of it when the process ends, however it ends.

    Args:
        folder: made when missing; keeps an empty file `.lock` afterwards.
        patience: seconds to wait for a holder that is just ending.

    Raises:
        UnavailableError: another process holds it, with that process's id.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as stream:
        deadline = time.monotonic() + patience
        while not _locked(stream):
            if time.monotonic() > deadline:
                stream.seek(0)
                holder = stream.read().strip() or "unknown"
                raise UnavailableError(
                    f"{folder}: process {holder} is training into this folder; wait for it, end it, or choose "
                    "another --out"
                )
            time.sleep(0.1)
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield
        stream.truncate(0)


def _locked(stream: Any) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
