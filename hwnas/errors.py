"""The exceptions of hwnas.

Library code raises these; only :mod:`hwnas.cli` prints them and chooses the exit code.  The message is one
sentence that names the thing, the place and the mend.
"""

from __future__ import annotations


class HwnasError(Exception):
    """Base of every error that hwnas raises on purpose; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class UserError(HwnasError):
    """The request cannot be met as it was made: wrong name, wrong file, impossible budget."""

    exit_code = 2


class BadFileError(UserError):
    """A file is missing, unreadable, of an unknown schema, or holds something other than what was expected."""


class UnknownNameError(UserError):
    """A name (target, preset, data set, strategy …) that is in no registry."""


class BusyError(UserError):
    """Another process is at work in the directory."""


class DivergedError(UserError):
    """The loss of a training is no longer a finite number."""


class DeviceError(HwnasError):
    """The device or its agent failed: it crashed, hung, refused, or could not be reached."""


class StaleTableError(UserError):
    """A latency table was measured on a device whose fingerprint identity differs from the live one."""


class InfeasibleBudgetError(UserError):
    """No architecture of the space keeps the budget."""
