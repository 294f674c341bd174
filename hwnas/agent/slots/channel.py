"""Channels: signed metadata on a web server that says which bundle a board should have."""

from __future__ import annotations

import calendar
import hashlib
import json
import re
import time
from dataclasses import dataclass

from ..protocol import AgentError, ErrorKind
from .dsse import Envelope
from .reading import NAME, SHA256, Record

FILE = "channel.json"
MOST_BYTES = 64 << 10
_ARCHIVE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.tar\.gz")
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_CLOCKS_DIFFER_S = 300.0


@dataclass(frozen=True)
class Offer:
    """The bundle that a channel offers."""

    version: int
    file: str
    bytes: int
    sha256: str
    """Of the archive."""
    digest: str
    """Of the manifest: the slot's name."""


@dataclass(frozen=True)
class Channel:
    """What a channel says."""

    name: str
    version: int
    """Of what it says; it grows with everything that it says anew."""
    published_s: float
    expires_s: float
    offer: Offer
    payload_sha256: str

    def require_current(self, now_s: float) -> None:
        """
        Raises:
            AgentError: ``too-old``, when it has expired, or when the board's clock cannot tell.
        """
        if now_s < self.published_s - _CLOCKS_DIFFER_S:
            raise AgentError(
                ErrorKind.TOO_OLD,
                "channel '%s' was published at %s and this board has %s: set its clock to tell what expired"
                % (self.name, _utc(self.published_s), _utc(now_s)),
            )
        if now_s > self.expires_s:
            raise AgentError(
                ErrorKind.TOO_OLD,
                "channel '%s' expired at %s: somebody may be holding back what is newer; publish it anew"
                % (self.name, _utc(self.expires_s)),
            )


def read_channel(envelope: Envelope) -> Channel:
    """What an envelope says whose signature was found right.

    Raises:
        AgentError: ``bad-bundle``.
    """
    try:
        record = Record(json.loads(envelope.payload.decode("ascii")), "channel")
        record.exactly("schema", "kind", "name", "version", "published", "expires", "bundle")
        record.require_kind("channel")
        bundle = record.child("bundle").exactly("version", "file", "bytes", "sha256", "digest")
        return Channel(
            name=record.matching("name", NAME),
            version=record.integer("version", least=1),
            published_s=_moment(record.text("published")),
            expires_s=_moment(record.text("expires")),
            offer=Offer(
                version=bundle.integer("version", least=1),
                file=bundle.matching("file", _ARCHIVE),
                bytes=bundle.integer("bytes", least=1),
                sha256=bundle.matching("sha256", SHA256),
                digest=bundle.matching("digest", SHA256),
            ),
            payload_sha256=hashlib.sha256(envelope.payload).hexdigest(),
        )
    except (ValueError, RecursionError) as error:
        raise AgentError(ErrorKind.BAD_BUNDLE, "the channel is not what a channel is (%s)" % error) from error
    except AgentError as error:
        raise AgentError(ErrorKind.BAD_BUNDLE, "the channel: %s" % error.message) from error


def _moment(text: str) -> float:
    return float(calendar.timegm(time.strptime(text, _TIME)))


def _utc(moment_s: float) -> str:
    return time.strftime(_TIME, time.gmtime(moment_s))
