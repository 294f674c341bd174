"""``hwnas-agent.pyz pull URL|DIR``: install what a channel offers, on a board that no host reaches.

Metadata is judged in the order of The Update Framework's client workflow (theupdateframework.github.io, section 5):
signature, then expiry, then rollback, and only then anything is downloaded.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Callable, List, Optional

from ..environment import begin_undisturbed
from ..protocol import AgentError, ErrorKind
from .building import Builder
from .channel import FILE, MOST_BYTES, Channel, Offer, read_channel
from .dsse import CHANNEL_TYPE, read_envelope
from .health import Health
from .installing import UNCHANGED, Outcome, install, reported, tell
from .layout import default_root
from .slots import Slots
from .source import Source
from .state import CONFIRMED, FAILED, ROLLED_BACK

_CHUNK = 1 << 20
_ATTEMPTS = 5
_TELL_EVERY_S = 2.0


class Pull:
    """One look at a channel, and what follows from it."""

    def __init__(
        self,
        slots: Slots,
        source: Source,
        builder: Builder,
        health: Health,
        progress: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """The last two are replaced in tests."""
        self._slots = slots
        self._source = source
        self._builder = builder
        self._health = health
        self._progress = progress
        self._now = now
        self._sleep = sleep

    def run(self, name: Optional[str] = None, again: bool = False) -> Outcome:
        """Install the offered bundle, unless it is the current one.

        Args:
            name: what the channel must be called; ``None``: anything.
            again: whether to try again what failed or was rolled back here.

        Raises:
            AgentError: ``untrusted``, ``bad-bundle``, ``too-old``; ``unhealthy`` for what is not tried again;
                ``timeout`` when the source breaks off; what the steps of an installation raise.
        """
        channel = self._channel(name)
        offer = channel.offer
        known = self._slots.status()["slots"].get(offer.digest)
        if known and self._slots.current() == offer.digest and known["state"] == CONFIRMED:
            return Outcome(offer.digest, UNCHANGED)
        if known and known["state"] in (FAILED, ROLLED_BACK) and not again:
            raise AgentError(
                ErrorKind.UNHEALTHY,
                "version %d of '%s' is %s here (%s); publish another, or say --again"
                % (known["version"], known["name"], known["state"], known["reason"]),
            )
        self._download(offer)  # which may take hours, in which the board can be rolled back
        with self._slots.held():
            self._require_offered(channel)
            return install(self._slots, offer.sha256, self._builder, self._health, self._progress)

    def _channel(self, name: Optional[str]) -> Channel:
        envelope = read_envelope(self._source.read(FILE, MOST_BYTES), FILE, CHANNEL_TYPE)
        self._slots.trusted().require_signer(envelope, "the channel")
        channel = read_channel(envelope)
        if name is not None and channel.name != name:
            raise AgentError(ErrorKind.BAD_BUNDLE, "the channel is '%s', not '%s'" % (channel.name, name))
        channel.require_current(self._now())
        self._slots.see_channel(channel.name, channel.version, channel.payload_sha256)
        return channel

    def _download(self, offer: Offer) -> None:
        received = self._slots.receive(offer.sha256, offer.bytes).bytes
        resumed = 0 < received < offer.bytes
        try:
            self._fetch(offer, received)
        except AgentError as error:
            if error.kind != ErrorKind.BAD_BUNDLE or not resumed:
                raise
            self._fetch(offer, 0)  # what lay here before was not what is offered now

    def _fetch(self, offer: Offer, received: int) -> None:
        """Fetch what is missing; what breaks off is gone on with a few times."""
        for attempt in range(_ATTEMPTS):
            try:
                self._fetch_rest(offer, received)
            except AgentError as error:
                if error.kind != ErrorKind.TIMEOUT or attempt == _ATTEMPTS - 1:
                    raise
                self._sleep(2.0**attempt)
                received = self._slots.receive(offer.sha256, offer.bytes).bytes
            else:
                return

    def _fetch_rest(self, offer: Offer, received: int) -> None:
        if received >= offer.bytes:
            return
        with self._source.opened(offer.file, received) as (file, offset):
            arrived, start, told = offset, time.monotonic(), time.monotonic()
            while arrived < offer.bytes:
                chunk = file.read(min(_CHUNK, offer.bytes - arrived))
                if not chunk:
                    raise AgentError(
                        ErrorKind.TIMEOUT, "'%s' ends after %d of %d bytes" % (offer.file, arrived, offer.bytes)
                    )
                arrived = self._slots.put(offer.sha256, arrived, offer.bytes, chunk)
                if time.monotonic() - told >= _TELL_EVERY_S:
                    told = time.monotonic()
                    self._progress(_how_far(arrived, offer.bytes, (arrived - offset) / (told - start)))

    def _require_offered(self, channel: Channel) -> None:
        """Refuse another bundle than the channel's signature vouches for, before anything of it is built."""
        digest = self._slots.verify(channel.offer.sha256)
        slot = self._slots.slot(digest)
        if (digest, slot.name, slot.version) != (channel.offer.digest, channel.name, channel.offer.version):
            raise AgentError(
                ErrorKind.BAD_BUNDLE,
                "'%s' is version %d of '%s', another bundle than the channel offers"
                % (channel.offer.file, slot.version, slot.name),
            )


def _how_far(arrived: int, size: int, per_s: float) -> str:
    mb = (arrived / 1e6, size / 1e6, per_s / 1e6)
    return "%.1f of %.1f MB, %.2f MB/s, about %.0f s left" % (*mb, (size - arrived) / max(per_s, 1.0))


def main(arguments: List[str]) -> int:
    """Pull once; ends with 0 if the board has what is offered."""
    parser = argparse.ArgumentParser(prog="hwnas-agent.pyz pull", description="Install what a channel offers.")
    parser.add_argument("source", help="where 'hwnas publish' wrote to: https://..., file://... or a directory")
    parser.add_argument("--root", type=Path, default=None, help="directory of the slots")
    parser.add_argument("--name", help="refuse a channel that is called otherwise")
    parser.add_argument("--again", action="store_true", help="try again what failed on this board before")
    options = parser.parse_args(arguments)
    begin_undisturbed()
    root = options.root or default_root()

    def pull() -> Outcome:
        source = Source(options.source)
        return Pull(Slots(root), source, Builder(), Health(root), tell).run(options.name, options.again)

    return reported(pull)
