"""The runtimes ``tensorrt`` and ``tensorrt_rtx`` over a fake of either that keeps the real one's rules."""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hwnas.agent import cuda, processes, protocol
from hwnas.agent.canary import canary_onnx
from hwnas.agent.engines import EngineStore
from hwnas.agent.measuring import seeded_inputs
from hwnas.agent.options import BuildOptions, ExecutionOptions
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import Runtime, RuntimeOptions, open_runtime
from hwnas.agent.runtimes.base import explanation_path
from hwnas.agent.trt import names, timing_cache
from hwnas.agent.trt.apart import run_apart
from hwnas.agent.trt.building import build_plan
from hwnas.agent.trt.explanation import explain
from hwnas.agent.trt.library import Library, open_library
from hwnas.agent.trt.timing_cache import TimingCache, timing_cache_of
from hwnas.agent.trtexec import TrtexecKnobs

VERSIONS = ("8.6.1", "10.3.0", "10.13.3", "11.4.0")


@pytest.fixture(autouse=True)
def fakes(fake_nvidia: Any) -> Any:
    return fake_nvidia


def library_of(version: str, monkeypatch: pytest.MonkeyPatch) -> Library:
    module, variable = ("tensorrt_rtx", "FAKE_TENSORRT_RTX") if version == "rtx" else ("tensorrt", "FAKE_TENSORRT")
    sys.modules.pop(module, None)
    monkeypatch.setenv(variable, "1.7.1" if version == "rtx" else version)
    return open_library(module)


def model(precision: str = "fp32", batch: int | str = 1, operator: str = "Relu") -> bytes:
    """``input`` float32 [batch, 8] to ``output``, computed in ``precision``."""
    tensor = helper.make_tensor_value_info
    types = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "fp8": TensorProto.FLOAT8E4M3FN}
    initializers = []
    if precision == "fp32":
        nodes = [helper.make_node(operator, ["input"], ["output"], name="the node")]
    elif precision == "int8":
        initializers = [
            helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
            helper.make_tensor("zero", TensorProto.INT8, [], [0]),
        ]
        nodes = [
            helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["output"]),
        ]
    else:
        nodes = [
            helper.make_node("Cast", ["input"], ["low"], to=types[precision]),
            helper.make_node("Cast", ["low"], ["output"], to=TensorProto.FLOAT),
        ]
    shape = [batch, 8]
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor("input", TensorProto.FLOAT, shape)],
        [tensor("output", TensorProto.FLOAT, shape)],
        initializers,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return bytes(made.SerializeToString())


def built(library: Library, onnx_model: bytes, options: RuntimeOptions) -> dict[str, Any]:
    """What the fake says of the engine that it built."""
    plan: dict[str, Any] = json.loads(bytes(memoryview(build_plan(library, onnx_model, options))))
    return plan


def refusal(library: Library, onnx_model: bytes, options: RuntimeOptions) -> AgentError:
    with pytest.raises(AgentError) as refused:
        build_plan(library, onnx_model, options)
    assert "\n" not in refused.value.message
    return refused.value


def options_for(precision: str = "fp32", provider: str = "gpu", **build: Any) -> RuntimeOptions:
    return RuntimeOptions(provider, precision, build=BuildOptions(**build))


# What a version builds.


@pytest.mark.parametrize("version", [*VERSIONS, "rtx"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
def test_the_model_decides_what_is_computed_in_or_flags_where_it_cannot(
    version: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = library_of(version, monkeypatch)
    if version == "8.6.1" and precision == "bf16":
        assert refusal(library, model("fp32"), options_for("bf16")).kind == ErrorKind.BAD_REQUEST
        return
    plan = built(library, model(precision), options_for(precision))
    assert plan["strongly_typed"] == (version != "8.6.1")
    flags = {"fp16": ["FP16"], "int8": ["FP16", "INT8"], "fp8": ["FP16", "FP8"]}.get(precision, [])
    assert plan["flags"] == (flags if version == "8.6.1" else [])


@pytest.mark.parametrize("version", [*VERSIONS, "rtx"])
@pytest.mark.parametrize(("found", "asked"), [("fp32", "int8"), ("fp16", "fp32"), ("int8", "fp16"), ("fp32", "fp16")])
def test_an_engine_never_computes_in_something_else_than_was_asked_for(
    version: str, found: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = library_of(version, monkeypatch)
    if (version, found, asked) == ("8.6.1", "fp32", "fp16"):
        assert built(library, model(found), options_for(asked))["flags"] == ["FP16"]
        return
    refused = refusal(library, model(found), options_for(asked))
    assert refused.kind == ErrorKind.MODEL_REFUSED
    assert f"computes in {found} and {asked} was asked for" in refused.message


@pytest.mark.parametrize("version", VERSIONS)
def test_limits_and_portability_reach_the_builder(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = library_of(version, monkeypatch)
    plan = built(library, model(), options_for(workspace_mib=64, version_compatible=True, profiling=False))
    assert (plan["workspace"], plan["flags"], plan["verbosity"]) == (64 << 20, ["VERSION_COMPATIBLE"], "NONE")
    assert built(library, model(), options_for())["verbosity"] == "DETAILED"
    assert built(library, model(), options_for(hardware_compatibility="ampere-plus"))["level"] == "AMPERE_PLUS"
    same = options_for(hardware_compatibility="same-compute-capability")
    if version in ("8.6.1", "10.3.0"):
        assert "has no hardware compatibility" in refusal(library, model(), same).message
    else:
        assert built(library, model(), same)["level"] == "SAME_COMPUTE_CAPABILITY"


def test_rtx_builds_for_the_compute_capabilities_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    library = library_of("rtx", monkeypatch)
    every = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
    plan = built(library, model(), options_for(compute_capabilities=every))
    assert plan["capabilities"] == ["SM75", "SM80", "SM86", "SM89", "SM120", "SM121"]
    refused = refusal(library, model(), options_for(compute_capabilities=("8.7",)))
    assert "no compute capability 8.7" in refused.message


def test_rtx_builds_for_the_gpu_at_hand_unless_told_otherwise(tmp_path: Path) -> None:
    output = tmp_path / "x.engine"
    for asked, found in (((), ["SM86"]), (("8.9", "12.0"), ["SM89", "SM120"])):
        open_runtime("tensorrt_rtx").compile(model(), options_for(compute_capabilities=asked), output)
        assert json.loads(output.read_text())["capabilities"] == found


def test_a_dla_s_canary_is_the_gpu_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DLA_CORES", "2")
    runtime = open_runtime("tensorrt")
    assert runtime.providers() == ["gpu", "dla"]
    assert runtime.canary_options(options_for("int8", "dla")) == RuntimeOptions("gpu")


def test_a_dynamic_batch_takes_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    library = library_of("10.3.0", monkeypatch)
    plan = built(library, model(batch="N"), options_for(batch_range=(1, 4, 8)))
    assert plan["shapes"] == {"input": [[1, 8], [4, 8], [8, 8]]}
    assert "say which it may be by batch_range" in refusal(library, model(batch="N"), options_for()).message
    assert "this model's is fixed" in refusal(library, model(), options_for(batch_range=(1, 4, 8))).message
    other = onnx.load_from_string(model())
    other.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "W"
    refused = refusal(library, other.SerializeToString(), options_for(batch_range=(1, 4, 8)))
    assert "only the batch may be dynamic" in refused.message


def test_a_refused_operator_is_told_with_its_node_and_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    unsupported = model(operator="Det")
    new = refusal(library_of("10.3.0", monkeypatch), unsupported, options_for())
    assert new.kind == ErrorKind.MODEL_REFUSED
    assert "Det node 'the node': the operator is not supported (UNSUPPORTED_NODE); TensorRT has no such" in new.message
    old = refusal(library_of("8.6.1", monkeypatch), unsupported, options_for())
    assert "the model: the operator is not supported" in old.message


# Deep-learning accelerators.


def test_a_dla_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = refusal(library_of("10.3.0", monkeypatch), model(), options_for("fp16", "dla"))
    assert (refused.kind, refused.message) == (
        ErrorKind.FALLBACK,
        "there is no DLA core 0 here: TensorRT 10.3.0 finds 0",
    )


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "11.4.0"])
def test_a_dla_computes_in_fp16_with_the_gpu_behind_it(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DLA_CORES", "2")
    library = library_of(version, monkeypatch)
    plan = built(library, model("fp16"), options_for("fp16", "dla", dla_core=1))
    assert (plan["dla_core"], plan["strongly_typed"]) == (1, version == "11.4.0")
    assert plan["flags"] == (["GPU_FALLBACK"] if version == "11.4.0" else ["FP16", "GPU_FALLBACK"])
    if version != "11.4.0":
        assert "a DLA computes in fp16 or int8" in refusal(library, model(), options_for("fp32", "dla")).message


def test_a_dla_takes_its_scales_from_a_calibration_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_DLA_CORES", "2")
    for version, head in (("8.6.1", "TRT-8601"), ("10.3.0", "TRT-100300")):
        library = library_of(version, monkeypatch)
        scaled = options_for("int8", "dla", tensor_scales=(("input", 0.5), ("output", 1.0 / 127)))
        plan = built(library, model(), scaled)
        assert plan["flags"] == ["FP16", "GPU_FALLBACK", "INT8"]
        assert plan["calibration"] == f"{head}-EntropyCalibration2\ninput: 3f000000\noutput: 3c010204\n"
        assert "apart from the model" in refusal(library, model(), options_for("int8", "dla")).message
        assert "computes in int8" in refusal(library, model("int8"), scaled).message
    refused = refusal(library_of("11.4.0", monkeypatch), model(), scaled)
    assert "takes scales from the model's Q/DQ nodes" in refused.message


# Running.


@pytest.fixture(params=[*VERSIONS, "rtx"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Scenario:
    """Build with a timing cache, explain, load, run and close, in one process, with every option in use."""

    def __init__(self, version: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_DLA_CORES", "2")
        self.version = version
        self.library = library_of(version, monkeypatch)
        self.cache = TimingCache(directory / "x.cache")
        build: dict[str, Any] = {"workspace_mib": 64, "batch_range": (1, 2, 4)}
        if version == "rtx":
            build["compute_capabilities"] = ("8.6", "8.9")
        else:
            build.update(version_compatible=True, hardware_compatibility="ampere-plus")
        self.on_gpu = options_for(**build)
        scaled = () if version.startswith("11") else (("input", 0.5),)
        self.on_dla = options_for("int8", "dla", dla_core=1, tensor_scales=scaled)

    def run(self) -> None:
        self._once(model(batch="N"), self.on_gpu)
        if self.version != "rtx":
            self._once(model("int8" if self.version.startswith("11") else "fp32"), self.on_dla)

    def _once(self, onnx_model: bytes, options: RuntimeOptions) -> None:
        library = self.library
        plan = bytes(memoryview(build_plan(library, onnx_model, options, self.cache)))
        gpu = cuda.open_cuda()
        told = explain(library, gpu, plan, options)
        assert set(told) == {"layers", "layer_ms", "activation_bytes"}
        runtime = open_runtime(library.trt.__name__)
        engine = runtime.load(plan, options)
        try:
            arrays = seeded_inputs(engine.inputs, seed=1)
            engine.upload(arrays)
            engine.run()
            np.testing.assert_array_equal(engine.download()[0], arrays[0])
        finally:
            engine.close()


def test_whichever_call_fails_the_error_is_told_and_all_is_given_back(
    version: str, fakes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    gc.collect()
    gc.freeze()  # what is collected a thousand times below is what the scenario leaves
    scenario = Scenario(version, tmp_path, monkeypatch)
    memory = importlib.import_module("fake_cuda").BUFFERS
    fakes.fail_at(0, raises=False)
    scenario.run()
    total = fakes.calls()
    assert total > (50 if version == "rtx" else 100)
    survived = 0
    for raises in (False, True):
        for call in range(1, total + 1):
            fakes.fail_at(call, raises)
            try:
                scenario.run()
                survived += 1
            except AgentError as error:
                assert "failed" in error.message or "refused" in error.message
            except RuntimeError as error:
                assert str(error).endswith("failed")
            gc.collect()
            assert fakes.BROKEN == [], f"call {call} failed"
            assert memory == {}, f"call {call} failed"
    gc.unfreeze()
    # A timing cache that cannot be had, or kept, costs time and no engine.
    assert 0 < survived <= 14
    fakes.fail_at(0, raises=False)
    scenario.run()


def test_the_list_of_names_is_what_is_used(fakes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.USED.clear()
    monkeypatch.setenv("FAKE_DLA_CORES", "2")
    for name in [*VERSIONS, "rtx"]:
        Scenario(name, tmp_path, monkeypatch).run()
        library = library_of(name, monkeypatch)
        for precision in ("fp16", "int8", "fp8"):
            built(library, model(precision), options_for(precision))
    built(library, model(), options_for(compute_capabilities=("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")))
    built(library_of("11.4.0", monkeypatch), model("bf16"), options_for("bf16"))
    library = library_of("10.13.3", monkeypatch)
    built(library, model(), options_for(hardware_compatibility="same-compute-capability", profiling=False))
    refusal(library, model(operator="Det"), options_for())
    listed = {(kind, entry) for kind, found in names.NAMES.items() for entry in found}
    types = {(kind, entry) for kind, entry in listed if kind == "DataType"}
    assert {entry for entry in fakes.USED if entry[0] != "DataType"} == listed - types
    assert {entry for entry in fakes.USED if entry[0] == "DataType"} <= types


# The runtimes, whose builds are processes of their own.


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    return open_runtime(request.param)


def test_an_engine_is_saved_with_what_it_consists_of(runtime: Runtime, tmp_path: Path) -> None:
    store = EngineStore(tmp_path / "engines")
    identity = store.build(runtime, canary_onnx(), RuntimeOptions("gpu"))
    told = store.explanation(identity)
    assert told is not None
    assert set(told["layer_ms"].values()) == {0.5}
    assert len(told["layers"]) == len(told["layer_ms"]) > 5
    assert told["activation_bytes"] == 4096
    assert store.explanation(store.build(runtime, canary_onnx(), options_for(profiling=False))) == {
        "version": runtime.version(),
        "workspace_mib": None,
        "compute_capabilities": ["8.6"] if runtime.name == "tensorrt_rtx" else [],
        "unexplained": "it was built without profiling",
    }
    store.drop(identity)
    assert not list((tmp_path / "engines").glob(f"{identity}*"))


def test_engines_that_are_pushed_out_or_dropped_are_closed_in_order(runtime: Runtime, tmp_path: Path) -> None:
    memory = importlib.import_module("fake_cuda").BUFFERS
    store = EngineStore(tmp_path / "engines")
    identity = store.build(runtime, model(), RuntimeOptions("gpu"))
    engine = store.open(identity)
    engine.upload(seeded_inputs(engine.inputs, seed=0))
    assert memory
    store.drop(identity)
    assert memory == {}
    with pytest.raises(ValueError, match="closed"):
        engine.run()


@pytest.mark.parametrize("execution", [ExecutionOptions(cuda_graph=True), ExecutionOptions(transfers=True)])
def test_graphs_and_transfers_change_no_result_but_the_identity(execution: ExecutionOptions, tmp_path: Path) -> None:
    runtime = open_runtime("tensorrt")
    plain = RuntimeOptions("gpu")
    chosen = replace(plain, execution=execution)
    runtime.compile(model(), chosen, tmp_path / "x.engine")
    engine = runtime.load((tmp_path / "x.engine").read_bytes(), chosen)
    arrays = seeded_inputs(engine.inputs, seed=2)
    engine.upload(arrays)
    assert min(engine.timed_runs(3)) > 0
    np.testing.assert_array_equal(engine.download()[0], arrays[0])
    assert runtime.identity(chosen) != runtime.identity(plain)
    engine.close()


def test_only_what_a_timing_depends_on_is_in_the_identity() -> None:
    runtime = open_runtime("tensorrt")
    plain = runtime.identity(RuntimeOptions("gpu"))
    assert set(plain) == {"provider", "threads", "gpu"}
    assert plain["gpu"]["name"] == "Fake GPU"
    same = options_for(timeout_s=5.0, memory_mib=9000, profiling=False)
    assert runtime.identity(same) == plain
    assert runtime.identity(options_for(workspace_mib=64))["build"] == {"workspace_mib": 64}


def test_a_dynamic_batch_runs_at_the_usual_one(tmp_path: Path) -> None:
    runtime = open_runtime("tensorrt")
    dynamic = options_for(batch_range=(1, 4, 8))
    runtime.compile(model(batch="N"), dynamic, tmp_path / "x.engine")
    engine = runtime.load((tmp_path / "x.engine").read_bytes(), dynamic)
    assert (engine.inputs[0].shape, engine.outputs[0].shape) == ((4, 8), (4, 8))
    engine.close()


def test_queries_in_flight_have_contexts_of_their_own(tmp_path: Path) -> None:
    runtime = open_runtime("tensorrt")
    runtime.compile(model(), RuntimeOptions("gpu"), tmp_path / "x.engine")
    engine = runtime.load((tmp_path / "x.engine").read_bytes(), RuntimeOptions("gpu"))
    queries = engine.queries(TrtexecKnobs(infStreams=2), seeded_inputs(engine.inputs, seed=0))
    queries.begin()
    for stream in (0, 1):
        queries.enqueue(stream)
    traces = [queries.wait(stream) for stream in (0, 1)]
    assert all(trace.h2d_start < trace.compute_start < trace.compute_end < trace.d2h_end for trace in traces)
    engine.close()


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("tensorrt", options_for(compute_capabilities=("8.6",)), "for runtime tensorrt_rtx"),
        ("tensorrt", options_for(dla_core=0), "for provider dla, not for gpu"),
        ("tensorrt_rtx", options_for(dla_core=0), "has no DLA"),
        ("tensorrt_rtx", options_for(version_compatible=True), "portable by compute_capabilities"),
        ("tensorrt_rtx", options_for(hardware_compatibility="ampere-plus"), "portable by compute_capabilities"),
    ],
)
def test_what_a_library_cannot_is_refused_before_anything_is_built(
    name: str, options: RuntimeOptions, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(AgentError, match=sentence) as refused:
        open_runtime(name).compile(model(), options, tmp_path / "x.engine")
    assert refused.value.kind == ErrorKind.BAD_REQUEST
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("how", "kind", "sentence"),
    [
        ("crash", ErrorKind.INTERNAL, "the library crashed in the build (SIGSEGV)"),
        ("killed", ErrorKind.OUT_OF_MEMORY, "the system killed the build, which it does for want of memory; and once"),
        ("eat", ErrorKind.OUT_OF_MEMORY, "MiB of memory where 300 are allowed; and once more with a workspace of 256"),
        ("hang", ErrorKind.TIMEOUT, "the build took longer than 3 s and was given up"),
        ("exit", ErrorKind.INTERNAL, "the build ended with exit code 7 and no answer"),
    ],
)
def test_whatever_native_code_does_in_a_build_is_told_and_survived(
    how: str, kind: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BUILD", how)
    runtime = open_runtime("tensorrt")
    store = EngineStore(tmp_path / "engines")
    limits = {"hang": {"timeout_s": 3.0}, "eat": {"memory_mib": 300}}.get(how, {})
    with pytest.raises(AgentError) as failed:
        store.build(runtime, model(), options_for(**limits))
    assert failed.value.kind == kind
    assert sentence in failed.value.message
    assert [path for path in (tmp_path / "engines").iterdir() if path.suffix != ".lock"] == []


def test_chatter_of_native_code_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BUILD", "chatter")
    open_runtime("tensorrt").compile(model(), RuntimeOptions("gpu"), tmp_path / "x.engine")
    assert (tmp_path / "x.engine").exists()


def test_a_build_without_memory_is_tried_once_more_with_a_smaller_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MEMORY_MIB", "300")
    runtime, output = open_runtime("tensorrt"), tmp_path / "x.engine"
    for limit, smaller in ((None, 256), (1000, 250)):
        runtime.compile(model(), options_for(workspace_mib=limit), output)
        assert json.loads(output.read_text())["workspace"] == smaller << 20
        told = json.loads(explanation_path(output).read_text())
        assert told["workspace_mib"] == smaller
        assert "OutOfMemory" in told["built_after"]
    with pytest.raises(AgentError) as failed:
        runtime.compile(model(), options_for(workspace_mib=4000), output)
    assert failed.value.kind == ErrorKind.OUT_OF_MEMORY
    assert "OutOfMemory" in failed.value.message
    assert "once more with a workspace of 1000 MiB" in failed.value.message


def test_a_build_ends_with_the_process_that_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BUILD", "hang")
    (tmp_path / "x.onnx").write_bytes(model())
    task = {
        "library": "tensorrt",
        "onnx": str(tmp_path / "x.onnx"),
        "output": str(tmp_path / "x.engine"),
        "options": RuntimeOptions("gpu").as_record(),
    }
    command = processes.module_command("hwnas.agent.trt.child")
    environment = processes.module_environment()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment) as child:
        assert child.stdin is not None
        child.stdin.write(protocol.encode(task))
        child.stdin.flush()
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(1.5)
            child.stdin.close()
            assert child.wait(20) == 1
        finally:
            child.kill()


def test_a_task_that_is_none_is_an_error_and_no_crash() -> None:
    with pytest.raises(AgentError, match="'library' is missing"):
        run_apart("the build", {})
    with pytest.raises(AgentError, match="no_such_library is not installed here"):
        run_apart("the build", {"library": "no_such_library"})


# Timing caches.


def kernels(path: Path) -> list[str]:
    found: list[str] = json.loads(path.read_bytes())[1]
    return found


def caches_in(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.cache"))


def test_a_build_begins_with_what_builds_before_it_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = library_of("10.3.0", monkeypatch)
    cache = TimingCache(tmp_path / "x.cache")
    build_plan(library, model(), options_for(), cache)
    build_plan(library, canary_onnx(), options_for(), cache)
    learned = kernels(tmp_path / "x.cache")
    assert len(learned) == 2
    assert not (tmp_path / "x.part").exists()


def test_what_others_learned_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = library_of("10.3.0", monkeypatch)
    cache = TimingCache(tmp_path / "x.cache")

    class Meanwhile(TimingCache):
        def load_into(self, config: Any) -> None:
            super().load_into(config)
            build_plan(library, canary_onnx(), options_for(), cache)

    build_plan(library, model(), options_for(), Meanwhile(tmp_path / "x.cache"))
    assert len(kernels(tmp_path / "x.cache")) == 2


@pytest.mark.parametrize("content", [b"", b"damaged", json.dumps(["8.6.1", ["old"]]).encode()])
def test_a_cache_that_the_library_does_not_take_is_made_anew(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = library_of("10.3.0", monkeypatch)
    (tmp_path / "x.cache").write_bytes(content)
    build_plan(library, model(), options_for(), TimingCache(tmp_path / "x.cache"))
    written_by, learned = json.loads((tmp_path / "x.cache").read_bytes())
    assert (written_by, "1 layers" in learned) == ("10.3.0", True)


def test_every_version_device_and_precision_has_a_cache_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(timing_cache.DIRECTORY_VARIABLE, str(tmp_path / "mine"))
    library = library_of("10.3.0", monkeypatch)
    for version, device, precision in (
        ("10.3.0", {"max_clock_mhz": 612.0}, "fp32"),
        ("10.3.0", {"max_clock_mhz": 1020.0}, "fp32"),
        ("10.3.0", {"max_clock_mhz": 612.0}, "fp16"),
        ("11.4.0", {"max_clock_mhz": 612.0}, "fp32"),
        ("10.3.0", {"max_clock_mhz": 612.0}, "fp32"),
    ):
        library = library_of(version, monkeypatch)
        cache = timing_cache_of(library, device, precision, tmp_path)
        assert cache is not None
        build_plan(library, model(precision), options_for(precision), cache)
    assert len(caches_in(tmp_path / "mine")) == 4
    keys = [json.loads(path.with_suffix(".json").read_text()) for path in caches_in(tmp_path / "mine")]
    assert {"library": "tensorrt", "version": "11.4.0", "device": {"max_clock_mhz": 612.0}, "precision": "fp32"} in keys


def test_caches_lie_where_nobody_else_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = library_of("10.3.0", monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert timing_cache_of(library, {}, "fp32", tmp_path / "home") is not None
    kept = tmp_path / "caches" / "hwnas" / "timing"
    assert kept.stat().st_mode & 0o077 == 0
    assert list(kept.iterdir())
    kept.chmod(0o777)
    assert timing_cache_of(library, {}, "fp32", tmp_path / "home") is not None
    assert list((tmp_path / "home" / "timing").iterdir())
    monkeypatch.setenv(timing_cache.DIRECTORY_VARIABLE, str(kept))
    with pytest.raises(AgentError, match="must belong to you alone"):
        timing_cache_of(library, {}, "fp32", tmp_path / "home")
    monkeypatch.setenv(timing_cache.DIRECTORY_VARIABLE, "")
    assert timing_cache_of(library, {}, "fp32", tmp_path / "home") is None


def test_a_build_keeps_its_cache_and_a_build_of_rtx_has_none(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(timing_cache.DIRECTORY_VARIABLE, str(tmp_path / "mine"))
    runtime.compile(model(), RuntimeOptions("gpu"), tmp_path / "x.engine")
    assert len(caches_in(tmp_path / "mine")) == (1 if runtime.name == "tensorrt" else 0)
