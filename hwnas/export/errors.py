"""How an export fails."""

from __future__ import annotations

from hwnas.errors import HwnasError


class ExportError(HwnasError):
    """The network cannot be exported as it should be."""


class ParityError(ExportError):
    """The exported model does not compute what the network does."""


class AccuracyLostError(ExportError):
    """A model in lower precision loses more accuracy than it may."""
