"""``hwnas doctor``: verdict lines, exit statuses, JSON, and the parser's own word."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

import hwnas.doctor
from hwnas.cli.main import app
from hwnas.doctor import ask_parser


def made(operator: str, path: Path, opset: int = 17) -> Path:
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node(operator, ["m"], ["y"], name="/head/last")],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    proto: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwnas.doctor, "ask_parser", lambda _: None)


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", str(path), *arguments])


@pytest.mark.usefixtures("not_asked")
def test_a_good_model_builds_on_every_jetpack(tmp_path: Path) -> None:
    result = run(made("Relu", tmp_path / "m.onnx"), "--target", "jetson-orin-nano-8gb")
    assert result.exit_code == 0
    assert "jetson-orin-nano-8gb, JetPack 5.1, TensorRT 8.5, compute capability 8.7: builds\n" in result.stdout
    assert result.stdout.count(": builds\n") == 4
    assert "NVIDIA's parser was not asked" in result.stdout


@pytest.mark.usefixtures("not_asked")
def test_a_bad_model_ends_with_1_and_says_where_and_what_to_do(tmp_path: Path) -> None:
    result = run(made("Det", tmp_path / "m.onnx"), "--target", "rtx-3090", "--tensorrt", "10.3")
    assert result.exit_code == 1
    for words in (
        "will not build",
        "does not have operator Det.",
        "at Det '/head/last', module head",
        "mend: ",
        "source: ",
    ):
        assert words in result.stdout


@pytest.mark.usefixtures("not_asked")
def test_json_holds_the_verdict_and_every_finding(tmp_path: Path) -> None:
    result = run(made("Gelu", tmp_path / "m.onnx", 20), "--target", "rtx-3090", "--tensorrt", "10.3", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["parser"] is None
    assert told["verdicts"][0]["verdict"] == "builds with warnings"
    assert told["verdicts"][0]["findings"][0]["severity"] == "unknown"


@pytest.mark.usefixtures("not_asked")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "host-cpu"), "which TensorRT 'host-cpu' has; give --tensorrt"),
        (("--target", "no-such-board"), "there is no target 'no-such-board'"),
        (("--target", "rtx-3090", "--tensorrt", "10.3", "--precision", "fp12"), "--precision is one of fp32"),
        (("--target", "rtx-3090", "--tensorrt", "10.3", "--batch-range", "8,1"), "--batch-range is written such as"),
    ],
)
def test_bad_arguments_end_with_2_and_a_sentence(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = run(made("Relu", tmp_path / "m.onnx"), *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")
def test_the_real_parser_is_asked_and_quoted(tmp_path: Path) -> None:
    good, bad = (ask_parser(made(operator, tmp_path / f"{operator}.onnx")) for operator in ("Relu", "Det"))
    assert good is not None and good.accepted
    assert good.parser.startswith("TensorRT-RTX 1.")
    assert bad is not None and bad.accepted is False
    assert "Det" in bad.refusals[0]
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    refused = ask_parser(broken)
    assert refused is not None and refused.accepted is None
