from __future__ import annotations

import json
from typing import Any

import pytest

from hwnas.agent.options import BuildOptions, ExecutionOptions
from hwnas.deploy.preflight import compile_options
from hwnas.devices import CompileOptions
from hwnas.errors import UserError

BUILD = BuildOptions(
    workspace_mib=64, compute_capabilities=("8.6",), batch_range=(1, 2, 4), tensor_scales=(("x", 0.5),)
)


@pytest.mark.parametrize(
    "options",
    [
        CompileOptions(),
        CompileOptions("tensorrt", "int8", 2, "dla", 100.0, BUILD, ExecutionOptions(cuda_graph=True)),
    ],
)
def test_a_board_is_asked_about_what_the_bundle_was_made_for(options: CompileOptions) -> None:
    signed = json.loads(json.dumps(options.as_request()))
    read = compile_options(signed)
    assert read.as_request() == options.as_request()
    assert hash(read) == hash(compile_options(signed))


@pytest.mark.parametrize(
    ("runtime", "field"),
    [
        ({"threads": "2"}, "threads"),
        ({"runtime": 1}, "runtime"),
        ({"build": {"batch_range": [1]}}, "batch_range"),
        ({"build": {"tensor_scales": [1]}}, "tensor_scales"),
        ({"execution": {"cuda_graph": 1}}, "cuda_graph"),
    ],
)
def test_a_runtime_that_no_board_reads_is_refused_with_the_field(runtime: dict[str, Any], field: str) -> None:
    with pytest.raises(UserError, match=field):
        compile_options(runtime)
