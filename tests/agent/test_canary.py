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
    for name in canary.CANARY_SHA256:
        for form, ending in (("onnx", "onnx"), ("nodes", "safetensors")):
            made = (tmp_path / f"canary_{name}.{ending}").read_bytes()
            assert hashlib.sha256(made).hexdigest() == canary.canary_sha256(name, form)
            assert canary.canary_model(name, form) == made


def test_another_canary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(canary.CANARY_SHA256, "small", "0" * 64)
    with pytest.raises(RuntimeError, match="damaged"):
        canary.canary_onnx()
