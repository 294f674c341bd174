"""Runtime torch: what it computes, how it keeps threads apart, and in what order it asks a GPU for things."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.agent.arrays import Array
from hwnas.agent.canary import canary_model, canary_onnx
from hwnas.agent.measuring import seeded_inputs
from hwnas.agent.node_model import read_node_model
from hwnas.agent.options import BuildOptions, ExecutionOptions
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import Engine, RuntimeOptions, open_runtime
from hwnas.agent.runtimes import torch_engines as module
from hwnas.agent.runtimes.torch_program import build_program
from hwnas.graphs import translate
from hwnas.graphs.node_file import node_file

CANARY = canary_model(form="nodes")


def built(options: RuntimeOptions, directory: Path) -> Engine:
    runtime = open_runtime("torch")
    runtime.compile(CANARY, options, directory / "x.engine")
    return runtime.load((directory / "x.engine").read_bytes(), options)


def output(engine: Engine, seed: int = 0) -> Array:
    engine.upload(seeded_inputs(engine.inputs, seed))
    engine.run()
    return engine.download()[0]


def test_bf16_is_near_fp32_and_not_the_same(tmp_path: Path) -> None:
    exact, rough = (output(built(RuntimeOptions("cpu", precision), tmp_path)) for precision in ("fp32", "bf16"))
    assert exact.dtype == rough.dtype == np.float32
    assert 0 < np.abs(exact - rough).max() < 0.05 * np.abs(exact).max()


def test_a_compiled_program_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    compiled = built(RuntimeOptions("cpucompile"), tmp_path)
    np.testing.assert_allclose(output(compiled), output(built(RuntimeOptions("cpu"), tmp_path)), rtol=1e-4, atol=1e-5)
    assert min(compiled.timed_runs(3)) > 0


def test_engines_with_different_threads_run_side_by_side(tmp_path: Path) -> None:
    one, two = (built(RuntimeOptions("cpu", threads=threads), tmp_path) for threads in (1, 2))
    for engine, threads in ((one, 1), (two, 2), (one, 1)):
        engine.timed_runs(1)
        assert torch.get_num_threads() == threads


def test_layout_is_told_and_follows_the_precision_on_a_gpu() -> None:
    runtime = open_runtime("torch")
    layouts = {
        (provider, precision): runtime.identity(RuntimeOptions(provider, precision))["layout"]
        for provider in ("cpu", "cuda")
        for precision in ("fp32", "bf16")
    }
    assert [key for key, layout in layouts.items() if layout == "contiguous"] == [("cuda", "fp32")]


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        (RuntimeOptions("cpu", "fp16"), ErrorKind.BAD_REQUEST, "provider cpu computes fp32, bf16, not fp16"),
        (RuntimeOptions("tpu"), ErrorKind.FALLBACK, "provider tpu is not here: PyTorch .* has cpu"),
        (
            RuntimeOptions("cpu", execution=ExecutionOptions(cuda_graph=True)),
            ErrorKind.BAD_REQUEST,
            "has no option 'cuda_graph'",
        ),
        (
            RuntimeOptions("cpu", build=BuildOptions(workspace_mib=1)),
            ErrorKind.BAD_REQUEST,
            "no option 'workspace_mib'",
        ),
    ],
)
def test_what_it_would_do_otherwise_is_refused(
    options: RuntimeOptions, kind: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(AgentError, match=sentence) as refused:
        open_runtime("torch").compile(CANARY, options, tmp_path / "x.engine")
    assert refused.value.kind == kind


def test_a_model_that_gives_another_shape_than_it_states_is_refused(tmp_path: Path) -> None:
    wrong = node_file(replace(translate(canary_onnx()), outputs={"features": [1, 24, 32, 31]}))
    with pytest.raises(AgentError, match=r"output 'features' has the shape \[1, 24, 32, 32\] where") as refused:
        open_runtime("torch").compile(wrong, RuntimeOptions("cpu"), tmp_path / "x.engine")
    assert refused.value.kind == ErrorKind.MODEL_REFUSED


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("provider", ["cuda", "cudagraph", "cudacompile"])
def test_without_a_gpu_its_providers_are_not_there(provider: str, tmp_path: Path) -> None:
    runtime = open_runtime("torch")
    assert provider not in runtime.providers()
    with pytest.raises(AgentError) as refused:
        runtime.compile(CANARY, RuntimeOptions(provider), tmp_path / "x.engine")
    assert refused.value.kind == ErrorKind.FALLBACK


class FakeGpu:
    """CUDA as far as an engine asks for it, on the CPU, with a record of the order in which it does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.now_ms = 0.0
        self.captured: Any = None
        gpu = self

        class Stream:
            def synchronize(self) -> None:
                gpu.calls.append("wait")

        class Event:
            def __init__(self, enable_timing: bool, blocking: bool) -> None:
                assert enable_timing
                self.blocking, self.at_ms = blocking, 0.0

            def record(self, stream: Stream) -> None:
                gpu.calls.append("event")
                gpu.now_ms += 0.25
                self.at_ms = gpu.now_ms

            def synchronize(self) -> None:
                gpu.calls.append("wait for event")

            def elapsed_time(self, later: Event) -> float:
                return later.at_ms - self.at_ms

        class CUDAGraph:
            def replay(self) -> None:
                gpu.calls.append("replay")

        @contextmanager
        def graph(_: CUDAGraph, stream: Stream) -> Iterator[None]:
            gpu.calls.append("capture")
            yield

        @contextmanager
        def stream(_: Stream) -> Iterator[None]:
            yield

        for name, fake in (("Stream", Stream), ("Event", Event), ("CUDAGraph", CUDAGraph)):
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr(torch.cuda, "graph", graph)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: gpu.calls.append("wait for all"))
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(module, "_pinned", torch.zeros)
        monkeypatch.setattr(module.CudaTorchEngine, "device", "cpu")
        self._monkeypatch = monkeypatch

    def engine(self, options: RuntimeOptions) -> Engine:
        model = read_node_model(CANARY)
        program = build_program(model, options.precision, channels_last=options.precision != "fp32")
        forward = program.forward

        def counted(*arguments: torch.Tensor) -> Any:
            self.calls.append("compute")
            return forward(*arguments)

        self._monkeypatch.setattr(program, "forward", counted)
        return module.CudaTorchEngine(program, model, options)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    for name in ("benchmark", "allow_tf32"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    return FakeGpu(monkeypatch)


def test_a_run_on_a_gpu_is_timed_between_two_events_and_waited_for(gpu: FakeGpu) -> None:
    engine = gpu.engine(RuntimeOptions("cuda"))
    gpu.calls.clear()
    assert engine.timed_runs(2) == [250_000, 250_000]
    assert gpu.calls == ["event", "compute", "event", "wait for event"] * 2
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32


def test_nothing_is_computed_before_weights_and_arguments_are_there(gpu: FakeGpu) -> None:
    gpu.engine(RuntimeOptions("cuda"))
    assert gpu.calls[:2] == ["wait for all", "compute"]


def test_transfers_are_timed_between_events_and_apart_from_the_run(gpu: FakeGpu) -> None:
    engine = gpu.engine(RuntimeOptions("cuda"))
    arrays = seeded_inputs(engine.inputs, 0)
    gpu.calls.clear()
    assert engine.timed_transfers(arrays, 3) == ([250_000] * 3, [250_000] * 3)
    assert "compute" not in gpu.calls and gpu.calls.count("wait for event") == 6


@pytest.mark.parametrize(
    "options", [RuntimeOptions("cudagraph"), RuntimeOptions("cuda", execution=ExecutionOptions(cuda_graph=True))]
)
def test_a_graph_is_captured_after_warm_runs_and_then_only_launched(gpu: FakeGpu, options: RuntimeOptions) -> None:
    engine = gpu.engine(options)
    assert gpu.calls.index("capture") == len(gpu.calls) - 2, "the last thing is to run the program for the capture"
    assert gpu.calls.count("compute") >= 4
    gpu.calls.clear()
    engine.timed_runs(2)
    engine.run()
    assert [call for call in gpu.calls if call in ("compute", "replay")] == ["replay"] * 3


def test_an_engine_on_a_gpu_computes_what_one_on_the_cpu_does(gpu: FakeGpu, tmp_path: Path) -> None:
    expected = output(built(RuntimeOptions("cpu"), tmp_path), seed=5)
    np.testing.assert_allclose(output(gpu.engine(RuntimeOptions("cuda")), seed=5), expected, rtol=1e-4, atol=1e-5)
    half = output(gpu.engine(RuntimeOptions("cuda", "fp16")), seed=5)
    np.testing.assert_allclose(half, expected, atol=0.02 * np.abs(expected).max())


def test_waiting_for_an_event_sleeps_or_spins_as_asked(gpu: FakeGpu) -> None:
    for spinning in (False, True):
        engine = gpu.engine(RuntimeOptions("cuda", execution=ExecutionOptions(spin_wait=spinning)))
        assert engine._ended.blocking is not spinning  # type: ignore[attr-defined]
