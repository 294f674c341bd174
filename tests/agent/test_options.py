"""How an engine is built and executed, as it travels from the host to the ledger."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent.options import HARDWARE_COMPATIBILITY, BuildOptions, ExecutionOptions, changed
from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import RuntimeOptions
from hwnas.devices import CompileOptions

mib = st.none() | st.integers(1, 10**6)
builds = st.builds(
    BuildOptions,
    workspace_mib=mib,
    version_compatible=st.booleans(),
    hardware_compatibility=st.sampled_from(HARDWARE_COMPATIBILITY),
    dla_core=st.none() | st.integers(0, 3),
    compute_capabilities=st.lists(st.sampled_from(["7.5", "8.6", "12.0"]), max_size=3).map(tuple),
    batch_range=st.none() | st.lists(st.integers(1, 64), min_size=3, max_size=3).map(sorted).map(tuple),
    tensor_scales=st.lists(st.tuples(st.text(max_size=5), st.floats(1e-6, 1e3)), max_size=3).map(tuple),
    profiling=st.booleans(),
    timeout_s=st.none() | st.floats(0, 1e6),
    memory_mib=mib,
)
executions = st.builds(ExecutionOptions, st.booleans(), st.booleans(), st.booleans())


@given(builds, executions, st.sampled_from(["fp32", "int8"]), st.integers(1, 64))
def test_options_come_back_from_the_ledger_as_they_were(
    build: BuildOptions, execution: ExecutionOptions, precision: str, threads: int
) -> None:
    options = RuntimeOptions("gpu", precision, threads, build, execution)
    assert RuntimeOptions.from_message(json.loads(json.dumps(options.as_record()))) == options


@given(builds, executions)
def test_only_what_is_not_as_by_default_travels_and_arrives(build: BuildOptions, execution: ExecutionOptions) -> None:
    sent = json.loads(json.dumps({"build": changed(build), "execution": changed(execution)}))
    assert BuildOptions.from_message(sent["build"]) == build
    assert ExecutionOptions.from_message(sent["execution"]) == execution
    assert changed(BuildOptions()) == changed(ExecutionOptions()) == {}


@given(builds, st.floats(1, 1e5))
def test_a_build_ends_before_the_host_gives_up(build: BuildOptions, timeout_s: float) -> None:
    request = CompileOptions("tensorrt", timeout_s=timeout_s, build=build).as_request()
    assert request["build"]["timeout_s"] < timeout_s
    if build.timeout_s is not None:
        assert request["build"]["timeout_s"] <= build.timeout_s


def test_an_older_ledger_without_these_options_is_read() -> None:
    older = {"provider": "CPUExecutionProvider", "precision": "fp32", "threads": 1}
    assert RuntimeOptions.from_message(older) == RuntimeOptions("CPUExecutionProvider")
    assert asdict(RuntimeOptions("CPUExecutionProvider")).keys() == {*older, "build", "execution"}


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        ({"workspace_mib": 0}, "'workspace_mib' must be a whole number of at least 1, found 0"),
        ({"workspace_mib": "1G"}, "'workspace_mib'"),
        ({"version_compatible": 1}, "'version_compatible' must be true or false"),
        ({"hardware_compatibility": "all"}, "must be one of none, ampere-plus, same-compute-capability, found 'all'"),
        ({"dla_core": -1}, "'dla_core'"),
        ({"compute_capabilities": "8.6"}, "'compute_capabilities' must be a list"),
        ({"compute_capabilities": ["8"]}, "a list such as"),
        ({"compute_capabilities": [8.6]}, "a list such as"),
        ({"batch_range": [1, 2]}, "three whole numbers"),
        ({"batch_range": [4, 2, 8]}, "three whole numbers"),
        ({"batch_range": [True, 2, 8]}, "three whole numbers"),
        ({"batch_range": [0, 2, 8]}, "three whole numbers"),
        ({"tensor_scales": [["x"]]}, "pairs of a tensor's name and its scale"),
        ({"tensor_scales": [["x", 0]]}, "positive for 'x', found 0"),
        ({"tensor_scales": [["x", True]]}, "positive for 'x'"),
        ({"timeout_s": -1}, "'timeout_s'"),
        ({"memory_mib": 0.5}, "'memory_mib'"),
    ],
)
def test_a_wrong_option_is_named(build: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AgentError, match=sentence) as refused:
        RuntimeOptions.from_message({"provider": "gpu", "build": build})
    assert refused.value.kind == ErrorKind.BAD_REQUEST


def test_a_wrong_way_to_execute_is_named() -> None:
    with pytest.raises(AgentError, match="'cuda_graph' must be true or false"):
        RuntimeOptions.from_message({"provider": "gpu", "execution": {"cuda_graph": "yes"}})
