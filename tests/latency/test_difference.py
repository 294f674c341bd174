"""Comparing tables: what agrees, what drifted, what is in one of them alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import UserError
from hwnas.latency import LatencyTable
from hwnas.latency.difference import table_difference
from hwnas.latency.table import Timing

sys.path.insert(0, str(Path(__file__).parent))
from tables import made_table

TABLE = made_table()
KNOBS = {"gate": True, "correct_drift": True, "canary": "small"}
PROTOCOL = {"blocks": KNOBS, "networks": KNOBS}


def slower(table: LatencyTable, factor: float, noise: float = 0.0, **changes: object) -> LatencyTable:
    """The same table with every time multiplied."""
    rng = np.random.default_rng(0)

    def times(entry: Timing) -> dict[str, object]:
        by = factor * float(np.exp(noise * rng.standard_normal()))
        return {
            "median_ms": by * entry.median_ms,
            "p90_ms": by * entry.median_ms * 1.1,
            "build_medians_ms": tuple(by * ms for ms in entry.build_medians_ms),
        }

    entries = {"blocks": table.blocks, "networks": table.networks}
    scaled = {name: tuple(e.model_copy(update=times(e)) for e in them) for name, them in entries.items()}
    return table.model_copy(update={**scaled, **changes})


def test_a_table_agrees_with_itself_exactly() -> None:
    found = table_difference(TABLE, TABLE)
    assert found.agrees(0.0)
    assert found.header == ()
    assert len(found.blocks.common) == len(TABLE.blocks) and len(found.networks.common) == len(TABLE.networks)
    assert found.blocks.median == found.blocks.p95 == found.blocks.drift == found.blocks.shift == 0.0


@given(drift=st.floats(-0.3, 0.5), change=st.floats(-0.2, 0.2))
def test_drift_of_the_fast_state_is_divided_out_and_nothing_else_is(drift: float, change: float) -> None:
    first = made_table(networks=4, validation=2).model_copy(update={"protocol": PROTOCOL})
    state = first.fast_states_ms["small"] * (1 + drift)
    second = slower(first, (1 + drift) * (1 + change), fast_states_ms={"small": state})
    found = table_difference(first, second)
    for kind in (found.blocks, found.networks):
        assert kind.drift == pytest.approx(drift, abs=1e-9)
        assert kind.shift == pytest.approx(change, abs=1e-9)
        assert kind.median == pytest.approx(abs(change), abs=1e-9)
    assert found.agrees(abs(change) + 1e-6)
    assert not found.agrees(abs(change) - 1e-6)


@pytest.mark.parametrize(
    "other",
    [
        {"fingerprint": made_table(cpu="another").fingerprint},
        {"fast_states_ms": {}},
        {"protocol": {"blocks": KNOBS | {"canary": "large"}, "networks": KNOBS | {"gate": False}}},
    ],
)
def test_without_a_common_fast_state_of_one_device_times_are_compared_as_they_are(other: dict[str, object]) -> None:
    first = TABLE.model_copy(update={"protocol": PROTOCOL})
    second = slower(first, 1.1, **({"fast_states_ms": {"small": 0.11, "large": 1.0}} | other))
    found = table_difference(first, second)
    assert found.blocks.drift is None and found.networks.drift is None
    assert found.blocks.shift == pytest.approx(0.1)
    assert not found.agrees(0.005)


def test_the_median_network_must_agree_too() -> None:
    apart = slower(TABLE, 1.02).networks
    found = table_difference(TABLE, TABLE.model_copy(update={"networks": apart}))
    assert found.blocks.median == 0.0
    assert found.networks.median == pytest.approx(0.02)
    assert not found.agrees(0.005) and found.agrees(0.021)


def test_quantiles_and_the_largest_difference_are_of_the_common_entries() -> None:
    noisy = slower(TABLE, 1.0, noise=0.01)
    found = table_difference(TABLE, noisy).blocks
    absolute = sorted(abs(entry.relative) for entry in found.common)
    assert found.median == pytest.approx(np.median(absolute))
    assert found.p95 in absolute
    assert np.mean(np.array(absolute) <= found.p95) == pytest.approx(0.95, abs=0.01)
    assert abs(found.common[0].relative) == absolute[-1]


def test_how_alike_two_tables_rank_does_not_depend_on_how_fast_their_devices_are() -> None:
    found = table_difference(TABLE, slower(TABLE, 3.0))
    assert found.networks.kendall_tau == pytest.approx(1.0, abs=1e-3) == found.blocks.kendall_tau
    rank = sorted(TABLE.networks, key=lambda entry: entry.median_ms)
    times = {entry.architecture.id: other.median_ms for entry, other in zip(rank, reversed(rank), strict=True)}
    turned = [entry.model_copy(update={"median_ms": times[entry.architecture.id]}) for entry in TABLE.networks]
    assert table_difference(TABLE, TABLE.model_copy(update={"networks": tuple(turned)})).networks.kendall_tau == -1.0
    alone = TABLE.model_copy(update={"networks": TABLE.networks[:1]})
    assert table_difference(TABLE, alone).networks.kendall_tau is None


def test_entries_of_one_table_alone_are_named() -> None:
    fewer = TABLE.model_copy(update={"blocks": TABLE.blocks[3:], "networks": TABLE.networks[:-2]})
    found = table_difference(TABLE, fewer)
    assert set(found.blocks.only_first) == {entry.block.key for entry in TABLE.blocks[:3]}
    assert set(found.networks.only_first) == {entry.architecture.id for entry in TABLE.networks[-2:]}
    assert found.blocks.only_second == found.networks.only_second == ()
    assert table_difference(fewer, TABLE).blocks.only_second == found.blocks.only_first


def test_how_they_were_measured_is_compared() -> None:
    fps = {"blocks": KNOBS, "networks": KNOBS | {"fps": 30.0}}
    other = made_table(cpu="another").model_copy(
        update={"precision": "fp16", "arrival": "30 fps", "target": "board", "protocol": fps}
    )
    found = table_difference(TABLE.model_copy(update={"protocol": PROTOCOL}), other)
    assert found.header == (
        "target: host-cpu → board",
        "precision: fp32 → fp16",
        "arrival: back-to-back → 30 fps",
        "device: cpu: made → another",
        "protocol of networks: fps: not stated → 30.0",
    )


def test_what_cannot_be_compared_is_refused() -> None:
    other = TABLE.model_copy(update={"num_classes": 100})
    with pytest.raises(UserError, match=r"small with 10 classes, the other of mobilenet_v3/small with 100"):
        table_difference(TABLE, other)
    first = TABLE.model_copy(update={"networks": (), "blocks": TABLE.blocks[:5]})
    second = TABLE.model_copy(update={"networks": (), "blocks": TABLE.blocks[5:]})
    with pytest.raises(UserError, match="no block and no network in common"):
        table_difference(first, second)
