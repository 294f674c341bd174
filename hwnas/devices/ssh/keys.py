"""Private keys out of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import asyncssh

from hwnas.errors import UserError
from hwnas.questions import Questions

_TRIES = 3
_NO_IDENTITY = "none"


def read_key(path: Path, questions: Questions) -> asyncssh.SSHKey:
    """The private key in ``path``; if it is encrypted, its passphrase is asked.

    Raises:
        UserError: it cannot be read, holds no private key, or was not opened.
    """
    passphrase: str | None = None
    for _ in range(_TRIES):
        try:
            return asyncssh.read_private_key(path, passphrase)
        except asyncssh.KeyEncryptionError:
            pass  # it takes another passphrase
        except asyncssh.KeyImportError as error:
            if passphrase is not None or "passphrase" not in str(error).lower():
                raise UserError(f"{path} holds no private key ({error}); name the file of one.") from error
        except OSError as error:
            raise UserError(f"The key {path} cannot be read ({error.strerror}); check the path.") from error
        passphrase = questions.secret(f"Passphrase of {path}")
        if passphrase is None:
            break
    raise UserError(f"The key {path} is encrypted and was not opened; add it to the SSH agent (ssh-add {path}).")


def usable_identities(names: Sequence[str], only: bool) -> tuple[list[str], list[str]]:
    """The ``IdentityFile`` entries of a client configuration: those that can be used, and why others cannot.

    As with OpenSSH one that is missing or is no key is no error: the next one may do.  ``only``: as ``IdentitiesOnly``
    says, when public keys name keys of the SSH agent.
    """
    usable, left_out = [], []
    for name in names:
        if name == _NO_IDENTITY:
            continue
        try:
            asyncssh.load_keypairs([name], skip_public=only, ignore_encrypted=True)
            usable.append(name)
        except OSError as error:
            left_out.append(f"{name}: {error.strerror}")
        except asyncssh.KeyImportError as error:
            left_out.append(f"{name}: {error}")
    return usable, left_out
