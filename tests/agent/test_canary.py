"""The canary is one fixed file that can be made again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.agent import canary

ROOT = Path(__file__).resolve().parents[2]


def test_the_canary_can_be_made_again_byte_for_byte(tmp_path: Path) -> None:
    made = tmp_path / "canary.onnx"
    command = [sys.executable, str(ROOT / "scripts" / "make_canary.py"), "--output", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    assert hashlib.sha256(made.read_bytes()).hexdigest() == canary.CANARY_SHA256
    assert canary.canary_onnx() == made.read_bytes()


def test_another_canary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canary, "CANARY_SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match="damaged"):
        canary.canary_onnx()
