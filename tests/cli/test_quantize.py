from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

PROGRAM = [sys.executable, "-c", "from hwnas.cli.main import main; main()"]
FEW = ["--data", "fashion-mnist", "--images", "50", "--choice-images", "100", "--scored-images", "200"]


def hwnas(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "smallest.onnx"
    assert hwnas("export", "smallest", "--out", path).returncode == 0
    return path


def test_int8_is_shown_beside_fp16_with_where_the_images_are_from(model: Path, tmp_path: Path) -> None:
    done = hwnas("quantize", model, "--out", tmp_path / "int8.onnx", *FEW, "--max-drop", "5", "--tool", "onnxruntime")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    for expected in (
        "FP32",
        "FP16",
        "INT8 and fp16",
        "INT8 by onnxruntime",
        "95 %",
        "on 200 test images",
        "layers left in higher",
    ):
        assert expected in text
    assert "on 50 training images; layers chosen on 100 validation images" in text
    assert any(node.op_type == "QuantizeLinear" for node in onnx.load(tmp_path / "int8.onnx").graph.node)
    again = hwnas("quantize", tmp_path / "int8.onnx", "--out", tmp_path / "again.onnx", *FEW)
    assert again.returncode == 2
    assert "The model is quantised already" in again.stderr
    assert not (tmp_path / "again.onnx").exists()


def test_a_limit_that_is_missed_ends_with_status_1_and_the_best_model(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "fp16.onnx"
    done = hwnas("quantize", model, "--out", path, *FEW, "--precision", "fp16", "--max-drop", "-1", "--json")
    assert done.returncode == 1
    assert "points of top-1 where -1 are allowed" in " ".join(done.stderr.split())
    record = json.loads(done.stdout)
    assert record["kept"] is False
    assert record["scores"]["fp16"]["loss"]["n"] == 200
    assert path.exists()


def test_mistakes_end_with_status_2(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    for arguments, sentence in (
        ([tmp_path / "none.onnx", *FEW], "does not exist"),
        ([tmp_path / "bad.onnx", *FEW], "is not ONNX"),
        ([model, "--data", "fashion-mnist", "--images", "0"], "There are no calibration images"),
    ):
        done = hwnas("quantize", *arguments, "--out", out)
        assert done.returncode == 2
        assert sentence in " ".join(done.stderr.split())
    assert not out.exists()
