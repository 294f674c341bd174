"""The commands, run in the test's own process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from hwnas.cli.main import app


def hwnas(*arguments: object, status: int = 0) -> str:
    """What a command prints, and tells on the error stream; it must end with ``status``."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == status, f"{done.output} {done.exception!r}"
    return " ".join(done.output.split())


def told(*arguments: object, status: int = 0) -> Any:
    """What a command tells machines that ends with ``status``."""
    done = CliRunner().invoke(app, [*(str(argument) for argument in arguments), "--json"])
    assert done.exit_code == status, f"{done.output} {done.exception!r}"
    return json.loads(done.stdout)
