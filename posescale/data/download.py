"""One file over HTTP: gone on with where it broke off, checked, and put in its place whole.

What has arrived waits beside the final place in `.NAME.partial`, with `.NAME.partial.json` saying of which address
and version it is part, so that a killed download goes on. It goes on only where the server says that the file is
still the same one (`If-Range` with its ETag or date), or where the hash of the whole is known.
"""

import contextlib
import email.utils
import errno
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import requests
import urllib3

from posescale import __version__
from posescale.errors import FetchError
from posescale.lockfile import sha256_of

USER_AGENT = f"posescale/{__version__} (research data fetcher; one connection; python-requests)"
BLOCK = 1 << 16
PASSING = {408, 425, 429, 500, 502, 503, 504}  # answers that a later try may not get
Progress = Callable[[int, int | None], None]  # bytes of the file that are here, bytes it has if known


@dataclass(frozen=True)
class Policy:
    """How patient a download is, in seconds.

    Attributes:
        connect, read: longest wait for a connection, and for the next bytes.
        tries: failures in a row, none of which brought a megabyte, after which it gives up.
        first_wait, longest_wait: between tries; each wait is twice the one before. A server's Retry-After goes before,
            and is refused when it is longer than `longest_retry_after`.
    """

    connect: float = 15.0
    read: float = 60.0
    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_retry_after: float = 600.0
    sleep: Callable[[float], None] = time.sleep


PATIENT = Policy()


class _Passing(Exception):
    """A failure that may pass; `wait` is what the server asked for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Partial:
    """The part of a file that has arrived."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f".{target.name}.partial")
        self.note = target.with_name(f".{target.name}.partial.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def validator(self, url: str) -> str | None:
        """What If-Range must say for the part to be of use; None when it belongs to something else."""
        try:
            noted = json.loads(self.note.read_text(encoding="utf-8"))
            return noted["validator"] if noted["url"] == url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def begin(self, url: str, validator: str | None) -> None:
        self.path.write_bytes(b"")
        self.note.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def new_session() -> requests.Session:
    """A session that says who asks, and asks for files as they are stored."""
    session = requests.Session()
    session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
    return session


def download(
    session: requests.Session,
    url: str,
    target: Path,
    sha256: str | None = None,
    policy: Policy = PATIENT,
    progress: Progress = lambda here, total: None,
) -> str:
    """Bring one file to `target`, which must not exist yet.

    Args:
        session: from `new_session`.
        url: http or https.
        target: the final place; its folder is made.
        sha256: of the whole file, where it is known.
        policy: patience.
        progress: told after every block.

    Returns:
        the SHA-256 of the file.

    Raises:
        FetchError: says what the server answered, what is wrong with what came, or that the disk is full. What
            arrived is kept for the next run unless it is wrong.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, failures = _Partial(target), 0
    while True:
        before = partial.size
        try:
            _attempt(session, url, partial, sha256 is not None, policy, progress)
            break
        except _Passing as trouble:
            failures = 1 if partial.size - before > 1 << 20 else failures + 1
            if failures >= policy.tries:
                raise FetchError(
                    f"{url}: {trouble} ({failures} tries in a row). {partial.size:,} bytes are kept; "
                    "run the same command again to go on from there"
                ) from trouble
            wait = min(policy.first_wait * 2 ** (failures - 1), policy.longest_wait)
            policy.sleep(wait if trouble.wait is None else trouble.wait)
    found = sha256_of(partial.path)
    if sha256 is not None and found != sha256:
        size = partial.size
        partial.discard()
        raise FetchError(
            f"{url}: the {size:,} bytes that came have SHA-256 {found}, expected {sha256}. They were thrown away. "
            "Run again; if it stays so, the server's file has changed and must not be used unseen"
        )
    partial.path.replace(target)
    partial.discard()
    return found


def _attempt(
    session: requests.Session, url: str, partial: _Partial, hash_known: bool, policy: Policy, progress: Progress
) -> None:
    """Ask once, and write what comes behind what is here."""
    validator = partial.validator(url)
    offset = partial.size if validator or (hash_known and partial.note.exists()) else 0
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and validator:
        headers["If-Range"] = validator
    with _asked(session, url, headers, policy) as response:
        if response.status_code == 416:
            if _whole(response) == offset:
                return
            partial.discard()
            raise _Passing("the file is now shorter than the part that is here, which was thrown away", wait=0.0)
        _check_answer(response, url, policy)
        total = _total(response, offset, url)
        if response.status_code == 200:
            offset = 0
            partial.begin(url, _validator(response))
        _check_room(partial.path, total, offset)
        here = _write(response, partial.path, offset, total, progress)
    if total is not None and here != total:
        raise _Passing(f"the connection ended after {here:,} of {total:,} bytes")


@contextlib.contextmanager
def _asked(session: requests.Session, url: str, headers: dict[str, str], policy: Policy) -> Iterator[requests.Response]:
    """The answer to one request; failures of the connection pass, others do not."""
    try:
        with session.get(url, headers=headers, stream=True, timeout=(policy.connect, policy.read)) as response:
            yield response
    except requests.exceptions.SSLError as error:
        raise FetchError(f"{url}: the server's certificate is not accepted: {error}") from error
    except (requests.exceptions.ReadTimeout, urllib3.exceptions.ReadTimeoutError) as error:
        raise _Passing(f"the server stayed silent for {policy.read:g} seconds") from error
    except (requests.exceptions.ConnectionError, urllib3.exceptions.HTTPError) as error:
        raise _Passing(f"the connection failed or broke: {_cause(error)}") from error
    except requests.exceptions.RequestException as error:
        raise FetchError(f"{url}: cannot be asked for: {error}") from error


def _cause(error: BaseException) -> str:
    """The innermost reason of an error of requests, without the objects it names."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return re.sub(r"<[^>]*>:? ?", "", str(error)) or type(error).__name__


def _check_answer(response: requests.Response, url: str, policy: Policy) -> None:
    status, reason = response.status_code, response.reason or ""
    said = f"{url}: the server answered {status} {reason}".rstrip()
    if status in PASSING:
        wait = _retry_after(response)
        if wait is not None and wait > policy.longest_retry_after:
            raise FetchError(f"{said} and asks for {wait:,.0f} seconds of patience; run the command again after that")
        raise _Passing(f"the server answered {status} {reason}".rstrip(), wait)
    if status in (401, 403):
        raise FetchError(f"{said}: it wants a registration, or does not serve this file; `posescale datasets NAME` "
                         "says how to get it by hand")  # fmt: skip
    if status in (404, 410):
        raise FetchError(f"{said}: the file has moved or is gone; `posescale datasets NAME` names other ways")
    if status not in (200, 206):
        raise FetchError(f"{said}, expected 200 or 206")
    if response.headers.get("Content-Type", "").startswith("text/html") and not url.endswith((".html", ".htm")):
        raise FetchError(f"{url}: the server answered with a web page instead of the file (a login or a notice?); "
                         "open the address in a browser")  # fmt: skip


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _validator(response: requests.Response) -> str | None:
    """What If-Range may hold: a strong ETag, else the date of last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _whole(response: requests.Response) -> int | None:
    """The size of the whole file as a Content-Range tells it."""
    match = re.fullmatch(r"bytes (?:\*|\d+-\d+)/(\d+)", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _total(response: requests.Response, offset: int, url: str) -> int | None:
    if response.status_code == 206:
        asked = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        if not asked or int(asked[1]) != offset:
            found = response.headers.get("Content-Range", "none")
            raise FetchError(f"{url}: asked for the bytes from {offset}, but the answer's Content-Range is {found}")
        return _whole(response)
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _check_room(path: Path, total: int | None, offset: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if total is not None and total - offset > free:
        raise FetchError(f"{path.parent}: {total - offset:,} bytes are still to come, but only {free:,} are free; "
                         "make room or choose another folder")  # fmt: skip


def _write(response: requests.Response, path: Path, offset: int, total: int | None, progress: Progress) -> int:
    """Append the body; how many bytes of the file are then here."""
    here = offset
    try:
        with path.open("ab") as stream:  # holds exactly `offset` bytes
            # As sent, never unpacked: servers that call a .gz file "encoded" would change it.
            while block := response.raw.read1(BLOCK, decode_content=False):
                stream.write(block)
                stream.flush()
                here += len(block)
                progress(here, total)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full; make room and run again, it goes on from there" if full else error.strerror
        raise FetchError(f"{path}: cannot be written: {what}") from error
    return here
