"""Files from the network, known by their SHA-256: resumed when broken off, refused when they are others."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from hwnas.errors import UserError
from hwnas.files import explain_os_errors, fsync_directory, sha256_of
from hwnas.progress import Progress

_CHUNK = 1 << 18


@dataclass(frozen=True)
class RemoteFile:
    """A file that is always the same: its name, where it is served, its SHA-256 (hexadecimal) and size in bytes."""

    name: str
    urls: tuple[str, ...]
    sha256: str
    size: int


class _Broken(Exception):  # noqa: N818 - an event in a download, not an error that anybody sees
    """The connection failed; trying again may help."""


class _Useless(Exception):  # noqa: N818
    """This address does not serve the file; trying it again will not help."""


def fetch(
    file: RemoteFile,
    directory: Path,
    progress: Progress,
    *,
    timeout: float = 30.0,
    attempts: int = 4,
    pause: float = 0.5,
) -> Path:
    """Return ``directory / file.name``, downloading it unless it lies there already with the right content.

    What has arrived of a broken download is kept beside it as ``*.part`` and completed by the next attempt or the
    next call.  Two processes may call this at once; one of them downloads.

    Args:
        timeout: seconds without a byte after which a connection counts as broken.
        attempts: attempts in a row that may bring nothing before the next address is tried.
        pause: seconds before the second attempt; doubled before each further one.

    Raises:
        UserError: no address served the right content, or the disk is full.
    """
    path = directory / file.name
    with explain_os_errors(path):
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / f".{file.name}.lock"):
            if path.exists() and sha256_of(path) == file.sha256:
                return path
            partial = directory / f"{file.name}.part"
            _download(file, partial, progress, timeout, attempts, pause)
            partial.replace(path)
            fsync_directory(directory)
    return path


def _download(file: RemoteFile, partial: Path, progress: Progress, timeout: float, attempts: int, pause: float) -> None:
    """Fill ``partial`` with the right content from the first address that serves it."""
    reasons = []
    for url in file.urls:
        try:
            _download_from(url, file, partial, progress, timeout, attempts, pause)
        except (_Broken, _Useless) as error:
            reasons.append(f"{url}: {error}")
        else:
            return
    raise UserError(
        f"{file.name} could not be downloaded ({'; '.join(reasons)}); check the network and run the same command "
        "again, it goes on where it stopped."
    )


def _download_from(
    url: str, file: RemoteFile, partial: Path, progress: Progress, timeout: float, attempts: int, pause: float
) -> None:
    """Fill ``partial`` from one address, through as many connections as it takes."""
    failures = 0
    while True:
        before = _size(partial)
        try:
            started_at = _transfer(url, file, partial, progress, timeout)
        except _Broken:
            # A connection that brought something was worth its while.
            failures = 0 if _size(partial) > before else failures + 1
            if failures >= attempts:
                raise
            time.sleep(pause * 2 ** max(failures - 1, 0))
            continue
        found = sha256_of(partial)
        if found == file.sha256:
            return
        partial.unlink()
        if started_at == 0:
            raise _Useless(f"wrong content (SHA-256 {found[:12]}… for {file.sha256[:12]}…)")
        # The part found here may have been another file's: begin anew, once, since then it starts at 0.


def _transfer(url: str, file: RemoteFile, partial: Path, progress: Progress, timeout: float) -> int:
    """Append to ``partial`` what it lacks, by one connection; return the offset at which that began."""
    if _size(partial) > file.size:
        partial.unlink()
    have = _size(partial)
    if have == file.size:
        return have
    response = _connect(url, have, timeout)
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        progress.start(f"Downloading {file.name}", file.size, done=have, unit="B")
        try:
            with partial.open("r+b" if have else "wb") as out:
                out.seek(have)
                received = have
                while chunk := _read(response):
                    received += len(chunk)
                    if received > file.size:
                        raise _Useless(f"more than the {file.size} bytes expected")
                    out.write(chunk)
                    progress.advance(len(chunk))
                out.flush()
                os.fsync(out.fileno())
        finally:
            progress.finish()
    if received < file.size:
        raise _Broken(f"broken off after {received} of {file.size} bytes")
    return have


def _connect(url: str, have: int, timeout: float) -> http.client.HTTPResponse:
    """Ask for the file from byte ``have`` on; the server may answer with all of it."""
    headers = {"User-Agent": "hwnas"}
    if have:
        headers["Range"] = f"bytes={have}-"
    if not url.startswith(("http://", "https://")):
        raise _Useless("neither http nor https")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(  # noqa: S310 - the scheme is checked above
            urllib.request.Request(url, headers=headers),  # noqa: S310
            timeout=timeout,
        )
    except urllib.error.HTTPError as error:
        with error:
            reason = f"HTTP {error.code} {error.reason}"
        transient = error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR or error.code in (408, 429)
        raise (_Broken if transient else _Useless)(reason) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(getattr(error, "reason", None) or error or type(error).__name__)) from error
    given = response.headers.get("Content-Range", "")
    if response.status == http.HTTPStatus.PARTIAL_CONTENT and not given.startswith(f"bytes {have}-"):
        response.close()
        raise _Useless(f"the server sent the range '{given}' when asked to go on at byte {have}")
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    """The next bytes; an empty result is the end, whether or not all has come."""
    try:
        return response.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
