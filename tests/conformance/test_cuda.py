"""What every way to CUDA must do, over a stub that keeps the real library's rules.  A new one is one more line."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest

from hwnas.agent.cuda import LIBRARIES, Cuda, Stream
from hwnas.agent.cuda.base import DeviceBuffer
from hwnas.agent.cuda.timing import Binding, CudaRun, Enqueue
from hwnas.agent.options import ExecutionOptions
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import TensorInfo
from tests.agent.cuda.stub import Stub, open_over

LIBRARIES_HERE = ["pycuda", "cuda-python", "cudart (ctypes)"]
_NS = 50_000
_ILLEGAL_ADDRESS = 700


@pytest.fixture
def stub(cuda_stub: Stub) -> Stub:
    return cuda_stub


@pytest.fixture(params=LIBRARIES_HERE)
def cuda(request: pytest.FixtureRequest, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return open_over(stub, request.param, monkeypatch)


def numbers(count: int = 64) -> np.ndarray:
    return np.arange(1, count + 1, dtype=np.float32)


def doubling(stub: Stub, source: DeviceBuffer, target: DeviceBuffer) -> Enqueue:
    def enqueue(stream: Stream) -> None:
        stub.compute(stream.handle, target.pointer, source.pointer, target.nbytes, _NS)

    return enqueue


def test_every_registered_library_is_tested_here() -> None:
    assert list(LIBRARIES) == LIBRARIES_HERE


def test_it_says_what_gpu_there_is(cuda: Cuda) -> None:
    facts = cuda.device()
    assert (facts.name, facts.compute_capability, facts.multiprocessors) == ("Stub GPU", (8, 7), 14)
    assert (facts.integrated, facts.driver_version) == (True, "13.0")
    assert re.fullmatch(r"1\d\.\d+", facts.runtime_version)
    assert facts.memory_bytes == cuda.memory()[1]
    assert facts.as_record()["name"] == "Stub GPU"


@pytest.mark.parametrize("name", LIBRARIES_HERE)
def test_it_works_in_one_thread_after_the_other(stub: Stub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    found: list[bytes] = []

    def work() -> None:
        cuda = open_over(stub, name, monkeypatch)
        with cuda.stream() as stream, cuda.allocate(numbers().nbytes) as buffer:
            source, target = cuda.pinned((64,), "float32"), cuda.pinned((64,), "float32")
            source.array[:] = numbers()
            cuda.copy_in(buffer, source.array, stream)
            cuda.copy_out(target.array, buffer, stream)
            stream.synchronize()
            found.append(target.array.tobytes())
            source.free()
            target.free()

    for _ in range(2):  # a slot's engines live in a thread, and those of the next slot in another
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert found == [numbers().tobytes()] * 2


@pytest.mark.parametrize("spinning", [True, False])
def test_it_waits_as_it_is_told(cuda: Cuda, spinning: bool) -> None:
    cuda.spin(spinning)


def test_memory_is_taken_and_given_back(cuda: Cuda, stub: Stub) -> None:
    before = cuda.memory()[0]
    with cuda.allocate(4096) as buffer:
        assert buffer.nbytes == 4096
        assert cuda.memory()[0] == before - 4096
    assert cuda.memory()[0] == before
    buffer.free()
    assert "cudaFree" not in stub.calls()[-1]


def test_what_nobody_holds_is_given_back(cuda: Cuda, stub: Stub) -> None:
    kept = [cuda.allocate(64), cuda.pinned((2, 3), "int8"), cuda.stream(), cuda.event(blocking=True)]
    assert stub.live == 4
    kept.clear()
    assert stub.live == 0


@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 4), "float32"), ((1,), "int8"), ((2, 1, 5), "float16"), ((), "int64")]
)
def test_pinned_arrays_are_zeros_to_write_to(cuda: Cuda, shape: tuple[int, ...], dtype: str) -> None:
    with cuda.pinned(shape, dtype) as pinned:
        assert (pinned.array.shape, pinned.array.dtype) == (shape, np.dtype(dtype))
        assert not pinned.array.any()
        pinned.array[...] = 1
        assert pinned.array.all()


def test_copies_are_done_when_waited_for_and_not_before(cuda: Cuda) -> None:
    stream, buffer = cuda.stream(), cuda.allocate(256)
    sent, received = cuda.pinned((64,), "float32"), cuda.pinned((64,), "float32")
    sent.array[...] = numbers()
    cuda.copy_in(buffer, sent.array, stream)
    cuda.copy_out(received.array, buffer, stream)
    assert not received.array.any()
    stream.synchronize()
    np.testing.assert_array_equal(received.array, numbers())


def test_a_part_of_a_buffer_can_be_copied_and_nothing_is_no_call(cuda: Cuda, stub: Stub) -> None:
    stream, buffer = cuda.stream(), cuda.allocate(1024)
    received = np.zeros(8, np.float32)
    cuda.copy_in(buffer, numbers(8), stream)
    stub.clear()
    cuda.copy_in(buffer, np.zeros(0, np.float32), stream)
    cuda.copy_out(np.zeros(0, np.float32), buffer, stream)
    assert stub.calls() == []
    cuda.copy_out(received, buffer, stream)
    stream.synchronize()
    np.testing.assert_array_equal(received, numbers(8))


def test_copies_that_do_not_fit_are_refused(cuda: Cuda) -> None:
    stream, buffer = cuda.stream(), cuda.allocate(64)
    with pytest.raises(ValueError, match="260 bytes"):
        cuda.copy_in(buffer, numbers(65), stream)
    with pytest.raises(ValueError, match="contiguous"):
        cuda.copy_in(buffer, numbers(8)[::2], stream)
    fixed = numbers(4)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="written"):
        cuda.copy_out(fixed, buffer, stream)
    cuda.copy_in(buffer, fixed, stream)


@pytest.mark.parametrize("blocking", [True, False])
def test_events_tell_the_time_between_them(cuda: Cuda, stub: Stub, blocking: bool) -> None:
    stream, buffer = cuda.stream(), cuda.allocate(64)
    first, last = cuda.event(blocking), cuda.event(blocking)
    first.record(stream)
    stub.compute(stream.handle, buffer.pointer, buffer.pointer, 64, _NS)
    last.record(stream)
    with pytest.raises(AgentError):
        last.milliseconds_since(first)  # nobody has waited
    last.synchronize()
    assert last.milliseconds_since(first) * 1e6 == pytest.approx(_NS, abs=1000)


def test_an_event_that_was_not_recorded_has_no_time(cuda: Cuda) -> None:
    stream, first, last = cuda.stream(), cuda.event(blocking=True), cuda.event(blocking=True)
    last.record(stream)
    last.synchronize()
    with pytest.raises(AgentError) as failed:
        last.milliseconds_since(first)
    assert failed.value.kind == ErrorKind.DEVICE_FAULT
    assert "ElapsedTime" in failed.value.message


def test_a_stream_waits_for_another(cuda: Cuda, stub: Stub) -> None:
    one, two, buffer = cuda.stream(), cuda.stream(), cuda.allocate(256)
    copied, received = cuda.event(blocking=True), np.zeros(64, np.float32)
    sent = numbers()
    cuda.copy_in(buffer, sent, one)
    doubling(stub, buffer, buffer)(one)
    copied.record(one)
    two.wait_for(copied)
    cuda.copy_out(received, buffer, two)
    two.synchronize()
    np.testing.assert_array_equal(received, 2 * numbers())


def test_a_graph_does_what_was_captured_each_time_it_is_launched(cuda: Cuda, stub: Stub) -> None:
    stream, buffer, received = cuda.stream(), cuda.allocate(256), np.zeros(64, np.float32)
    if not cuda.graphs:
        with pytest.raises(AgentError, match="no CUDA graphs; install cuda-python"):
            stream.begin_capture()
        return
    sent = numbers()
    cuda.copy_in(buffer, sent, stream)
    stream.begin_capture()
    doubling(stub, buffer, buffer)(stream)
    graph = stream.end_capture()
    graph.launch(stream)
    graph.launch(stream)
    cuda.copy_out(received, buffer, stream)
    stream.synchronize()
    np.testing.assert_array_equal(received, 4 * numbers())
    graph.free()


def test_a_stream_works_again_after_a_capture_that_failed(cuda: Cuda) -> None:
    stream = cuda.stream()
    if not cuda.graphs:
        pytest.skip("this library has no CUDA graphs")
    stream.begin_capture()
    with pytest.raises(AgentError, match="CaptureUnsupported"):
        stream.synchronize()
    with pytest.raises(AgentError, match="CaptureInvalidated"):
        stream.end_capture()
    stream.synchronize()
    with pytest.raises(AgentError, match="IllegalState"):
        stream.end_capture()  # nothing is being captured


def test_a_stream_can_be_held_back_or_says_that_it_cannot(cuda: Cuda) -> None:
    stream, first, last = cuda.stream(), cuda.event(blocking=True), cuda.event(blocking=True)
    first.record(stream)
    if cuda.name == "pycuda":
        with pytest.raises(AgentError, match="cannot delay"):
            stream.delay(2)
        return
    stream.delay(2)
    last.record(stream)
    last.synchronize()
    assert last.milliseconds_since(first) >= 2


def test_out_of_memory_is_told_as_such(cuda: Cuda, stub: Stub) -> None:
    with pytest.raises(AgentError) as failed:
        cuda.allocate(1 << 40)
    assert failed.value.kind == ErrorKind.OUT_OF_MEMORY
    stub.fail("cuMemHostAlloc" if cuda.name == "pycuda" else "cudaHostAlloc", 2)
    with pytest.raises(AgentError) as failed:
        cuda.pinned((4,), "float32")
    assert failed.value.kind == ErrorKind.OUT_OF_MEMORY


def test_whatever_fails_is_told_by_name_and_nothing_is_left(cuda: Cuda, stub: Stub) -> None:
    """Every single call of a whole measurement is made to fail once."""
    use_an_engine(cuda, stub)
    calls = [name for name in stub.calls() if name not in ("cudaGetLastError", "cudaSetDevice", "cudaGetDeviceCount")]
    seen: dict[str, int] = {}
    for name in calls[calls.index("cuMemHostAlloc" if cuda.name == "pycuda" else "cudaHostAlloc") :]:
        if any(word in name for word in ("Free", "Destroy")):
            continue  # then it cannot be given back
        stub.fail(name, _ILLEGAL_ADDRESS, after=seen.get(name, 0))
        seen[name] = seen.get(name, 0) + 1
        kind, message = failure(cuda, stub)
        assert kind in (ErrorKind.DEVICE_FAULT, ErrorKind.BAD_REQUEST)
        assert name.removesuffix("_v2") in message
        assert cuda.name == "pycuda" or "cudaErrorIllegalAddress" in message
        assert stub.live == 0, name
        assert cuda.name == "pycuda" or stub.last_error == 0
    assert len(seen) > 8
    use_an_engine(cuda, stub)


def failure(cuda: Cuda, stub: Stub) -> tuple[str, str]:
    try:
        use_an_engine(cuda, stub)
    except AgentError as error:
        return error.kind, error.message
    raise AssertionError("it went well")


def use_an_engine(cuda: Cuda, stub: Stub) -> None:
    tensor = TensorInfo("x", "float32", (4, 16))
    source, target = Binding.of(cuda, tensor), Binding.of(cuda, tensor)
    options = ExecutionOptions(cuda_graph=cuda.graphs, transfers=True)
    run = CudaRun(cuda, doubling(stub, source.device, target.device), [source], [target], options)
    run.upload([numbers().reshape(4, 16)])
    run.run()
    run.timed_transfers([numbers().reshape(4, 16)], 1)
    assert (run.download()[0] == 2 * numbers().reshape(4, 16)).all()
