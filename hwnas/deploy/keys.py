"""The signing keys of this user: ``~/.config/hwnas/keys/NAME.pem`` and, beside it, what is public of it as JSON."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict

from hwnas.deploy.manifest import NAME_PATTERN, Sha256
from hwnas.deploy.signing import PublicKey
from hwnas.errors import BadFileError, UnknownNameError, UserError
from hwnas.files import Document, explain_os_errors, read_bytes, read_model, write_atomic, write_json
from hwnas.questions import answering

_ENCRYPTED = b"BEGIN ENCRYPTED PRIVATE KEY"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Revocation(BaseModel):
    """Why a key counts no more, and since when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str
    revoked: str


class KeyRecord(Document):
    """``NAME.json``: what may be told of a key; it can be given to others, who put it beside their own."""

    public: Sha256
    """32 bytes as 64 hexadecimal digits."""
    comment: str = ""
    created: str
    revoked: Revocation | None = None

    @property
    def key(self) -> PublicKey:
        """The key itself."""
        return PublicKey(self.public)


@dataclass(frozen=True)
class KnownKey:
    """A key of the store."""

    name: str
    record: KeyRecord
    private: Path | None
    """Its private half; ``None``: it is somebody else's."""

    @property
    def keyid(self) -> str:
        """By which signatures and boards name it."""
        return self.record.key.keyid

    @property
    def encrypted(self) -> bool:
        """Whether its private half needs a passphrase."""
        return self.private is not None and _ENCRYPTED in read_bytes(self.private, what="private key")

    def require_valid(self) -> None:
        """Raise :class:`UserError` if it was revoked."""
        revoked = self.record.revoked
        if revoked is not None:
            raise UserError(f"Key '{self.name}' was revoked on {revoked.revoked} ({revoked.reason}); use another.")

    def unlocked(self) -> Ed25519PrivateKey:
        """The private half; its passphrase, if it has one, is asked for.

        Raises:
            UserError: it was revoked, is somebody else's, or the passphrase is wrong or missing.
            BadFileError: the file is readable by others, damaged, or of another key.
        """
        self.require_valid()
        if self.private is None:
            raise UserError(f"Of key '{self.name}' only the public half is here; sign where it was made.")
        if self.private.stat().st_mode & _OTHERS:
            raise BadFileError(f"private key {self.private} can be read by others; run `chmod 600 {self.private}`.")
        content = read_bytes(self.private, what="private key")
        encrypted = _ENCRYPTED in content
        try:
            private = load_pem_private_key(content, self._passphrase() if encrypted else None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            why = "the passphrase is wrong or the file damaged" if encrypted else "the file is damaged"
            raise UserError(f"private key {self.private} cannot be opened: {why}.") from error
        if not isinstance(private, Ed25519PrivateKey) or PublicKey.of(private) != self.record.key:
            raise BadFileError(f"private key {self.private} is not the one of {self.name}.json; restore both.")
        return private

    def _passphrase(self) -> bytes:
        given = answering().secret(f"Passphrase of key '{self.name}'")
        if given is None:
            raise UserError(f"Key '{self.name}' has a passphrase, and there is no terminal to ask for it on.")
        return given.encode()


class KeyStore:
    """The keys in a directory, which is nobody else's."""

    def __init__(self, directory: Path | None = None) -> None:
        """``directory``: default ``$HWNAS_KEYS``, else ``hwnas/keys`` in the user's configuration."""
        self.directory = directory or default_directory()

    def __iter__(self) -> Iterator[KnownKey]:
        for path in sorted(self.directory.glob("*.json")):
            yield self._read(path.stem)

    def __getitem__(self, name: str) -> KnownKey:
        """A key by its name.

        Raises:
            UnknownNameError: there is none.
            BadFileError: its record is damaged.
        """
        if not re.fullmatch(NAME_PATTERN, name) or not self._record(name).exists():
            known = ", ".join(key.name for key in self) or "none yet; `hwnas keys new NAME` makes one"
            raise UnknownNameError(f"There is no key '{name}' in {self.directory}; there are: {known}.")
        return self._read(name)

    def signing(self) -> KnownKey:
        """The only key that can sign.

        Raises:
            UserError: there is none, or there are several.
        """
        own = [key for key in self if key.private is not None and key.record.revoked is None]
        if len(own) == 1:
            return own[0]
        if not own:
            raise UserError("There is no key to sign with; `hwnas keys new NAME` makes one.")
        raise UserError(f"There are several keys; name one with --key: {', '.join(key.name for key in own)}.")

    def unlocked(self, names: Sequence[str] | None = None) -> list[Ed25519PrivateKey]:
        """The private halves of the keys of these names, or of the only one that can sign.

        Raises:
            UserError: as :meth:`signing` and :meth:`KnownKey.unlocked`.
        """
        chosen = [self.signing()] if names is None else [self[name] for name in names]
        return [key.unlocked() for key in chosen]

    def trusted(self, names: Sequence[str] | None = None) -> list[PublicKey]:
        """The public halves of the keys of these names, or of all that were not revoked.

        Raises:
            UserError: a key that is named was revoked.
        """
        if names is None:
            return [known.record.key for known in self if known.record.revoked is None]
        chosen = [self[name] for name in names]
        for known in chosen:
            known.require_valid()
        return [known.record.key for known in chosen]

    def new(self, name: str, comment: str = "", passphrase: str | None = None) -> KnownKey:
        """Make a pair of keys.

        Args:
            passphrase: by which the private half is encrypted; ``None``: it is protected by its file's mode alone.

        Raises:
            UserError: there is a key of that name, or the name or the passphrase cannot be one.
        """
        if not re.fullmatch(NAME_PATTERN, name):
            raise UserError(f"'{name}' cannot name a key; use up to 64 of a-z, 0-9 and -, a letter or digit first.")
        if self._record(name).exists():
            raise UserError(f"There is a key '{name}' in {self.directory} already; choose another name.")
        if passphrase == "":
            raise UserError("An empty passphrase protects nothing; leave --passphrase out or give one.")
        private = Ed25519PrivateKey.generate()
        encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
        content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        with explain_os_errors(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The record comes last: a private half without one, left by a kill, was never used and is replaced.
        write_atomic(self._private(name), content, mode=0o600)
        write_json(self._record(name), KeyRecord(public=PublicKey.of(private).public, comment=comment, created=now()))
        return self[name]

    def revoke(self, name: str, reason: str) -> KnownKey:
        """Note that a key counts no more; once revoked it stays so."""
        known = self[name]
        if known.record.revoked is None:
            revocation = Revocation(reason=reason, revoked=now())
            write_json(self._record(name), known.record.model_copy(update={"revoked": revocation}))
        return self[name]

    def _read(self, name: str) -> KnownKey:
        private = self._private(name)
        record = read_model(self._record(name), KeyRecord, what="key record")
        return KnownKey(name, record, private if private.exists() else None)

    def _record(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _private(self, name: str) -> Path:
        return self.directory / f"{name}.pem"


def default_directory() -> Path:
    """Where keys lie: ``$HWNAS_KEYS``, else ``hwnas/keys`` in ``$XDG_CONFIG_HOME`` or ``~/.config``."""
    given = os.environ.get("HWNAS_KEYS")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "hwnas" / "keys"


def now() -> str:
    """This moment, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
