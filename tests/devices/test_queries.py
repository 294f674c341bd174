"""The figures of a measurement like trtexec's."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.agent import arrays
from hwnas.agent.queries import Trace
from hwnas.agent.trtexec import TrtexecKnobs
from hwnas.devices import RefusedError, load_target, open_device
from hwnas.devices.queries import HOST_CLOCK, QueryMeasurement, patience_s
from hwnas.errors import UserError
from hwnas.graphs import network_graph
from hwnas.spaces import get_space

_GPU = "CUDA events (cuda-python)"


def measurement(rows: list[Trace], clock: str = _GPU, like: str = "trtexec-10", **knobs: Any) -> QueryMeasurement:
    """What an agent would have answered."""
    reply = {
        "knobs": json.loads(json.dumps(TrtexecKnobs.like(like, knobs).as_record())),
        "clock": clock,
        "depth": 2,
        "warmup_queries": 3,
        "traces_ns": arrays.pack(np.array(rows, np.int64)),
    }
    return QueryMeasurement.of(like, reply)


def query(begin: int, h2d: int = 100_000, compute: int = 2_000_000, d2h: int = 50_000, enqueue: int = 10_000) -> Trace:
    start = begin + h2d
    end = start + compute
    return Trace(begin, begin + enqueue, begin, start, start, end, end, end + d2h)


def test_latency_is_the_sum_of_its_parts_and_throughput_is_over_the_whole_time() -> None:
    found = measurement([query(0), query(2_000_000, compute=4_000_000)])
    assert (found.latency.min, found.latency.max) == pytest.approx((2.15, 4.15))
    assert (found.compute.mean, found.compute.median) == pytest.approx((3.0, 3.0))
    assert (found.h2d.max, found.d2h.max, found.enqueue.max) == pytest.approx((0.1, 0.05, 0.01))
    assert found.host_walltime_s == pytest.approx(6.15e-3)
    assert found.throughput_qps == pytest.approx(2 / 6.15e-3)
    assert found.total_compute_s == pytest.approx(6e-3)
    assert found.compute.percentiles.keys() == {"90", "95", "99"}


@given(times=st.lists(st.integers(1, 10**9), min_size=1, max_size=50), runs=st.integers(1, 20))
def test_figures_keep_their_order_and_averages_are_of_whole_groups(times: list[int], runs: int) -> None:
    found = measurement([query(0, compute=time) for time in times], avgRuns=runs, percentile=[0, 50, 90, 100])
    compute = found.compute
    assert compute.min <= compute.percentiles["50"] <= compute.percentiles["90"] <= compute.max
    assert compute.percentiles["100"] == compute.max
    assert compute.min <= compute.mean * (1 + 1e-12) and compute.mean <= compute.max * (1 + 1e-12)
    assert len(found.averages_ms) == len(times) // runs


@pytest.mark.parametrize(
    ("rows", "knobs", "words"),
    [
        ([query(0, enqueue=1_900_000)], {}, "Enqueue Time"),
        ([query(0, h2d=3_000_000)], {}, "transfers of the inputs"),
        ([query(0, d2h=3_000_000)], {}, "transfers of the outputs"),
        ([query(0), query(9, compute=9_000_000)], {}, "unstable"),
        ([query(0)], {"infStreams": 2}, "Streams share"),
    ],
)
def test_what_bounds_a_figure_is_said(rows: list[Trace], knobs: dict[str, Any], words: str) -> None:
    assert any(words in warning for warning in measurement(rows, **knobs).warnings())


def test_a_steady_gpu_gets_no_warning_and_a_host_none_about_enqueueing() -> None:
    assert measurement([query(0), query(5_000_000)]).warnings() == []
    assert measurement([query(0, enqueue=2_000_000)] * 2, clock=HOST_CLOCK).warnings() == []


def test_records_are_json_with_every_knob_and_exported_times_have_trtexecs_names() -> None:
    found = measurement([query(1_000_000)])
    record = json.loads(json.dumps(found.as_record(), allow_nan=False))
    assert record["knobs"] == json.loads(json.dumps(TrtexecKnobs().as_record()))
    assert record["latency_ms"]["percentiles"]["99"] == pytest.approx(2.15)
    (exported,) = found.trace_records()
    assert exported == pytest.approx(
        {
            "startEnqMs": 1.0,
            "endEnqMs": 1.01,
            "startH2dMs": 1.0,
            "endH2dMs": 1.1,
            "startComputeMs": 1.1,
            "endComputeMs": 3.1,
            "startD2hMs": 3.1,
            "endD2hMs": 3.15,
            "h2dMs": 0.1,
            "computeMs": 2.0,
            "d2hMs": 0.05,
            "latencyMs": 2.15,
        }
    )


def test_a_host_waits_long_after_the_end() -> None:
    assert patience_s(TrtexecKnobs(duration=600)) > 1800


def test_a_device_measures_and_refuses() -> None:
    space = get_space("mobilenet_v3/small", 10)
    onnx = network_graph(space.blocks(space.smallest)).SerializeToString()
    with open_device(load_target("host-cpu")) as device:
        engine = device.compile(onnx)
        knobs = {"duration": 0.0, "warmUp": 1.0, "iterations": 12, "percentile": [50]}
        found = device.measure_like_trtexec(engine, "trtexec-11", knobs)
        assert (found.clock, found.depth, found.knobs.useCudaGraph) == (HOST_CLOCK, 1, False)
        assert found.queries >= 12 and found.latency.min > 0 and found.h2d.max == 0
        assert len(device.time_loading(engine)) == 21
        with pytest.raises(UserError, match="knob useSpinWait has no object here"):
            device.measure_like_trtexec(engine, "trtexec-11", {"useSpinWait": True})
        with pytest.raises(UserError, match="knob 'nothing' is not known"):
            device.measure_like_trtexec(engine, "trtexec-10", {"nothing": 1})
        device.release(engine)
        with pytest.raises(RefusedError, match="was not built here"):
            device.measure_like_trtexec(engine, "trtexec-10", knobs)
