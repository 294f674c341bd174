"""A device and its agent; what a broken agent costs, tests/conformance/test_broken_agents.py says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hwnas.agent.canary import canary_onnx
from hwnas.agent.protocol import CHUNK_BYTES, ErrorKind
from hwnas.devices import (
    AgentLostError,
    CompileOptions,
    Device,
    Measurement,
    MeasureOptions,
    RefusedError,
    fast_state_ms,
    load_target,
    open_device,
)
from hwnas.devices.local import LocalConnection
from hwnas.errors import DeviceError
from tests.agents import eventually, gone, pid_of

HERE = Path(__file__).parent
QUICK = MeasureOptions(min_samples=8, max_seconds=10.0)


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with open_device(load_target("host-cpu")) as opened:
        yield opened


def connected(command: list[str]) -> Device:
    return Device(load_target("host-cpu"), LocalConnection(command))


def classifier(weight: NDArray[np.float32], batch: int = 1, side: int = 8) -> bytes:
    """Mean over each channel, then a linear layer."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(weight)])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    content: bytes = model.SerializeToString()
    return content


def two_outputs(batch: int = 1, side: int = 8, shared: str = "") -> bytes:
    """What doubles and what averages; or, with the name of one, averages over the batch."""
    nodes = [helper.make_node("Add", ["image", "image"], ["doubled"])]
    shape = [batch, 3, side, side]
    if shared:
        nodes.append(helper.make_node("ReduceMean", ["image"], [shared], axes=[0]))
        second = helper.make_tensor_value_info(shared, TensorProto.FLOAT, [1, *shape[1:]])
    else:
        nodes.append(helper.make_node("GlobalAveragePool", ["image"], ["pooled"]))
        second = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, [batch, 3, 1, 1])
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("doubled", TensorProto.FLOAT, shape), second],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    content: bytes = model.SerializeToString()
    return content


def test_the_fingerprint_tells_configurations_apart(device: Device) -> None:
    one, two = (device.fingerprint(CompileOptions(threads=threads)) for threads in (1, 2))
    assert one.identity8 != two.identity8
    assert one.differences(two) == ["runtime.threads: 1 → 2"]
    assert one.identity["runtime"]["name"] == "onnxruntime"
    assert one.context["kernel"] == os.uname().release


def test_a_measurement_can_be_judged_again(device: Device) -> None:
    engine = device.compile(canary_onnx())
    found = device.measure(engine, QUICK)
    assert found.judged(1e-6).gated.n == 0
    undisturbed = [batch for batch in found.batches if not batch.preempted]
    assert found.judged(1e6).gated.n == sum(len(batch.samples_ns) for batch in undisturbed)
    state = fast_state_ms([found])
    assert state is not None
    assert found.judged(state).gated.n >= 0
    device.release(engine)


def test_measurements_that_contradict_themselves_are_refused(device: Device) -> None:
    found = device.measure(device.compile(canary_onnx()), QUICK)
    record = found.model_dump()
    with pytest.raises(ValueError, match="number of batches"):
        Measurement.model_validate({**record, "clocks_moved": []})


def test_what_never_ran_in_the_fast_state_has_no_gated_figure() -> None:
    with open_device(load_target("host-cpu")) as other:
        impossible = other.measure(
            other.compile(canary_onnx()), MeasureOptions(min_samples=4, max_seconds=0.05, fast_state_ms=1e-6)
        )
    assert not impossible.complete
    assert impossible.gated.p50_ms is None
    assert impossible.ungated.p50_ms


def test_a_fast_state_of_an_earlier_session_is_recalled_unless_a_faster_one_is_known() -> None:
    with open_device(load_target("host-cpu")) as device:
        device.recall_fast_state(1e-6)
        device.recall_fast_state(1.0)
        assert not device.measure(device.compile(canary_onnx()), QUICK).complete


@pytest.mark.parametrize(("batch", "count"), [(1, 7), (4, 10), (4, 0)])
def test_inference_gives_every_image_its_logits(device: Device, batch: int, count: int) -> None:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((5, 3)).astype(np.float32)
    images = generator.standard_normal((count, 3, 8, 8)).astype(np.float32)
    logits = device.infer(device.compile(classifier(weight, batch)), images)
    assert logits.shape == (count, 5)
    np.testing.assert_allclose(logits, images.mean((2, 3)) @ weight.T, atol=1e-5)


def test_images_beyond_one_message_pass_in_pieces(device: Device) -> None:
    side = 64
    count = 2 * CHUNK_BYTES // (3 * side * side * 4) + 3
    images = np.random.default_rng(0).standard_normal((count, 3, side, side)).astype(np.float32)
    steps: list[float] = []

    class Steps:
        def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
            assert total == count

        def advance(self, amount: float = 1.0, note: str = "") -> None:
            steps.append(amount)

        def finish(self) -> None:
            assert sum(steps) == count

    weight = np.eye(3, dtype=np.float32)
    logits = device.infer(device.compile(classifier(weight, side=side)), images, Steps())
    assert len(steps) == 3
    np.testing.assert_allclose(logits, images.mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize(("batch", "count"), [(1, 5), (4, 6), (4, 0)])
def test_inference_gives_every_output_by_its_name(device: Device, batch: int, count: int) -> None:
    images = np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32)
    engine = device.compile(two_outputs(batch))
    found = device.infer_all(engine, images)
    assert list(found) == [tensor.name for tensor in engine.outputs] == ["doubled", "pooled"]
    np.testing.assert_allclose(found["doubled"], 2 * images, rtol=1e-6)
    np.testing.assert_allclose(found["pooled"], images.mean((2, 3), keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(device.infer(engine, images), found["doubled"])


def test_several_outputs_pass_in_pieces_that_fit_a_message(device: Device) -> None:
    side = 64
    count = CHUNK_BYTES // (3 * side * side * 4) + 1
    images = np.random.default_rng(0).standard_normal((count, 3, side, side)).astype(np.float32)
    found = device.infer_all(device.compile(two_outputs(side=side)), images)
    np.testing.assert_allclose(found["doubled"], 2 * images, rtol=1e-6)


def test_an_output_that_is_not_of_the_batch_is_refused(device: Device) -> None:
    engine = device.compile(two_outputs(batch=4, shared="mean"))
    images = np.ones((4, 3, 8, 8), np.float32)
    assert device.infer(engine, images).shape == (4, 3, 8, 8)  # the first one is
    with pytest.raises(RefusedError, match=r"output 'mean' is \[1, 3, 8, 8\], not one of 4 for each batch"):
        device.infer_all(engine, images)


def test_images_of_another_shape_are_refused(device: Device) -> None:
    engine = device.compile(canary_onnx())
    with pytest.raises(RefusedError, match=r"takes float32 \[1, 3, 32, 32\].*found float64 \[2, 3, 32, 32\]"):
        device.infer(engine, np.zeros((2, 3, 32, 32)))


def test_a_model_larger_than_one_message_arrives(device: Device) -> None:
    weight = np.random.default_rng(0).standard_normal((500_000, 3)).astype(np.float32)
    assert weight.nbytes > CHUNK_BYTES
    assert device.compile(classifier(weight)).outputs[0].shape == (1, 500_000)


def test_a_larger_network_needs_more_memory(device: Device) -> None:
    small = device.peak_memory(device.compile(canary_onnx()))
    weight = np.ones((4_000_000, 3), np.float32)
    large = device.peak_memory(device.compile(classifier(weight)))
    assert small.engine_mib > 0
    assert large.engine_mib > small.engine_mib + weight.nbytes / 2**20


@pytest.mark.parametrize(
    ("content", "options", "kind", "sentence"),
    [
        (b"no model", CompileOptions(), ErrorKind.MODEL_REFUSED, "refused the model"),
        (b"", CompileOptions(), ErrorKind.UNKNOWN_BLOB, "is not on the device"),
        (None, CompileOptions(runtime="abacus"), ErrorKind.BAD_REQUEST, "'abacus' is unknown.*onnxruntime"),
        (None, CompileOptions(precision="fp8"), ErrorKind.BAD_REQUEST, "runs fp32, fp16, int8 here, not fp8"),
        (None, CompileOptions(precision="int8"), ErrorKind.MODEL_REFUSED, "is in fp32 and int8 was asked for"),
        (
            None,
            CompileOptions(runtime="torch", precision="fp16"),
            ErrorKind.BAD_REQUEST,
            "computes fp32, bf16, not fp16",
        ),
        (
            b"no model",
            CompileOptions(runtime="torch"),
            ErrorKind.MODEL_REFUSED,
            "runtime torch cannot have it: .*no ONNX",
        ),
        (None, CompileOptions(threads=0), ErrorKind.BAD_REQUEST, "'threads' must be a whole number of at least 1"),
        (None, CompileOptions(provider="TensorrtExecutionProvider"), ErrorKind.FALLBACK, "not in this build"),
    ],
)
def test_what_cannot_be_compiled_is_refused_in_a_sentence(
    device: Device, content: bytes | None, options: CompileOptions, kind: str, sentence: str
) -> None:
    with pytest.raises(RefusedError, match=sentence) as refused:
        device.compile(canary_onnx() if content is None else content, options)
    assert refused.value.kind == kind
    assert "\n" not in str(refused.value)
    assert device.fingerprint(), "the agent lives on"


def test_an_agent_that_cannot_start_is_explained() -> None:
    with (
        connected([sys.executable, "-c", "raise SystemExit('no NumPy here')"]) as device,
        pytest.raises(AgentLostError, match="ended with exit code 1; its last words: no NumPy here"),
    ):
        device.fingerprint()
    with connected(["/no/such/python"]) as device, pytest.raises(DeviceError, match="could not be started"):
        device.fingerprint()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A process started in the background of a shell ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_request_leaves_no_late_reply_behind(device: Device) -> None:
    engine = device.compile(canary_onnx())
    agent = psutil.Process(pid_of(device))
    idle_s = agent.cpu_times().user

    def interrupt_the_measurement() -> None:
        eventually(lambda: agent.cpu_times().user > idle_s + 0.2)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]

    interrupter = threading.Thread(target=interrupt_the_measurement)
    with pytest.raises(KeyboardInterrupt):
        interrupter.start()
        device.measure(engine, MeasureOptions(min_samples=10**9, max_seconds=10**4))
    interrupter.join()
    assert device.measure(engine, QUICK).ungated.n >= 8


def test_a_host_killed_outright_leaves_neither_agent_nor_directory(tmp_path: Path) -> None:
    host = (
        "import os, sys\n"
        "from hwnas.devices import load_target, open_device\n"
        "device = open_device(load_target('host-cpu'))\n"
        "pid = device._request('hello', 'greeting it', 60, dict)['pid']\n"
        "print(pid, device._dialogue._connection._home, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    printed = subprocess.run([sys.executable, "-c", host], capture_output=True, check=False, cwd=HERE.parents[1]).stdout
    pid, home = printed.decode().split()
    assert eventually(lambda: gone(int(pid)) and not Path(home).exists())


def test_the_environment_of_the_agent_is_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "PYTHONSTARTUP", "LD_PRELOAD_X", "ORT_LOGGING", "HWNAS_KEPT"):
        monkeypatch.setenv(name, "7")
    command = [sys.executable, "-c", "import os, sys; sys.exit(' '.join(sorted(os.environ)))"]
    with connected(command) as device, pytest.raises(AgentLostError) as told:
        device.fingerprint()
    assert "HWNAS_KEPT" in str(told.value)
    assert not {"OMP_NUM_THREADS", "PYTHONSTARTUP", "LD_PRELOAD_X", "ORT_LOGGING"} & set(str(told.value).split())
