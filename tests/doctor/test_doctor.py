"""Each problem is named with its place and a mend; what is good is called good."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from hwnas.devices import load_description, load_target
from hwnas.doctor import BuildPlan, Diagnosis, Finding, Overrides, Platform, Severity, Version, examine, platforms
from hwnas.doctor.knowledge import LAST_MATRIX, OPSETS, SINCE, SOURCES, Support, opset_limits, support
from hwnas.errors import BadFileError, UserError
from hwnas.export import export_onnx
from hwnas.graphs import network_graph
from hwnas.spaces import get_space
from hwnas.supernet import PlainNetwork

sys.path.insert(0, str(Path(__file__).parent))
from doctor_models import Builder, conv, external, model, quantised, reader, scale_is_computed, slice_by, unary

GIB = 2**30
ORIN = Platform("orin", "10.3", (8, 7), 8 * GIB, shared_memory=True, dla_cores=2)
OLD = replace(ORIN, tensorrt="8.5")
ADA = Platform("ada", "11.0", (8, 9), 24 * GIB, dla_cores=0)


def diagnose(proto: ModelProto, tmp_path: Path, platform: Platform = ORIN, **plan: object) -> Diagnosis:
    return examine(reader("model", proto, tmp_path), [platform], BuildPlan(**plan))[0]  # type: ignore[arg-type]


def found(diagnosis: Diagnosis, code: str) -> Finding:
    matching = [finding for finding in diagnosis.findings if finding.code == code]
    assert len(matching) == 1, diagnosis.findings
    return matching[0]


@pytest.mark.parametrize("platform", [OLD, replace(OLD, tensorrt="8.6.2"), ORIN, replace(ORIN, tensorrt="10.13"), ADA])
def test_good_models_build(tmp_path: Path, platform: Platform) -> None:
    for proto in (conv(), quantised(), slice_by("constant")):
        diagnosis = diagnose(proto, tmp_path, platform)
        assert diagnosis.findings == ()
        assert diagnosis.verdict == "builds"


@pytest.mark.parametrize("version", ["8.5", "10.3", "11.0"])
def test_random_subnets_build_everywhere(tmp_path: Path, version: str) -> None:
    space = get_space("mobilenet_v3/small", 10)
    for number, architecture in enumerate(space.decode(space.sample(np.random.default_rng(7), 12))):
        path = reader(str(number), network_graph(space.blocks(architecture)), tmp_path)
        for diagnosis in examine(path, [replace(ORIN, tensorrt=version), replace(ADA, tensorrt=version)]):
            assert diagnosis.verdict == "builds", diagnosis.findings


def test_real_exports_build_everywhere(tmp_path: Path) -> None:
    space = get_space("mobilenet_v3/small", 10)
    torch.manual_seed(0)
    for number, architecture in enumerate(space.decode(space.sample(np.random.default_rng(8), 3))):
        path = tmp_path / f"{number}.onnx"
        export_onnx(PlainNetwork(space.blocks(architecture)).eval(), architecture.resolution, path, metadata={})
        for diagnosis in examine(path, [OLD, ORIN, ADA]):
            assert diagnosis.verdict == "builds", diagnosis.findings


ONE = np.array([1], np.int64)
BAD: dict[str, tuple[Builder, Platform, dict[str, object]]] = {
    "operator-unsupported": (lambda: unary("Det"), ORIN, {}),
    "operator-unknown": (lambda: unary("Gelu", opset=20), ORIN, {}),
    "custom-operator": (lambda: unary("BiasGelu", "com.microsoft"), ADA, {}),
    "opset-too-new": (
        lambda: model([helper.make_node("ReduceMean", ["x", "a"], ["y"])], {"a": ONE}, opset=18),
        OLD,
        {},
    ),
    "opset-too-old": (lambda: unary("Relu", opset=8), ORIN, {}),
    "restriction": (lambda: slice_by("computed"), OLD, {}),
    "type-too-new": (lambda: unary_of(TensorProto.BFLOAT16), OLD, {}),
    "type-not-on-gpu": (lambda: unary_of(TensorProto.BFLOAT16), Platform("t4", "10.3", (7, 5), GIB), {}),
    "type-unsupported": (lambda: unary_of(TensorProto.UINT64, "Identity"), ORIN, {}),
    "gpu-too-old": (conv, Platform("nano", "10.3", (5, 3), 4 * GIB), {}),
    "gpu-too-new": (conv, Platform("rtx-5090", "10.3", (12, 0), 32 * GIB), {}),
    "no-int8": (quantised, Platform("tx2", "8.5", (6, 2), 8 * GIB), {}),
    "not-in-precision": (conv, ADA, {"precision": "fp16"}),
    "not-quantised": (conv, ORIN, {"precision": "int8"}),
    "unsigned": (lambda: quantised(np.array(0, np.uint8)), ORIN, {}),
    "asymmetric": (lambda: quantised(np.array(3, np.int8)), ORIN, {}),
    "int32-bias": (lambda: quantised(bias=True), ORIN, {}),
    "scale-not-fixed": (scale_is_computed, ORIN, {}),
    "scale-not-positive": (lambda: quantised(scale=0.0), ORIN, {}),
    "dynamic-batch": (lambda: conv(shape=("N", 4, 8, 8)), ORIN, {}),
    "dynamic-shape": (lambda: conv(shape=(1, 4, "h", "w")), ORIN, {}),
    "out-of-memory": (conv, replace(ORIN, memory_bytes=1000), {}),
    "no-dla": (conv, replace(ORIN, dla_cores=0), {"on_dla": True, "precision": "int8"}),
    "dla-not-in-version": (quantised, replace(ADA, dla_cores=1), {"on_dla": True, "precision": "int8"}),
    "dla-precision": (conv, ORIN, {"on_dla": True}),
    "dla-dynamic": (conv, ORIN, {"on_dla": True, "dynamic_batch": True}),
}
UNDECIDED = ("operator-unknown", "scale-not-fixed")
WARNED = ("opset-too-old",)


def unary_of(kind: int, operator: str = "Relu") -> ModelProto:
    return model([helper.make_node(operator, ["x"], ["y"])], kind=kind, output=kind)


@pytest.mark.parametrize("code", BAD)
def test_each_problem_is_named_and_keeps_the_model_from_being_called_good(code: str, tmp_path: Path) -> None:
    build, platform, plan = BAD[code]
    diagnosis = diagnose(build(), tmp_path, platform, **plan)
    finding = found(diagnosis, code)
    assert finding.what.endswith(".")
    if code in UNDECIDED:
        assert (finding.severity, diagnosis.verdict) == (Severity.UNKNOWN, "builds with warnings")
    elif code in WARNED:
        assert (finding.severity, diagnosis.verdict) == (Severity.WARNING, "builds with warnings")
    else:
        assert (finding.severity, diagnosis.verdict) == (Severity.ERROR, "will not build")
        assert diagnosis.findings[0].severity is Severity.ERROR, "the gravest comes first"
    assert Diagnosis.model_validate_json(diagnosis.model_dump_json(by_alias=True)) == diagnosis


LARGE, TINY = np.full((4, 4, 1, 1), 1e5, np.float32), np.full((4, 4, 1, 1), 1e-9, np.float32)
WARNINGS: dict[str, tuple[Builder, Platform, dict[str, object]]] = {
    "fp16-overflow": (lambda: conv(LARGE), OLD, {"precision": "fp16"}),
    "fp16-underflow": (lambda: conv(TINY), OLD, {"precision": "fp16"}),
    "not-finite": (lambda: conv(np.full((4, 4, 1, 1), np.nan, np.float32)), ORIN, {}),
    "double-cast": (lambda: unary_of(TensorProto.DOUBLE), ORIN, {}),
    "int64-clamped": (
        lambda: model(
            [helper.make_node("Add", ["x", "c"], ["y"])], {"c": np.array([2**40], np.int64)}, kind=TensorProto.INT64
        ),
        OLD,
        {},
    ),
    "dla-fallback": (lambda: unary("HardSwish"), OLD, {"on_dla": True, "precision": "fp16"}),
    "dla-size": (lambda: conv(shape=(1, 4, 9000, 8)), OLD, {"on_dla": True, "precision": "fp16"}),
    "memory-tight": (conv, replace(ORIN, memory_bytes=3000), {}),
    "gpu-unknown": (conv, replace(ORIN, gpu=None), {}),
    "memory-unknown": (lambda: conv(shape=("N", 4, 8, 8)), ORIN, {"dynamic_batch": True}),
}


@pytest.mark.parametrize("code", WARNINGS)
def test_what_builds_and_yet_deserves_a_word_is_a_warning(code: str, tmp_path: Path) -> None:
    build, platform, plan = WARNINGS[code]
    diagnosis = diagnose(build(), tmp_path, platform, **plan)
    assert found(diagnosis, code).severity in (Severity.WARNING, Severity.UNKNOWN)
    assert diagnosis.verdict == "builds with warnings", diagnosis.findings


def test_fp32_does_not_mind_large_numbers(tmp_path: Path) -> None:
    assert diagnose(conv(LARGE), tmp_path).verdict == "builds"


def test_an_opset_that_changed_nothing_in_the_model_is_a_warning(tmp_path: Path) -> None:
    diagnosis = diagnose(conv(opset=20), tmp_path, OLD)
    assert found(diagnosis, "opset-too-new").severity is Severity.WARNING
    changed = BAD["opset-too-new"][0]()
    assert "ReduceMean" in found(diagnose(changed, tmp_path, OLD), "opset-too-new").where[0]


def test_an_opset_between_two_documents_is_unknown(tmp_path: Path) -> None:
    assert found(diagnose(conv(opset=21), tmp_path, ORIN), "opset-unknown").severity is Severity.UNKNOWN


@pytest.mark.parametrize(
    ("content", "location", "words"),
    [
        (None, "weights.bin", "which does not exist"),
        (b"x" * 10, "weights.bin", "10 of 64 bytes"),
        (None, "../weights.bin", "outside of the model's directory"),
    ],
)
def test_missing_weights_are_an_error(tmp_path: Path, content: bytes | None, location: str, words: str) -> None:
    finding = found(diagnose(external(tmp_path, content, location), tmp_path), "external-data")
    assert words in finding.where[0]


def test_weights_in_another_file_that_is_there_are_fine(tmp_path: Path) -> None:
    content = np.ones((4, 4, 1, 1), np.float32).tobytes()
    assert diagnose(external(tmp_path, content), tmp_path).verdict == "builds"


def test_a_node_of_the_torch_script_exporter_is_traced_by_its_name(tmp_path: Path) -> None:
    place = found(diagnose(unary("Det"), tmp_path), "operator-unsupported").where[0]
    assert place == "Det '/head/Det', module head, from '/body/Relu' ← input 'x'"


def test_a_node_of_the_dynamo_exporter_is_traced_to_module_and_line(tmp_path: Path) -> None:
    proto = unary("Det")
    # As torch 2.13 writes it.
    trace = 'File "/app/net.py", line 8, in forward\n  return self.head(x)\n  File "/app/net.py", line 5, in forward\n'
    trace += '  File "/lib/site-packages/torch/nn/functional.py", line 2, in det\n'
    written = {
        "pkg.torch.onnx.name_scopes": "['', 'head', 'linalg_det']",
        "pkg.torch.onnx.class_hierarchy": "['__main__.Net', '__main__.Head', 'aten.linalg_det.default']",
        "pkg.torch.onnx.stack_trace": trace,
    }
    for key, value in written.items():
        proto.graph.node[1].metadata_props.add(key=key, value=value)
    place = found(diagnose(proto, tmp_path), "operator-unsupported").where[0]
    assert place.startswith("Det '/head/Det', module head (Head), /app/net.py:5, from")


def test_a_doc_string_with_a_trace_gives_the_line(tmp_path: Path) -> None:
    proto = unary("Det")
    proto.graph.node[
        1
    ].doc_string = "/lib/torch/functional.py(7): det\n/app/net.py(12): forward\n/app/train.py(3): <module>"
    assert "/app/net.py:12" in found(diagnose(proto, tmp_path), "operator-unsupported").where[0]


def test_nodes_inside_of_branches_are_found(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Det", ["x"], ["o"], name="det")],
        "then",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
    )
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
    proto = model(nodes, {"c": np.array(True)})
    assert "in If.else_branch" in found(diagnose(proto, tmp_path), "operator-unsupported").where[0]


def test_many_places_are_counted(tmp_path: Path) -> None:
    nodes = [helper.make_node("Det", ["x"], [f"y{k}"], name=f"d{k}") for k in range(9)]
    nodes.append(helper.make_node("Sum", [f"y{k}" for k in range(9)], ["y"]))
    assert found(diagnose(model(nodes), tmp_path), "operator-unsupported").where[-1] == "and 4 more"


def test_the_memory_is_counted_by_hand(tmp_path: Path) -> None:
    found = diagnose(conv(), tmp_path, workspace_bytes=1000).memory
    assert found is not None
    assert found.weights == 4 * 4 * 4
    assert found.activations == 2 * 4 * 8 * 8 * 4, "an input and an output are alive at once, never three tensors"
    assert found.total == found.weights + found.activations + 1000
    half = diagnose(conv(), tmp_path, OLD, precision="fp16").memory
    assert half is not None
    assert (half.weights, half.activations) == (found.weights / 2, found.activations / 2)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    for content in (b"no model", b""):
        path.write_bytes(content)
        with pytest.raises(BadFileError, match=r"bad\.onnx"):
            examine(path, [ORIN])
    with pytest.raises(BadFileError, match="does not exist"):
        examine(tmp_path / "none.onnx", [ORIN])


def test_a_board_is_examined_with_each_of_its_jetpacks() -> None:
    orin_nano = load_description("jetson-orin-nano-8gb")
    names = [(platform.name, platform.tensorrt) for platform in platforms(orin_nano, Overrides())]
    assert names[0] == ("jetson-orin-nano-8gb, JetPack 5.1", "8.5")
    assert names[-1] == ("jetson-orin-nano-8gb, JetPack 6.2", "10.3")
    (one,) = platforms(orin_nano, Overrides(jetpack="6.2", memory_gib=4, gpu="8.7"))
    assert (one.tensorrt, one.memory_bytes, one.gpu, one.shared_memory) == ("10.3", 4 * GIB, (8, 7), True)


TARGET = """
schema: 1
name: board
description: A board with facts
kind: jetson
connection: {kind: local}
runtimes: {onnxruntime: {providers: [CPUExecutionProvider], precisions: [fp32]}}
defaults: {runtime: onnxruntime}
facts:
  tensorrt: {value: "10.3", source: dpkg}
  compute_capability: {value: "8.7", source: NVIDIA}
  memory_gib: {value: 16, source: NVIDIA}
  dla_cores: {value: 2, source: NVIDIA}
"""


def test_a_target_tells_its_platform_by_its_facts(tmp_path: Path) -> None:
    (tmp_path / "board.yaml").write_text(TARGET)
    target = load_target(tmp_path / "board.yaml")
    (platform,) = platforms(target, Overrides())
    assert platform == Platform("board", "10.3", (8, 7), 16 * GIB, shared_memory=True, dla_cores=2)
    (newer,) = platforms(target, Overrides(tensorrt="11.4.1", dla_cores=0))
    assert (newer.tensorrt, newer.dla_cores, newer.has_dla) == ("11.4.1", 0, True)


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("jetson-orin-nono-8gb", Overrides(), "did you mean jetson-orin-nano"),
        ("rtx-3090", Overrides(), "give --tensorrt VERSION"),
        ("rtx-3090", Overrides(tensorrt="8.2"), "TensorRT 8.5 .* and later, not for 8.2"),
        ("rtx-3090", Overrides(tensorrt="ten"), "such as 10.3, not 'ten'"),
        ("rtx-3090", Overrides(tensorrt="10.3", gpu="sm_86"), "such as 8.7, not 'sm_86'"),
        ("jetson-orin-nano-8gb", Overrides(jetpack="4.6"), "JetPack 4.6 is unknown"),
        ("jetson-nano-4gb", Overrides(), "TensorRT 8.5 .* and later, not for 8.2"),
    ],
)
def test_what_cannot_be_a_platform_is_refused(name: str, overrides: Overrides, words: str) -> None:
    with pytest.raises(UserError, match=words):
        platforms(load_description(name), overrides)


VERSIONS = st.builds(Version, st.integers(9, 11), st.integers(0, 20)) | st.sampled_from([Version(8, 5), Version(8, 6)])


@given(VERSIONS, VERSIONS, st.sampled_from(sorted(SINCE)))
def test_what_a_version_has_later_ones_have(first: Version, second: Version, operator: str) -> None:
    earlier, later = sorted((first, second))
    if support(operator, earlier)[0] is Support.YES:
        assert support(operator, later)[0] is Support.YES
    assert support(operator, first)[1] in SOURCES


@given(VERSIONS)
def test_opsets_that_are_read_and_that_are_not_do_not_overlap(version: Version) -> None:
    read, unread = opset_limits(version)
    assert unread is None or read < unread
    if version in OPSETS:
        assert unread == read + 1


def test_beyond_the_last_document_what_was_refused_is_unknown() -> None:
    assert support("Unique", LAST_MATRIX)[0] is Support.NO
    assert support("Unique", Version(11, 0))[0] is Support.UNKNOWN
    assert support("DFT", Version(11, 0))[0] is Support.NO
    assert support("DFT", Version(11, 2))[0] is Support.YES
    assert support("Frobnicate", Version(10, 3))[0] is Support.UNKNOWN
