"""``hwnas agent``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from hwnas.cli.main import app
from hwnas.devices.zipapp import agent_zipapp


def test_the_agent_is_written_as_one_file_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "hwnas-agent.pyz"
    result = CliRunner().invoke(app, ["agent", str(path), "--json"])
    assert json.loads(result.stdout) == {"agent": str(path), "bytes": len(agent_zipapp())}
    assert path.read_bytes() == agent_zipapp()
    ran = subprocess.run([sys.executable, path, "serve", "--help"], capture_output=True, text=True, check=True)
    assert "Serve the active model" in ran.stdout


def test_it_says_what_to_do_with_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["agent", str(tmp_path / "a.pyz")])
    assert result.exit_code == 0
    assert "python3 a.pyz serve" in result.stdout


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["agent", str(tmp_path / "file" / "a.pyz")])
    assert result.exit_code == 2
    assert str(tmp_path / "file") in result.output
