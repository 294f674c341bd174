"""What may be wrong with a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwnas.errors import BadFileError, UserError


class UntrustedError(UserError):
    """Nothing is signed, or by nobody who is trusted, or it was signed as something else."""


class BadBundleError(BadFileError):
    """A bundle is not what its signed manifest says; ``faults`` names each file and what is wrong with it."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"bundle {path} is not as it was signed ({'; '.join(self.faults)}); fetch or make it again.")
