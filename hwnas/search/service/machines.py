"""The machines whose workers evaluate candidates, and how a worker is started on each."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hwnas.errors import BadFileError, UserError
from hwnas.files import Document, describe, read_bytes

WORKER = "hwnas.search.service.worker"

SSH = (
    "ssh",
    "-T",
    *("-o", "BatchMode=yes"),
    *("-o", "PasswordAuthentication=no"),
    *("-o", "KbdInteractiveAuthentication=no"),
    *("-o", "StrictHostKeyChecking=yes"),
    *("-o", "ForwardAgent=no"),
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15"),
    *("-o", "ServerAliveCountMax=4"),
    *("-o", "LogLevel=ERROR"),
)
"""Keys only, and only to hosts that are in ``known_hosts``; everything else as the user's SSH configuration says."""


class Machine(BaseModel):
    """Some workers on one machine.

    Attributes:
        host: as ``ssh`` takes it, such as ``user@box`` or a name in the user's SSH configuration; None: this machine.
        workers: evaluate candidates at the same time.
        python: of the environment in which hwnas is installed there; default: on this machine the running one.
        ssh_config: a configuration file for ``ssh`` in place of the user's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[str, Field(min_length=1)] | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    python: Annotated[str, Field(min_length=1)] | None = None
    ssh_config: Path | None = None

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str | None) -> str | None:
        if host is not None and (host.startswith("-") or any(c.isspace() or not c.isprintable() for c in host)):
            raise ValueError("a host is one word that does not begin with '-'")
        return host

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.host is not None and self.python is None:
            raise ValueError("'python' is missing: the Python on that host in whose environment hwnas is installed")
        return self

    @property
    def name(self) -> str:
        """For messages."""
        return self.host or "this machine"

    def command(self) -> list[str]:
        """What starts a worker, from this machine."""
        if self.host is None:
            return [self.python or sys.executable, "-m", WORKER]
        config = [] if self.ssh_config is None else ["-F", str(self.ssh_config.absolute())]
        # The remote shell takes one string apart again.
        return [*SSH, *config, "--", self.host, shlex.join([self.python or "", "-m", WORKER])]


class Machines(Document):
    """A file that lists machines."""

    machines: Annotated[tuple[Machine, ...], Field(min_length=1)]


def read_machines(path: Path) -> tuple[Machine, ...]:
    """The machines listed in a YAML file.

    Raises:
        BadFileError: the file is missing or wrong; the sentence gives file and field.
    """
    text = read_bytes(path, what="list of machines")
    try:
        content: Any = yaml.safe_load(text)
        return Machines.model_validate(content).machines
    except yaml.YAMLError as error:
        raise BadFileError(f"list of machines {path} is not YAML ({' '.join(str(error).split())}).") from error
    except ValidationError as error:
        raise BadFileError(f"list of machines {path}: {describe(error)}; see docs/searching.md.") from error


def machines_from(workers: int, path: Path | None) -> tuple[Machine, ...]:
    """What the command line asks for: workers on this machine, machines in a file, or neither, which is empty.

    Raises:
        UserError: it asks for both.
        BadFileError: as :func:`read_machines`.
    """
    if workers and path:
        raise UserError("Give --workers or --machines, not both; a list of machines says how many workers each has.")
    if path:
        return read_machines(path)
    return (Machine(workers=workers),) if workers else ()
