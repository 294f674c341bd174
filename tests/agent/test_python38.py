"""The agent runs in the Python 3.8 of JetPack 5: nothing of a later standard library, beside its syntax."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

AGENT = Path(__file__).resolve().parents[2] / "hwnas" / "agent"


def vermin(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "import vermin; vermin.main()",
        "--target=3.8-",
        "--no-tips",
        "--violations",
        "--processes=1",
    ]
    return subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)


def test_the_agent_needs_nothing_that_is_newer_than_python_3_8() -> None:
    checked = vermin(AGENT)
    assert checked.returncode == 0, checked.stdout


def test_what_is_newer_would_be_found(tmp_path: Path) -> None:
    for number, code in enumerate(("'ab'.removeprefix('a')", "import zoneinfo", "{} | {}", "import math; math.lcm(1)")):
        path = tmp_path / f"newer{number}.py"
        path.write_text(code + "\n")
        assert vermin(path).returncode == 1, code
