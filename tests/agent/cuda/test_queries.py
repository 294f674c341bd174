"""Measuring like trtexec, over a stub of CUDA with a virtual clock and over engines that the tests write."""

from __future__ import annotations

import gc
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnas.agent import arrays
from hwnas.agent.cuda import Cuda, Stream
from hwnas.agent.cuda.queries import CudaQueries
from hwnas.agent.cuda.timing import Binding, CudaRun
from hwnas.agent.options import ExecutionOptions
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.queries import HostQueries, Trace, measure_queries, time_loading
from hwnas.agent.runtimes import TensorInfo
from hwnas.agent.trtexec import GENERATIONS, TrtexecKnobs, percentile_index
from tests.agent.cuda.stub import Stub, open_over

_COMPUTE_NS = 200_000
_NBYTES = 100_000
_COPY_NS = 1000 + _NBYTES
_TENSOR = TensorInfo("x", "float32", (_NBYTES // 4,))
_INPUT = [np.ones(_TENSOR.shape, np.float32)]
_SHORT = {"warmUp": 5.0, "duration": 0.02}


@pytest.fixture
def stub(cuda_stub: Stub) -> Stub:
    return cuda_stub


@pytest.fixture
def cuda(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    return open_over(stub, "cudart (ctypes)", monkeypatch)


def make_run(cuda: Cuda, stub: Stub, options: ExecutionOptions = ExecutionOptions()) -> CudaRun:  # noqa: B008
    source, target = Binding.of(cuda, _TENSOR), Binding.of(cuda, _TENSOR)

    def enqueue(stream: Stream) -> None:
        stub.compute(stream.handle, target.device.pointer, source.device.pointer, _NBYTES, _COMPUTE_NS)

    return CudaRun(cuda, enqueue, [source], [target], options)


def measure(cuda: Cuda, stub: Stub, generation: str = "trtexec-10", **given: Any) -> tuple[dict[str, Any], np.ndarray]:
    knobs = TrtexecKnobs.like(generation, {**_SHORT, **given})
    runs = [make_run(cuda, stub) for _ in range(knobs.infStreams)]
    result: dict[str, Any] = measure_queries(CudaQueries(cuda, runs, knobs, _INPUT), given)
    return result, arrays.unpack(result["traces_ns"])


def column(traces: np.ndarray, name: str) -> np.ndarray:
    return traces[:, Trace._fields.index(name)]


def spans(traces: np.ndarray, name: str) -> np.ndarray:
    return column(traces, f"{name}_end") - column(traces, f"{name}_start")


class TestCudaRun:
    @pytest.mark.parametrize("options", [ExecutionOptions(*flags) for flags in np.ndindex(2, 2, 2)], ids=str)
    def test_it_computes_and_times_only_the_compute(self, cuda: Cuda, stub: Stub, options: ExecutionOptions) -> None:
        run = make_run(cuda, stub, ExecutionOptions(*map(bool, vars(options).values())))
        run.upload(_INPUT)
        run.run()
        np.testing.assert_array_equal(run.download()[0], 2 * _INPUT[0])
        assert run.timed_runs(3) == pytest.approx([_COMPUTE_NS] * 3, abs=1000)
        uploads, downloads = run.timed_transfers(_INPUT, 4)
        assert uploads == downloads == pytest.approx([_COPY_NS] * 4, abs=1000)

    def test_a_graph_is_captured_once(self, cuda: Cuda, stub: Stub) -> None:
        run = make_run(cuda, stub, ExecutionOptions(cuda_graph=True))
        run.timed_runs(5)
        assert stub.calls().count("cudaStreamBeginCapture") == 1
        assert stub.calls().count("cudaGraphLaunch") == 5

    @pytest.mark.parametrize(("spin", "flags"), [(True, 1), (False, 0)])
    def test_spinning_sets_the_flags_of_the_device(self, cuda: Cuda, stub: Stub, spin: bool, flags: int) -> None:
        make_run(cuda, stub, ExecutionOptions(spin_wait=spin))
        assert stub.calls().count("cudaSetDeviceFlags") == flags

    def test_a_download_is_a_copy(self, cuda: Cuda, stub: Stub) -> None:
        run = make_run(cuda, stub)
        run.upload(_INPUT)
        run.run()
        first = run.download()[0]
        run.upload([3 * _INPUT[0]])
        run.run()
        assert (run.download()[0] == 6).all()
        assert (first == 2).all()

    def test_inputs_that_do_not_fit_are_refused(self, cuda: Cuda, stub: Stub) -> None:
        run = make_run(cuda, stub)
        with pytest.raises(ValueError, match="takes 1 inputs, found 2"):
            run.upload(_INPUT * 2)
        with pytest.raises(ValueError, match="must be"):
            run.upload([_INPUT[0][:5]])
        with pytest.raises(TypeError):
            run.upload([_INPUT[0].astype(np.float64)])

    def test_what_cannot_be_captured_is_refused_and_the_run_goes_on_without(self, cuda: Cuda, stub: Stub) -> None:
        waiting = make_run(cuda, stub, ExecutionOptions(cuda_graph=True))
        enqueue = waiting.enqueue

        def wait(stream: Stream) -> None:
            enqueue(stream)
            stream.synchronize()

        waiting.enqueue = wait
        with pytest.raises(AgentError, match="CaptureUnsupported"):
            waiting.run()
        waiting.enqueue = enqueue
        waiting.run()

    def test_a_library_without_graphs_is_refused(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        pycuda = open_over(stub, "pycuda", monkeypatch)
        with pytest.raises(AgentError, match="no CUDA graphs") as refused:
            make_run(pycuda, stub, ExecutionOptions(cuda_graph=True))
        assert refused.value.kind == ErrorKind.BAD_REQUEST
        with pytest.raises(AgentError, match="no CUDA graphs"):
            measure(pycuda, stub, useCudaGraph=True)
        measure(pycuda, stub)
        del refused


class TestCudaQueries:
    def test_the_parts_are_timed_between_events(self, cuda: Cuda, stub: Stub) -> None:
        result, traces = measure(cuda, stub)
        assert spans(traces, "compute") == pytest.approx(_COMPUTE_NS, abs=1000)
        assert spans(traces, "h2d") == pytest.approx(_COPY_NS, abs=1000)
        assert spans(traces, "d2h") == pytest.approx(_COPY_NS, abs=1000)
        assert (spans(traces, "enqueue") > 0).all()
        assert result["clock"] == "CUDA events (cudart (ctypes))"

    def test_copies_hide_behind_the_compute_of_the_query_before(self, cuda: Cuda, stub: Stub) -> None:
        result, traces = measure(cuda, stub)
        assert result["depth"] == 2
        assert np.diff(column(traces, "compute_start")) == pytest.approx(_COMPUTE_NS, rel=0.05)

    def test_exposed_copies_do_not(self, cuda: Cuda, stub: Stub) -> None:
        result, traces = measure(cuda, stub, exposeDMA=True)
        assert result["depth"] == 1
        assert np.diff(column(traces, "compute_start")) == pytest.approx(_COMPUTE_NS + 2 * _COPY_NS, rel=0.05)

    @pytest.mark.parametrize("generation", GENERATIONS)
    def test_a_generation_does_what_its_defaults_say(self, cuda: Cuda, stub: Stub, generation: str) -> None:
        result, traces = measure(cuda, stub, generation)
        new = generation == "trtexec-11"
        assert result["knobs"]["noDataTransfers"] == result["knobs"]["useCudaGraph"] == new
        assert ("cudaGraphLaunch" in stub.calls()) == new
        assert (spans(traces, "h2d") == 0).all() == (spans(traces, "d2h") == 0).all() == new

    def test_what_warms_up_does_not_count(self, cuda: Cuda, stub: Stub) -> None:
        result, traces = measure(cuda, stub)
        assert result["warmup_queries"] > 0
        assert column(traces, "compute_start").min() >= 5e6
        assert column(traces, "compute_start").max() >= 20e6

    def test_there_are_as_many_iterations_as_asked_for(self, cuda: Cuda, stub: Stub) -> None:
        _, traces = measure(cuda, stub, warmUp=0.0, duration=0.0, iterations=37)
        assert len(traces) == 37

    def test_streams_run_beside_each_other(self, cuda: Cuda, stub: Stub) -> None:
        _, traces = measure(cuda, stub, infStreams=3, warmUp=0.0, duration=0.0, iterations=4, noDataTransfers=True)
        assert len(traces) == 12
        begun = column(traces, "compute_start")
        assert begun[2] - begun[0] < _COMPUTE_NS

    def test_the_gpu_can_begin_later_than_the_host(self, cuda: Cuda, stub: Stub) -> None:
        measure(cuda, stub, sleepTime=1.0, iterations=1, duration=0.0, warmUp=0.0)
        assert stub.calls().count("cudaLaunchHostFunc") == 1

    def test_it_can_idle_between_queries(self, cuda: Cuda, stub: Stub) -> None:
        naps: list[float] = []
        given = {"idleTime": 4.0, "warmUp": 0.0, "duration": 0.0, "iterations": 6}
        knobs = TrtexecKnobs.like("trtexec-10", given)
        measure_queries(CudaQueries(cuda, [make_run(cuda, stub)], knobs, _INPUT), given, naps.append)
        assert naps == [0.004] * 6

    @pytest.mark.parametrize("spin", [True, False])
    def test_everything_is_given_back_when_a_call_fails(self, cuda: Cuda, stub: Stub, spin: bool) -> None:
        for name in ("cudaEventRecord", "cudaEventSynchronize", "cudaStreamWaitEvent", "cudaMemcpyAsync"):
            stub.fail(name, 700, after=9)
            with pytest.raises(AgentError, match=name):
                measure(cuda, stub, useSpinWait=spin)
        gc.collect()
        assert stub.live == 0


class TestHostQueries:
    def test_each_query_is_computed_as_it_is_enqueued(self) -> None:
        knobs = TrtexecKnobs.like("trtexec-10", {"warmUp": 0.0, "duration": 0.0, "iterations": 5})
        queries, engine = host(knobs)
        traces = arrays.unpack(measure_queries(queries, {})["traces_ns"])
        assert len(traces) == 5
        assert engine.done == ["upload"] + ["upload", "run", "download"] * 5
        for part in ("h2d", "compute", "d2h", "enqueue"):
            assert (spans(traces, part) == 1000).all()

    def test_without_transfers_the_inputs_are_copied_once(self) -> None:
        given = {"warmUp": 0.0, "duration": 0.0, "iterations": 3, "noDataTransfers": True}
        queries, engine = host(TrtexecKnobs.like("trtexec-10", given))
        traces = arrays.unpack(measure_queries(queries, given)["traces_ns"])
        assert engine.done == ["upload", "run", "run", "run"]
        assert (spans(traces, "compute") == 1000).all() and not spans(traces, "h2d").any()

    def test_knobs_of_a_gpu_are_off_and_refused_where_somebody_asked(self) -> None:
        queries, _ = host(TrtexecKnobs.like("trtexec-11", {"duration": 0.0, "warmUp": 0.0}))
        met: Any = measure_queries(queries, {})["knobs"]
        assert (met["useCudaGraph"], met["useSpinWait"], met["noDataTransfers"]) == (False, False, True)
        for name, value in {"useCudaGraph": True, "infStreams": 2, "exposeDMA": True, "sleepTime": 1.0}.items():
            queries, _ = host(TrtexecKnobs.like("trtexec-10", {name: value}))
            with pytest.raises(AgentError, match=f"{name} has no object here.*host's clock"):
                measure_queries(queries, {name: value})


def host(knobs: TrtexecKnobs) -> tuple[HostQueries, Any]:
    class Engine:
        def __init__(self) -> None:
            self.done: list[str] = []

        def upload(self, inputs: Any) -> None:
            self.done.append("upload")

        def run(self) -> None:
            self.done.append("run")

        def download(self) -> None:
            self.done.append("download")

    engine: Any = Engine()
    ticks = count(step=1000)
    return HostQueries(engine, knobs, _INPUT, clock=lambda: next(ticks)), engine


def test_loading_is_timed_twenty_one_times_after_two() -> None:
    loads: list[int] = []
    ticks = count(step=7)
    assert time_loading(lambda: loads.append(1), clock=lambda: next(ticks)) == [7] * 21
    assert len(loads) == 23


class TestPercentile:
    @settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(n=st.integers(1, 200_000), percent=st.one_of(st.sampled_from([90.0, 95.0, 99.0, 99.9]), st.floats(0, 100)))
    def test_it_is_the_one_that_trtexec_prints(self, compiled_cuda_stub: Path, n: int, percent: float) -> None:
        stub = Stub(compiled_cuda_stub)
        assert percentile_index(n, percent) == stub.library.stub_percentile_index(percent, n)

    @given(n=st.integers(1, 10_000), percent=st.floats(0, 100))
    def test_it_is_one_of_the_times_and_grows_with_the_percentage(self, n: int, percent: float) -> None:
        index = percentile_index(n, percent)
        assert 0 <= index < n
        assert percentile_index(n, 100) == n - 1
        assert percentile_index(n, percent / 2) <= index

    def test_thirty_times_show_why_single_precision_matters(self) -> None:
        assert percentile_index(30, 90) == 26
        assert max(30 - 1 - int((1 - 90 / 100) * 30), 0) == 27


class TestKnobs:
    def test_the_generations_differ_in_three_knobs(self) -> None:
        old, new = (TrtexecKnobs.like(name, {}) for name in ("trtexec-10", "trtexec-11"))
        different = {name for name, value in vars(old).items() if getattr(new, name) != value}
        assert different == {"noDataTransfers", "useSpinWait", "useCudaGraph"}
        assert (old.noDataTransfers, old.useSpinWait, old.useCudaGraph) == (False, False, False)
        assert (old.warmUp, old.duration, old.iterations, old.avgRuns) == (200, 3, 10, 10)
        assert old.percentile == (90, 95, 99)

    @given(
        generation=st.sampled_from(sorted(GENERATIONS)),
        knobs=st.fixed_dictionaries(
            {},
            optional={
                "warmUp": st.floats(0, 1e6),
                "duration": st.floats(0, 1e6),
                "iterations": st.integers(1, 10**6),
                "avgRuns": st.integers(1, 1000),
                "percentile": st.lists(st.floats(0, 100), min_size=1),
                "idleTime": st.integers(0, 1000),
                "infStreams": st.integers(1, 16),
                "exposeDMA": st.booleans(),
                "noDataTransfers": st.booleans(),
                "useSpinWait": st.booleans(),
                "useCudaGraph": st.booleans(),
            },
        ),
    )
    def test_what_is_given_counts_and_the_rest_is_as_the_generation_has_it(
        self, generation: str, knobs: dict[str, Any]
    ) -> None:
        made = TrtexecKnobs.like(generation, knobs).as_record()
        default = TrtexecKnobs.like(generation, {}).as_record()
        for name, value in made.items():
            wanted = knobs.get(name, default[name])
            assert value == (tuple(wanted) if isinstance(wanted, list) else wanted)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"useManagedMemory": True}, "buffers of their own"),
            ({"threads": True}, "one thread drives all streams"),
            ({"timeRefit": True}, "refit"),
            ({"separateProfileRun": False}, "no profiler"),
            ({"warmup": 3}, "'warmup' is not known"),
            ({"warmUp": -1}, "at least 0"),
            ({"duration": "3"}, "finite number"),
            ({"iterations": 0}, "at least 1"),
            ({"infStreams": 1.5}, "whole number"),
            ({"useCudaGraph": 1}, "true or false"),
            ({"percentile": []}, "at least one"),
            ({"percentile": [101]}, "0 to 100"),
            ({"percentile": ["a"]}, "0 to 100"),
            ({"percentile": 99}, "list"),
        ],
    )
    def test_what_cannot_be_met_is_refused_in_words(self, given: dict[str, Any], words: str) -> None:
        with pytest.raises(AgentError, match=words) as refused:
            TrtexecKnobs.like("trtexec-10", given)
        assert refused.value.kind == ErrorKind.BAD_REQUEST

    def test_an_unknown_generation_is_refused(self) -> None:
        with pytest.raises(AgentError, match="trtexec-10, trtexec-11"):
            TrtexecKnobs.like("trtexec-9", {})
