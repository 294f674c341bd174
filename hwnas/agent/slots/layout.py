"""Where what lies below a root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from ..protocol import AgentError, ErrorKind
from .reading import SHA256


def default_root() -> Path:
    """``$HWNAS_SLOTS``, else the system's directory for the user root, else one in the user's home."""
    named = os.environ.get("HWNAS_SLOTS")
    if named:
        return Path(named)
    return Path("/var/lib/hwnas") if os.getuid() == 0 else Path.home() / ".local" / "share" / "hwnas"


class Layout:
    """The paths below one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.slots = root / "slots"
        self.incoming = root / "incoming"
        self.current = root / "current"
        self.previous = root / "previous"
        self.state = root / "state.json"
        self.audit = root / "audit.jsonl"
        self.trusted = root / "trusted_keys.json"
        self.lock = root / "lock"
        self.service = root / "service.json"

    def slot(self, digest: str) -> Path:
        """The directory of a slot."""
        return self.slots / checked_sha256(digest, "a slot")

    def archive(self, sha256: str) -> Path:
        """An archive that has arrived whole."""
        return self.incoming / (checked_sha256(sha256, "an archive") + ".tar.gz")

    def partial(self, sha256: str) -> Path:
        """An archive that is arriving."""
        return self.incoming / (checked_sha256(sha256, "an archive") + ".part")


def link_to(digest: Optional[str]) -> Optional[str]:
    """What ``current`` says of a slot."""
    return None if digest is None else "slots/" + digest


def digest_of(link: Optional[str]) -> Optional[str]:
    """The slot of which ``current`` says so."""
    return None if link is None else link.rsplit("/", 1)[-1]


def checked_sha256(text: str, what: str) -> str:
    """The text, if it is a hash: it becomes part of a path.

    Raises:
        AgentError: ``bad-request``.
    """
    if not SHA256.fullmatch(text):
        raise AgentError(ErrorKind.BAD_REQUEST, "%s is named by 64 hexadecimal digits, found %r" % (what, text[:80]))
    return text
