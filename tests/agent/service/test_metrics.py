"""The exposition, as Prometheus' own parser reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hwnas.agent.service.metrics import BUCKETS_S, Metric, Metrics, Sample


def parsed(text: str) -> dict[str, Any]:
    """Families by name."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(family: Any) -> dict[tuple[str, ...], float]:
    return {(sample.name, *sample.labels.values()): sample.value for sample in family.samples}


@given(st.lists(st.tuples(st.sampled_from([200, 400, 413, 500, 503]), st.floats(0, 10))))
def test_every_request_is_counted_once(answers: list[tuple[int, float]]) -> None:
    metrics = Metrics()
    for status, seconds in answers:
        metrics.answered(status, seconds)
    families = parsed(metrics.render([]))
    met = [seconds for status, seconds in answers if status == 200]
    assert sum(sample.value for sample in families["hwnas_requests"].samples) == len(answers)
    assert families["hwnas_failures"].samples[0].value == sum(status >= 500 for status, _ in answers)
    histogram = values(families["hwnas_request_seconds"])
    for bound in BUCKETS_S:
        at_most = sum(seconds <= bound for seconds in met)
        assert histogram["hwnas_request_seconds_bucket", repr(bound)] == at_most
    assert histogram["hwnas_request_seconds_bucket", "+Inf"] == len(met)
    assert histogram["hwnas_request_seconds_count",] == len(met)
    assert histogram["hwnas_request_seconds_sum",] == pytest.approx(sum(met))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_labels_come_through(value: str) -> None:
    text = Metrics().render([Metric("hwnas_odd", "gauge", "Odd.", [Sample(1.5, {"name": value})])])
    sample = parsed(text)["hwnas_odd"].samples[0]
    assert (sample.labels, sample.value) == ({"name": value}, 1.5)


def test_kinds_are_declared() -> None:
    metrics = Metrics()
    metrics.switched("slot")
    metrics.refused_slot()
    families = parsed(metrics.render([]))
    assert {name: family.type for name, family in families.items()} == {
        "hwnas_requests": "counter",
        "hwnas_failures": "counter",
        "hwnas_request_seconds": "histogram",
        "hwnas_switches": "counter",
        "hwnas_refused_slots": "counter",
    }
    assert values(families["hwnas_switches"])["hwnas_switches_total", "slot"] == 1
    assert values(families["hwnas_refused_slots"])["hwnas_refused_slots_total",] == 1


def test_the_p99_is_of_the_last_requests_and_not_stated_of_few() -> None:
    metrics = Metrics()
    for _ in range(661):
        metrics.answered(200, 9.0)
    assert metrics.p99_ms() is None
    for number in range(1000):
        metrics.answered(200, number / 1e3)
    assert metrics.p99_ms() == pytest.approx(989)


def test_what_was_answered_lately_is_told_of_that_time_alone() -> None:
    clock = [0.0]
    metrics = Metrics(lambda: clock[0])
    for _ in range(700):
        metrics.answered(200, 9.0)
    clock[0] = 100.0
    assert metrics.lately(10) == {"seconds": 10, "requests": 0, "p99_ms": None, "slowest_ms": None}
    metrics.answered(200, 0.25)
    metrics.answered(503, 4.0)
    assert metrics.lately(10) == {"seconds": 10, "requests": 1, "p99_ms": None, "slowest_ms": 250}
    assert metrics.lately(200)["p99_ms"] == 9000
