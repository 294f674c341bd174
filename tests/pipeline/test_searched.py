"""How the models of a table that is given are run: as they were when it was measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hwnas.devices import RuntimeChoice, load_target, open_device
from hwnas.latency import save_table
from hwnas.pipeline.searched import _choice_of, open_latency
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parents[1] / "latency"))
from tables import made_table

CPU = load_target("host-cpu")


@pytest.mark.parametrize(
    ("changes", "choice"),
    [
        ({}, RuntimeChoice("onnxruntime", "CPUExecutionProvider", "fp32", 1)),
        (
            {"runtime": "torch", "mode": "cpucompile", "precision": "bf16", "threads": 2},
            RuntimeChoice("torch", "cpucompile", "bf16", 2),
        ),
        ({"runtime": "tensorrt", "mode": "gpu"}, RuntimeChoice()),
        ({"runtime": "torch", "mode": "cuda"}, RuntimeChoice()),
        ({"precision": "fp16"}, RuntimeChoice()),
    ],
)
def test_a_table_says_how_its_models_run_where_the_target_has_that(
    changes: dict[str, Any], choice: RuntimeChoice
) -> None:
    assert _choice_of(made_table().model_copy(update=changes), CPU) == choice


def test_a_table_of_another_runtime_than_the_targets_default_is_searched_under(tmp_path: Path) -> None:
    with open_device(CPU) as device:
        fingerprint = device.fingerprint(RuntimeChoice("torch").options(CPU))
        table = made_table().model_copy(update={"runtime": "torch", "fingerprint": fingerprint})
        path = save_table(table, tmp_path)
        found = open_latency(device, get_space(table.space), (), tmp_path, path)
        assert (found.options.runtime, found.options.provider) == ("torch", "cpu")
        assert not found.tables[0].stale
