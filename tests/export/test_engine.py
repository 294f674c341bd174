"""ONNX into engine files, on a device that is really there: TensorRT-RTX builds without a GPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from hwnas.agent.canary import canary_onnx
from hwnas.agent.options import BuildOptions
from hwnas.cli.main import app
from hwnas.devices import CompileOptions, Device, Fingerprint, RefusedError, load_target, open_device
from hwnas.export import EngineRecord, ExportError, build_engine, without_qdq
from hwnas.files import read_model
from hwnas.graphs import graph_in_precision, network_graph
from hwnas.spaces import get_space

RTX = CompileOptions("tensorrt_rtx", provider="gpu", build=BuildOptions(compute_capabilities=("8.6",)))


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX (pip install hwnas[rtx])")
    with open_device(load_target("local-gpu")) as device:
        yield device


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "canary.onnx"
    path.write_bytes(canary_onnx())
    return path


def test_an_engine_arrives_as_it_was_built_with_a_record(device: Device, model: Path, tmp_path: Path) -> None:
    record = build_engine(device, model, tmp_path / "x.engine", RTX)
    content = (tmp_path / "x.engine").read_bytes()
    assert record.engine_sha256 == hashlib.sha256(content).hexdigest()
    assert record.engine_bytes == len(content) > 10_000
    assert record.onnx_sha256 == hashlib.sha256(canary_onnx()).hexdigest()
    assert record.build["compute_capabilities"] == ("8.6",)
    assert record.explanation is not None
    assert record.explanation["unexplained"] == "there is no GPU here to load it on"
    again = read_model(tmp_path / "x.engine.json", EngineRecord)
    assert again.model_dump(mode="json") == record.model_dump(mode="json")


def test_an_engine_larger_than_a_message_arrives_whole(device: Device, tmp_path: Path) -> None:
    space = get_space("mobilenet_v3/imagenet-w1.0")
    (tmp_path / "large.onnx").write_bytes(network_graph(space.blocks(space.smallest)).SerializeToString())
    record = build_engine(device, tmp_path / "large.onnx", tmp_path / "large.engine", RTX)
    assert (tmp_path / "large.engine").stat().st_size == record.engine_bytes > 2 * (4 << 20)


def test_a_build_that_fails_leaves_nothing_and_the_agent_lives(device: Device, model: Path, tmp_path: Path) -> None:
    slow = replace(RTX, build=replace(RTX.build, timeout_s=0.2))
    with pytest.raises(RefusedError, match=r"the build took longer than 0\.2 s"):
        build_engine(device, model, tmp_path / "x.engine", slow)
    assert not list(tmp_path.glob("x.engine*"))
    assert build_engine(device, model, tmp_path / "x.engine", RTX).engine_bytes > 0


def test_loading_it_here_is_refused_in_a_sentence(device: Device, model: Path) -> None:
    with pytest.raises(RefusedError, match="loading an engine needs an NVIDIA GPU with its driver, and none is here"):
        device.compile(model.read_bytes(), RTX)


def test_the_command_builds_and_says_what(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX (pip install hwnas[rtx])")
    command = ["build", str(model), "--out", str(tmp_path / "x.engine"), "--runtime", "tensorrt_rtx"]
    done = CliRunner().invoke(app, [*command, "--compute-capabilities", "8.6,8.9", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["build"]["compute_capabilities"] == ["8.6", "8.9"]
    assert Path(told["path"]).exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--batch", "1,x"], "--batch takes whole numbers"),
        (["--batch", "4,2,1"], "'batch_range' must be three whole numbers"),
        (["--compute-capabilities", "orin"], "'compute_capabilities' must be a list"),
        (["--runtime", "abacus"], "no runtime called 'abacus'"),
        (["--provider", "dla"], "no provider of tensorrt called 'dla'"),
    ],
)
def test_what_cannot_be_built_is_the_user_s_mistake(
    options: list[str], sentence: str, model: Path, tmp_path: Path
) -> None:
    command = ["build", str(model), "--out", str(tmp_path / "x.engine"), "--runtime", "tensorrt"]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 2
    assert sentence in done.stderr


# INT8 for DLAs.


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": image})[0])


def test_without_q_and_dq_a_model_is_what_it_was_before(tmp_path: Path) -> None:
    space = get_space("mobilenet_v3/small")
    for architecture in space.decode(space.sample(np.random.default_rng(2), 3)):
        original = network_graph(space.blocks(architecture))
        quantised = graph_in_precision(original, "int8", remainder="fp32")
        before = quantised.SerializeToString()
        bare, scales = without_qdq(quantised)
        assert quantised.SerializeToString() == before
        onnx.checker.check_model(bare, full_check=True)
        side = original.graph.input[0].type.tensor_type.shape.dim[2].dim_value
        image = np.random.default_rng(0).random((1, 3, side, side), np.float32)
        np.testing.assert_array_equal(run(bare, image), run(original, image))
        tensors = {"input", *(name for node in bare.graph.node for name in node.output)}
        quantised_tensors = {node.input[0] for node in quantised.graph.node if node.op_type == "QuantizeLinear"} - {
            tensor.name for tensor in quantised.graph.initializer
        }
        assert scales.keys() == quantised_tensors <= tensors


def q_dq_convolution(*, scale: float = 0.5, zero: int = 0, output_quantised: bool = False) -> onnx.ModelProto:
    """One convolution with INT8 weights in scales of their channels."""
    tensor = helper.make_tensor_value_info
    constants = {
        "s": np.float32(scale),
        "z": np.int8(zero),
        "w": np.array([[[[2]]], [[[-4]]]], np.int8),
        "ws": np.array([0.5, 0.25], np.float32),
        "wz": np.zeros(2, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("Conv", ["x", "wf"], ["c" if output_quantised else "y"]),
    ]
    if output_quantised:
        nodes += [
            helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
            helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
        ]
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("input", TensorProto.FLOAT, [1, 1, 2, 2])],
        [tensor("y", TensorProto.FLOAT, [1, 2, 2, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_weights_in_int8_become_what_they_stood_for() -> None:
    bare, scales = without_qdq(q_dq_convolution())
    assert scales == {"input": 0.5}
    assert [node.op_type for node in bare.graph.node] == ["Conv"]
    image = np.ones((1, 1, 2, 2), np.float32)
    np.testing.assert_array_equal(run(bare, image)[0, :, 0, 0], [1.0, -1.0])


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (q_dq_convolution(zero=3), "'input' is not quantised by one constant positive scale with zero point 0"),
        (q_dq_convolution(scale=0.0), "'input' is not quantised by one constant positive scale"),
        (q_dq_convolution(output_quantised=True), "Output 'y' is dequantised last"),
        (onnx.load_from_string(canary_onnx()), "no quantised activations"),
    ],
)
def test_what_a_dla_cannot_have_is_said(model: onnx.ModelProto, sentence: str) -> None:
    with pytest.raises(ExportError, match=sentence):
        without_qdq(model)


def test_int8_goes_to_a_dla_as_a_bare_model_with_scales(tmp_path: Path) -> None:
    """Device in the test's hand: what is sent, not what a DLA does with it."""
    sent: list[tuple[bytes, CompileOptions]] = []

    class SentError(Exception):
        pass

    class Recording:
        target = load_target("local-gpu")
        version = "10.3.0"

        def fingerprint(self, options: CompileOptions) -> Fingerprint:
            return Fingerprint(identity={"runtime": {"version": self.version}}, context={})

        def compile(self, content: bytes, options: CompileOptions, *, load: bool) -> None:
            sent.append((content, options))
            raise SentError

    (tmp_path / "q.onnx").write_bytes(q_dq_convolution().SerializeToString())
    device = Recording()
    for precision, device.version in (("int8", "10.3.0"), ("fp16", "10.3.0"), ("int8", "11.4.1")):
        options = CompileOptions("tensorrt", precision, provider="dla")
        with pytest.raises(SentError):
            build_engine(device, tmp_path / "q.onnx", tmp_path / "q.engine", options)  # type: ignore[arg-type]
    (bare, scaled), *others = sent
    assert len(onnx.load_from_string(bare).graph.node) == 1
    assert scaled.build.tensor_scales == (("input", 0.5),)
    for unchanged, plain in others:
        assert unchanged == (tmp_path / "q.onnx").read_bytes()
        assert plain.build.tensor_scales == ()
