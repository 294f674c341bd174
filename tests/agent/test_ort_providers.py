"""ONNX Runtime's providers: what precision a model has, what falls back, what sessions on a GPU are asked for.

No GPU is needed: a session that has silently fallen back is what an official GPU build gives without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hwnas.agent.canary import CANARY_SHA256, canary_model, canary_onnx
from hwnas.agent.measuring import seeded_inputs
from hwnas.agent.onnx_precision import precision_of
from hwnas.agent.options import BuildOptions, ExecutionOptions
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import RuntimeOptions, open_runtime
from hwnas.agent.runtimes import onnxruntime as module
from hwnas.agent.runtimes.ort_placement import elsewhere
from hwnas.agent.runtimes.ort_providers import CPU, CUDA, TENSORRT, provider_options
from hwnas.agent.runtimes.quiet_ort import ort
from hwnas.graphs import graph_in_precision, network_graph
from hwnas.spaces import get_space

SPACE = get_space("mobilenet_v3/small")
NETWORK = network_graph(SPACE.blocks(SPACE.decode(SPACE.sample(np.random.default_rng(0), 1))[0]))
MODELS = {precision: graph_in_precision(NETWORK, precision) for precision in ("fp32", "fp16", "int8")}
FILES = {precision: model.SerializeToString() for precision, model in MODELS.items()}


@pytest.mark.parametrize("precision", FILES)
def test_a_model_tells_its_precision(precision: str) -> None:
    assert precision_of(FILES[precision]) == precision


@pytest.mark.parametrize("name", CANARY_SHA256)
def test_canaries_are_in_fp32(name: str) -> None:
    assert precision_of(canary_onnx(name)) == "fp32"


def model_of(kind: int, node: str = "Relu", **attributes: Any) -> bytes:
    ends = [helper.make_tensor_value_info(name, kind, [1, 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(node, ["x"], ["y"], **attributes)], "g", ends[:1], ends[1:])
    return bytes(helper.make_model(graph).SerializeToString())


@pytest.mark.parametrize(
    ("content", "precision"),
    [
        (model_of(TensorProto.FLOAT16), "fp16"),
        (model_of(TensorProto.BFLOAT16), "bf16"),
        (model_of(TensorProto.FLOAT, "Cast", to=TensorProto.FLOAT16), "fp16"),
        (model_of(TensorProto.FLOAT, "Cast", to=TensorProto.INT64), "fp32"),
        (
            model_of(TensorProto.FLOAT, "Constant", value=numpy_helper.from_array(np.zeros(2, np.float16), "c")),
            "fp16",
        ),
        (model_of(TensorProto.FLOAT8E4M3FN, "DequantizeLinear"), "fp8"),
        (model_of(TensorProto.INT8, "DequantizeLinear"), "int8"),
    ],
)
def test_inputs_casts_and_constants_tell_a_precision(content: bytes, precision: str) -> None:
    assert precision_of(content) == precision


@given(st.binary(max_size=200))
def test_bytes_are_a_model_or_refused_in_a_sentence(content: bytes) -> None:
    try:
        precision_of(content)
    except AgentError as error:
        assert error.kind == ErrorKind.MODEL_REFUSED


@given(st.integers(0, 10**9))
def test_a_torn_model_is_told_or_refused_and_never_read_beyond_its_end(cut: int) -> None:
    whole = canary_onnx()
    try:
        precision_of(whole[: cut % len(whole)])
    except AgentError as error:
        assert error.kind == ErrorKind.MODEL_REFUSED


@pytest.mark.parametrize("model", FILES)
@pytest.mark.parametrize("asked", FILES)
def test_a_model_runs_in_its_own_precision_and_no_other(model: str, asked: str, tmp_path: Path) -> None:
    runtime, output = open_runtime("onnxruntime"), tmp_path / "x.engine"
    options = RuntimeOptions(CPU, asked)
    if model != asked:
        with pytest.raises(AgentError, match=f"the model is in {model} and {asked} was asked for") as refused:
            runtime.compile(FILES[model], options, output)
        assert refused.value.kind == ErrorKind.MODEL_REFUSED
        return
    runtime.compile(FILES[model], options, output)
    engine = runtime.load(output.read_bytes(), options)
    engine.upload(seeded_inputs(engine.inputs, 0))
    engine.run()
    assert np.isfinite(engine.download()[0]).all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (RuntimeOptions(CPU, execution=ExecutionOptions(cuda_graph=True)), "cuda_graph"),
        (RuntimeOptions(CUDA, execution=ExecutionOptions(transfers=True)), "transfers"),
        (RuntimeOptions(CUDA, build=BuildOptions(workspace_mib=64)), "workspace_mib"),
        (RuntimeOptions(TENSORRT, build=BuildOptions(version_compatible=True)), "version_compatible"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(options: RuntimeOptions, named: str, tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=f"has no option '{named}'") as refused:
        open_runtime("onnxruntime").compile(canary_onnx(), options, tmp_path / "x.engine")
    assert refused.value.kind == ErrorKind.BAD_REQUEST


def test_fp32_stays_fp32_and_lower_precisions_are_allowed_where_they_are_asked_for() -> None:
    assert provider_options(RuntimeOptions(CPU)) == {}
    assert provider_options(RuntimeOptions(CUDA))["use_tf32"] == "0"
    wanted = {"fp32": ("0", "0"), "fp16": ("1", "0"), "int8": ("1", "1")}
    for precision, flags in wanted.items():
        found = provider_options(RuntimeOptions(TENSORRT, precision))
        assert (found["trt_fp16_enable"], found["trt_int8_enable"]) == flags


def test_tensorrt_writes_beside_the_engine_only_while_it_builds(tmp_path: Path) -> None:
    options = RuntimeOptions(TENSORRT, build=BuildOptions(workspace_mib=64, dla_core=1))
    built = provider_options(options, tmp_path / "x.engine")
    assert built["trt_ep_context_file_path"] == str(tmp_path / "x.engine")
    assert built["trt_timing_cache_path"] == str(tmp_path)
    loaded = provider_options(options)
    assert not [name for name in loaded if "path" in name]
    assert (loaded["trt_max_workspace_size"], loaded["trt_dla_core"]) == (str(64 << 20), "1")


def test_the_identity_of_the_cpu_s_default_is_what_the_committed_tables_have() -> None:
    found = open_runtime("onnxruntime").identity(RuntimeOptions(CPU))
    assert found == {
        "provider": CPU,
        "threads": 1,
        "optimisation": "all",
        "execution": "sequential",
        "spinning": False,
    }


def test_a_gpu_s_identity_tells_what_its_sessions_depend_on() -> None:
    runtime = open_runtime("onnxruntime")
    plain = runtime.identity(RuntimeOptions(CUDA))
    graph = runtime.identity(RuntimeOptions(CUDA, execution=ExecutionOptions(cuda_graph=True)))
    small = runtime.identity(RuntimeOptions(TENSORRT, build=BuildOptions(workspace_mib=64)))
    assert plain["tf32"] is False and plain != graph and small["workspace_mib"] == 64


class PretendingOrt:
    """ONNX Runtime as a GPU build is without a driver: it lists the provider and gives sessions on the CPU."""

    def __init__(self, provider: str, complains: bool) -> None:
        self._provider, self._complains = provider, complains
        self.asked: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(ort, name)

    def get_available_providers(self) -> list[str]:
        return [self._provider, CPU]

    def InferenceSession(self, model: bytes, settings: Any, providers: list[Any]) -> Any:  # noqa: N802
        self.asked.append(providers)
        if self._complains:
            raise RuntimeError(
                "This session contains graph nodes that are assigned to the default CPU EP, but fallback"
            )
        return SimpleNamespace(get_providers=lambda: [CPU], disable_fallback=lambda: None)


@pytest.fixture(params=[CUDA, TENSORRT])
def provider(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


@pytest.mark.parametrize("complains", [False, True])
def test_a_session_that_fell_back_is_never_measured(
    provider: str, complains: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretending = PretendingOrt(provider, complains)
    monkeypatch.setattr(module, "ort", pretending)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    runtime = open_runtime("onnxruntime")
    for attempt in (
        lambda: runtime.compile(canary_onnx(), RuntimeOptions(provider), tmp_path / "x.engine"),
        lambda: runtime.load(canary_onnx(), RuntimeOptions(provider)),
    ):
        with pytest.raises(AgentError, match=f"{provider}.*{CPU}") as refused:
            attempt()
        assert refused.value.kind == ErrorKind.FALLBACK
    assert [name for ((name, _),) in pretending.asked] == [provider] * 2, "no other provider is offered"


def test_a_real_provider_that_would_leave_the_work_to_another_is_refused(tmp_path: Path) -> None:
    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("needs a provider that is listed and cannot run the canary")
    with pytest.raises(AgentError) as refused:
        open_runtime("onnxruntime").compile(
            canary_onnx(), RuntimeOptions("AzureExecutionProvider"), tmp_path / "x.engine"
        )
    assert refused.value.kind == ErrorKind.FALLBACK


def test_a_refusal_names_the_nodes_that_another_provider_would_compute() -> None:
    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("needs a provider that is listed and cannot run the canary")
    said = elsewhere(canary_onnx(), "AzureExecutionProvider", {})
    assert "'" in said and f"on {CPU}" in said and "and " in said
    assert "its library does not load here" in elsewhere(canary_onnx(), "NoProvider", {})
    assert "no reason" in elsewhere(b"no model", CPU, {})


def test_nodes_are_no_model_for_onnx_runtime(tmp_path: Path) -> None:
    with pytest.raises(AgentError) as refused:
        open_runtime("onnxruntime").compile(canary_model(form="nodes"), RuntimeOptions(CPU), tmp_path / "x")
    assert refused.value.kind == ErrorKind.MODEL_REFUSED
