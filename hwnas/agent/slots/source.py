"""Where a channel's files are: a web server, or a directory that is mounted."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import BinaryIO, Iterator, Tuple

from ..protocol import AgentError, ErrorKind

_TIMEOUT_S = 30.0
_PARTIAL, _BEYOND_THE_END = 206, 416


class Source:
    """Files in one place; what they hold is for others to judge."""

    def __init__(self, place: str) -> None:
        """``place`` is a URL of http, https or file, or a directory.

        Raises:
            AgentError: ``bad-request``.
        """
        scheme = urllib.parse.urlsplit(place).scheme
        if scheme and scheme not in ("http", "https", "file"):
            raise AgentError(ErrorKind.BAD_REQUEST, "'%s' must be https://..., file://... or a directory" % place)
        self._base = (place if scheme else Path(place).absolute().as_uri()).rstrip("/") + "/"

    def read(self, name: str, most: int) -> bytes:
        """A small file.

        Raises:
            AgentError: ``bad-bundle`` when it is larger than ``most`` bytes, ``timeout`` when it cannot be had.
        """
        with self.opened(name) as (file, _):
            content = file.read(most + 1)
        if len(content) > most:
            raise AgentError(ErrorKind.BAD_BUNDLE, "%s%s is larger than %d bytes" % (self._base, name, most))
        return content

    @contextlib.contextmanager
    def opened(self, name: str, offset: int = 0) -> Iterator[Tuple[BinaryIO, int]]:
        """A file from ``offset`` on, or from its beginning, and from where it is.

        Raises:
            AgentError: ``timeout``, when it cannot be had, or breaks off while it is read.
        """
        url = self._base + name
        try:
            with self._open(url, offset) as answer:
                yield answer
        except (OSError, http.client.HTTPException) as error:  # urllib's errors are OSErrors
            reason = str(error) or type(error).__name__
            raise AgentError(ErrorKind.TIMEOUT, "%s cannot be had: %s" % (url, reason)) from error

    @contextlib.contextmanager
    def _open(self, url: str, offset: int) -> Iterator[Tuple[BinaryIO, int]]:
        if url.startswith("file:"):
            with Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path)).open("rb") as file:
                file.seek(offset)
                yield file, offset
            return
        try:
            response = _get(url, offset)
        except urllib.error.HTTPError as error:
            if error.code != _BEYOND_THE_END:
                raise
            response = _get(url, 0)
        with response:
            yield response, offset if _begins_at(response, offset) else 0


def _get(url: str, offset: int) -> "http.client.HTTPResponse":
    # Without this a proxy may compress what is sent, and a range would be of something else.
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = "bytes=%d-" % offset
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # http or https, as was checked
    response: "http.client.HTTPResponse" = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    return response


def _begins_at(response: "http.client.HTTPResponse", offset: int) -> bool:
    said = response.headers.get("Content-Range") or ""
    return response.status == _PARTIAL and said.startswith("bytes %d-" % offset)
