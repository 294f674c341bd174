"""Bundles for boards that fetch them: signed metadata and archives in a directory that any web server can serve.

The metadata follows The Update Framework's timestamp role (theupdateframework.io, specification §5.4): its version only
grows, so that an old one cannot be replayed, and it expires, so that boards cannot be held back unnoticed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwnas.deploy.archive import SUFFIX
from hwnas.deploy.bundle import versions_in, write_bundle_archive
from hwnas.deploy.canonical import canonical
from hwnas.deploy.manifest import Name, Sha256, Version
from hwnas.deploy.signing import CHANNEL_TYPE, PublicKey, sign, verify
from hwnas.deploy.verification import verify_bundle
from hwnas.errors import BadFileError, UserError
from hwnas.files import (
    Document,
    atomic_path,
    describe,
    explain_os_errors,
    locked,
    read_bytes,
    sha256_of,
    write_atomic,
)

CHANNEL_FILE = "channel.json"
KEPT = 2
"""Archives of a name: the published one, and the one before, which a board may be in the middle of."""
MOST_DAYS = 3650
_TIME = "%Y-%m-%dT%H:%M:%SZ"

Moment = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


class PublishedBundle(BaseModel):
    """The bundle that boards shall have; its archive lies beside the channel."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Version
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*\.tar\.gz$")]
    bytes: int = Field(ge=1)
    sha256: Sha256
    digest: Sha256
    """Of its manifest."""


class Channel(Document):
    """The payload of ``channel.json``. ``version`` is its own, not the bundle's."""

    kind: Literal["channel"] = "channel"
    name: Name
    version: Version
    published: Moment
    expires: Moment
    bundle: PublishedBundle


def publish(
    directory: Path,
    bundle: Path | None,
    keys: Sequence[Ed25519PrivateKey],
    trusted: Sequence[PublicKey],
    days: float,
    at: datetime | None = None,
) -> Channel:
    """Put a bundle into a channel, or let the one that is there be valid for longer.

    The archive is there before the metadata names it; the archives before the last one are removed afterwards.

    Args:
        directory: what the web server serves; one channel.
        bundle: a directory or archive; ``None``: the channel's own.
        keys: each signs the metadata; boards must trust one.
        trusted: who may have signed the bundle and the channel so far.
        days: after which boards refuse the metadata.
        at: the moment of publication; ``None``: now.

    Raises:
        UserError: the directory is another bundle's channel, has none yet, or had a newer version.
        UntrustedError, BadBundleError: bundle or channel are not as they were signed by somebody trusted.
    """
    if not 0 < days <= MOST_DAYS:
        raise UserError(f"Metadata expires after more than 0 and at most {MOST_DAYS} days, not after {days:g}.")
    at = at or datetime.now(UTC)
    with locked(directory):
        before = read_channel(directory, trusted) if (directory / CHANNEL_FILE).exists() else None
        if before is not None and at.strftime(_TIME) < before.published:
            raise UserError(f"The channel was published on {before.published}, which is to come; set the clock.")
        name, published = _renewed(directory, before) if bundle is None else _placed(directory, bundle, trusted, before)
        channel = Channel(
            name=name,
            version=1 if before is None else before.version + 1,
            published=at.strftime(_TIME),
            expires=(at + timedelta(days=days)).strftime(_TIME),
            bundle=published,
        )
        write_atomic(directory / CHANNEL_FILE, sign(canonical(channel), CHANNEL_TYPE, keys))
        _remove_old(directory, channel)
    return channel


def read_channel(directory: Path, trusted: Sequence[PublicKey]) -> Channel:
    """The metadata of a channel, whose signature is checked; it may have expired.

    Raises:
        UntrustedError: it is signed by nobody trusted, or was changed.
        BadFileError: there is none, or what was signed is no channel.
    """
    path = directory / CHANNEL_FILE
    payload = verify(read_bytes(path, what="channel"), CHANNEL_TYPE, trusted, f"channel {path}")
    try:
        return Channel.model_validate_json(payload)
    except ValidationError as error:
        raise BadFileError(f"channel {path}: {describe(error)}.") from error


def _renewed(directory: Path, before: Channel | None) -> tuple[str, PublishedBundle]:
    if before is None:
        raise UserError(f"{directory} holds no channel yet; name the bundle that is to be published.")
    archive = directory / before.bundle.file
    if not archive.is_file() or sha256_of(archive) != before.bundle.sha256:
        raise BadFileError(f"archive {archive} is missing or was changed; publish the bundle again.")
    return before.name, before.bundle


def _placed(
    directory: Path, path: Path, trusted: Sequence[PublicKey], before: Channel | None
) -> tuple[str, PublishedBundle]:
    bundle = verify_bundle(path, trusted)
    manifest = bundle.manifest
    if before is not None and before.name != manifest.name:
        raise UserError(f"{directory} is the channel of '{before.name}', not of '{manifest.name}'; give another.")
    if before is not None and manifest.version < before.bundle.version:
        raise UserError(
            f"{directory} has version {before.bundle.version} of '{manifest.name}' and boards refuse version "
            f"{manifest.version} after it; bundle what you want anew, with a higher version."
        )
    if before is not None and manifest.version == before.bundle.version and bundle.digest != before.bundle.digest:
        raise UserError(
            f"{directory} has another version {manifest.version} of '{manifest.name}'; a version never changes, so "
            "bundle what you want anew, with a higher one."
        )
    archive = directory / f"{manifest.stem}{SUFFIX}"
    if path.is_dir():
        write_bundle_archive(bundle, archive)
    elif not (archive.exists() and archive.samefile(path)):
        with atomic_path(archive) as temporary:
            shutil.copyfile(path, temporary)
    published = PublishedBundle(
        version=manifest.version,
        file=archive.name,
        bytes=archive.stat().st_size,
        sha256=sha256_of(archive),
        digest=bundle.digest,
    )
    return manifest.name, published


def _remove_old(directory: Path, channel: Channel) -> None:
    """Remove the archives of the channel's name but the last ones."""
    found = versions_in(directory, channel.name)
    archives = sorted((path for path in found if path.name.endswith(SUFFIX)), key=found.__getitem__)
    with explain_os_errors(directory):
        for path in archives[:-KEPT]:
            path.unlink()
