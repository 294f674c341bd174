"""What every runtime of the agent must do.  A new runtime is one more name in ``RUNTIMES_HERE``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.agent.canary import canary_model, canary_onnx
from hwnas.agent.measuring import seeded_inputs
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import RUNTIMES, Runtime, RuntimeOptions, model_format, open_runtime

RUNTIMES_HERE = ["onnxruntime", "torch", "tensorrt", "tensorrt_rtx"]
OVER_FAKES = ["tensorrt", "tensorrt_rtx"]
"""Engines of these run on an NVIDIA GPU alone, so they are tested over fakes that keep the real libraries' rules."""


@pytest.fixture(params=RUNTIMES_HERE)
def runtime(request: pytest.FixtureRequest) -> Runtime:
    if request.param in OVER_FAKES:
        request.getfixturevalue("fake_nvidia")
    return open_runtime(request.param)


@pytest.fixture
def options(runtime: Runtime) -> RuntimeOptions:
    return RuntimeOptions(runtime.default_provider, runtime.precisions[0])


@pytest.fixture
def canary(runtime: Runtime) -> bytes:
    return canary_model(form=model_format(runtime.name))


@pytest.fixture
def engine_file(runtime: Runtime, options: RuntimeOptions, canary: bytes, tmp_path: Path) -> Path:
    runtime.compile(canary, options, tmp_path / "canary.engine")
    return tmp_path / "canary.engine"


def test_every_registered_runtime_is_tested_here() -> None:
    assert set(RUNTIMES) == set(RUNTIMES_HERE)


def test_it_says_what_it_is(runtime: Runtime, options: RuntimeOptions) -> None:
    assert RUNTIMES[runtime.name]
    assert runtime.version()
    assert runtime.default_provider in runtime.providers()
    assert runtime.identity(options) == runtime.identity(options)


def test_threads_and_provider_are_part_of_its_identity(runtime: Runtime, options: RuntimeOptions) -> None:
    more = RuntimeOptions(options.provider, options.precision, threads=2)
    assert runtime.identity(options) != runtime.identity(more)


def test_an_engine_is_a_file_that_can_be_loaded_again(
    runtime: Runtime, options: RuntimeOptions, engine_file: Path
) -> None:
    one, two = (runtime.load(engine_file.read_bytes(), options) for _ in range(2))
    assert [tensor.as_record() for tensor in one.inputs] == [
        {"name": "image", "dtype": "float32", "shape": [1, 3, 32, 32]}
    ]
    assert one.outputs[0].shape == (1, 24, 32, 32)
    arrays = seeded_inputs(one.inputs, seed=3)
    results = []
    for engine in (one, two):
        engine.upload(arrays)
        engine.run()
        results.append(engine.download()[0])
    assert results[0].shape == one.outputs[0].shape
    np.testing.assert_array_equal(results[0], results[1])


def test_a_run_computes_from_the_last_upload_and_a_download_is_a_copy(
    runtime: Runtime, options: RuntimeOptions, engine_file: Path
) -> None:
    engine = runtime.load(engine_file.read_bytes(), options)
    engine.upload(seeded_inputs(engine.inputs, seed=1))
    engine.run()
    first = engine.download()[0]
    kept = first.copy()
    engine.upload(seeded_inputs(engine.inputs, seed=2))
    engine.run()
    assert (engine.download()[0] != kept).any()
    np.testing.assert_array_equal(first, kept)


def test_timed_runs_and_transfers_are_as_many_as_asked_for(
    runtime: Runtime, options: RuntimeOptions, engine_file: Path
) -> None:
    engine = runtime.load(engine_file.read_bytes(), options)
    arrays = seeded_inputs(engine.inputs, seed=0)
    engine.upload(arrays)
    assert len(engine.timed_runs(5)) == 5
    assert min(engine.timed_runs(5)) > 0
    uploads, downloads = engine.timed_transfers(arrays, 3)
    assert len(uploads) == len(downloads) == 3
    assert min(*uploads, *downloads) > 0


@pytest.mark.parametrize("content", [b"", b"no model", canary_onnx()[:1000], canary_model(form="nodes")[:1000]])
def test_what_is_no_model_is_refused(runtime: Runtime, options: RuntimeOptions, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(AgentError) as refused:
        runtime.compile(content, options, tmp_path / "x.engine")
    assert refused.value.kind == ErrorKind.MODEL_REFUSED
    with pytest.raises(AgentError):
        runtime.load(content, options)


def test_a_provider_that_is_not_there_is_refused(runtime: Runtime, canary: bytes, tmp_path: Path) -> None:
    with pytest.raises(AgentError) as refused:
        runtime.compile(canary, RuntimeOptions("NoSuchProvider"), tmp_path / "x.engine")
    assert refused.value.kind == ErrorKind.FALLBACK
