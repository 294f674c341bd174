"""Engines side by side: ratios, roofs, work, and a whole comparison on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hwnas.devices import Device, MeasureOptions, load_target, open_device, scenario_knobs
from hwnas.errors import UserError
from hwnas.export import (
    CompareOptions,
    Comparison,
    Contender,
    Ratio,
    Roofline,
    Roofs,
    Work,
    compare,
    measure_roofs,
    work_of,
)
from hwnas.graphs import network_graph, quantized_graph
from hwnas.spaces import get_space

ROOFS = Roofs(precision="fp32", operations_per_s=1e11, product="Gemm", bytes_per_s=2e10, copy_mib=64.0)


@pytest.fixture(scope="module")
def device() -> Any:
    with open_device(load_target("host-cpu")) as found:
        yield found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    space = get_space("mobilenet_v3/small", 10)
    paths = []
    for name, architecture in (("smallest", space.smallest), ("largest", space.largest)):
        path = tmp_path_factory.mktemp("compared") / f"{name}.onnx"
        path.write_bytes(network_graph(space.blocks(architecture)).SerializeToString())
        paths.append(path)
    return paths


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40))
def test_an_interval_holds_the_median_and_needs_six_rounds(ratios: list[float]) -> None:
    found = Ratio.of(ratios)
    assert (found.interval is None) == (len(ratios) < 6)
    if found.interval is not None:
        assert found.interval[0] <= found.median <= found.interval[1]
    assert found.by_round == tuple(ratios)


def test_the_interval_of_nine_rounds_leaves_out_the_ends() -> None:
    # 2 P[Binomial(9, 1/2) <= 1] = 3.9 %.
    assert Ratio.of([float(k) for k in range(1, 10)]).interval == (2.0, 8.0)


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        interval = Ratio.of(list(rng.exponential(1.0, 9))).interval
        assert interval is not None
        hits += interval[0] <= np.log(2) <= interval[1]
    assert hits >= 0.93 * 400


def test_work_is_counted_by_hand() -> None:
    weight = numpy_helper.from_array(np.ones((8, 4, 1, 1), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 5, 5])],
        [weight],
    )
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    work = work_of(content, "fp32")
    assert work.operations == 2 * 8 * 4 * 25
    assert work.bytes == 4 * (4 * 25 + 8 * 4 + 8 * 25 + 2 * 8 * 25)
    assert work_of(content, "int8").bytes == work.bytes / 4
    with pytest.raises(ValueError, match="no ONNX model"):
        work_of(b"none", "fp32")


def test_quantisers_are_no_work_of_the_model() -> None:
    space = get_space("mobilenet_v3/small", 10)
    plain = network_graph(space.blocks(space.smallest))
    quantised = quantized_graph(plain, remainder="fp32")
    assert (
        work_of(quantised.SerializeToString(), "int8").operations
        == work_of(plain.SerializeToString(), "fp32").operations
    )


def test_a_model_of_little_intensity_is_bound_by_memory() -> None:
    light = Roofline.of(Work(operations=10**6, bytes=10**6), ROOFS, seconds=1e-4)
    assert (light.attainable, light.bound_by) == (2e10, "memory")
    assert light.operations_per_s == 1e10 and light.share == 0.5
    heavy = Roofline.of(Work(operations=10**9, bytes=10**6), ROOFS, seconds=0.02)
    assert (heavy.attainable, heavy.bound_by, heavy.share) == (1e11, "arithmetic", 0.5)
    blind = Roofline.of(heavy.work, ROOFS.model_copy(update={"bytes_per_s": None}), seconds=0.02)
    assert (blind.attainable, blind.share, blind.bound_by) == (None, None, None)


@pytest.mark.alone
def test_engines_are_compared_in_one_sitting(device: Device, models: list[Path]) -> None:
    usual = device.default_options()
    contenders = [Contender(path.stem, path, usual) for path in models]
    turn = MeasureOptions(min_samples=24, max_seconds=0.4)
    knobs = scenario_knobs("offline", min_seconds=0.2)
    found = compare(device, contenders, CompareOptions(rounds=6, measure=turn, scenario=knobs))
    small, large = found.engines
    assert (small.name, large.name) == ("smallest", "largest")
    assert small.ratio.median == 1.0
    assert large.ratio.median > 2, "the largest subnet has twenty times the operations"
    assert len(large.ratio.by_round) == 6 or large.ratio_gated
    assert len(large.measurements) == 6
    for engine in found.engines:
        assert engine.ungated.n > 0
        assert engine.roofline is not None and engine.roofline.attainable is not None
        assert engine.roofline.operations_per_s < found.roofs[0].operations_per_s  # type: ignore[operator]
        assert engine.scenario is not None and engine.scenario.load.samples_per_s > 0
    assert found.roofs[0].reason is None
    assert Comparison.model_validate_json(found.model_dump_json(by_alias=True)) == found


def test_what_the_runtime_refuses_is_no_roof_but_a_reason(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwnas.devices import RefusedError

    def refuse(*_: Any, **__: Any) -> Any:
        raise RefusedError("model-refused", "target 'host-cpu', compiling a model: no.")

    monkeypatch.setattr(device, "compile", refuse)
    roofs = measure_roofs(device, device.default_options())
    assert (roofs.operations_per_s, roofs.bytes_per_s) == (None, None)
    assert roofs.reason is not None and roofs.reason.endswith("no.")


@pytest.mark.parametrize(
    ("names", "rounds", "words"),
    [([], 3, "nothing to compare"), (["a", "a"], 3, "Two engines are called 'a'"), (["a"], 0, "at least one round")],
)
def test_what_cannot_be_compared_is_refused(
    device: Device, models: list[Path], names: list[str], rounds: int, words: str
) -> None:
    contenders = [Contender(name, models[0], device.default_options()) for name in names]
    with pytest.raises(UserError, match=words):
        compare(device, contenders, CompareOptions(rounds=rounds))
