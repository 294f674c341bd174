"""The canary is one fixed file that can be made again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.agent import canary

ROOT = Path(__file__).resolve().parents[2]


def test_the_canaries_can_be_made_again_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_canary.py"), "--directory", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    for name, sha256 in canary.CANARY_SHA256.items():
        made = (tmp_path / f"canary_{name}.onnx").read_bytes()
        assert hashlib.sha256(made).hexdigest() == sha256
        assert canary.canary_onnx(name) == made


def test_another_canary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(canary.CANARY_SHA256, "small", "0" * 64)
    with pytest.raises(RuntimeError, match="damaged"):
        canary.canary_onnx()
