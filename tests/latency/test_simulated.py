"""Profiling a simulated board, on which the true latency of everything is known, by the agent's own protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.devices import CompileOptions, Measurement, MeasureOptions, RefusedError
from hwnas.devices.simulated import SHARED, Conditions, CostModel, SimulatedBoard
from hwnas.devices.simulated.cost import fused
from hwnas.graphs import block_graph, network_graph, read_operators
from hwnas.latency import LatencyTable, ProfileOptions, fit_latency_model, profile
from hwnas.latency.difference import table_difference
from hwnas.spaces import get_space

SPACE = get_space("mobilenet_v3/small")
BOARD = 3
FEW = settings(max_examples=12, deadline=None, derandomize=True)  # figures of a random day are wrong now and then
SEEDS = st.integers(0, 2**32 - 1)
Profiled = Callable[[int], LatencyTable]


def network(seed: int) -> bytes:
    """A random network of the space."""
    genome = SPACE.sample(np.random.default_rng(seed), 1)
    return network_graph(SPACE.blocks(SPACE.decode(genome)[0])).SerializeToString()


def options(**changes: object) -> ProfileOptions:
    settings: dict[str, object] = {"calibration_networks": 100, "validation_networks": 40}
    return ProfileOptions(**(settings | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Profiled:
    """The table of one board on different days, each profiled once."""
    tables: dict[int, LatencyTable] = {}

    def on(day: int) -> LatencyTable:
        if day not in tables:
            board = SimulatedBoard(BOARD, day, SHARED)
            tables[day], _ = profile(board, SPACE, tmp_path_factory.mktemp("tables"), options(), clock=board.clock)
        return tables[day]

    return on


def errors_of_blocks(table: LatencyTable, board: SimulatedBoard) -> np.ndarray:
    """Relative, of the medians in the table."""
    true = [board.true_ms(block_graph(entry.block).SerializeToString()) for entry in table.blocks]
    return np.array([entry.median_ms for entry in table.blocks]) / np.array(true) - 1


def measured(board: SimulatedBoard, model: bytes, **knobs: object) -> Measurement:
    return board.measure(board.compile(model), MeasureOptions(**knobs))  # type: ignore[arg-type]


def test_the_posterior_recovers_the_true_latency_within_1_percent(profiled: Profiled) -> None:
    board = SimulatedBoard(BOARD)
    table = profiled(0)
    genomes = SPACE.sample(np.random.default_rng(5), 100)
    models = [network_graph(SPACE.blocks(each)).SerializeToString() for each in SPACE.decode(genomes)]
    true = np.array([board.true_ms(model) for model in models])
    mean, std = fit_latency_model(table, SPACE).predict(genomes)
    assert np.abs(mean / true - 1).mean() < 0.01
    assert 0.88 <= (np.abs(mean - true) <= 1.96 * std).mean() <= 1.0
    assert (std / mean).mean() < 0.01, "an interval that holds everything says nothing"
    figures = table.validation
    assert figures is not None and figures.n == 40
    assert figures.mape < 1.0 and figures.within_5pct == 1.0
    assert figures.baselines["block_sum"].mape > 10, "networks are not the sum of their blocks here"
    assert table.fast_states_ms["small"] == pytest.approx(board.true_fast_state_ms(), rel=0.005)


def test_blocks_are_recovered_although_the_machine_is_slow_a_third_of_the_time(profiled: Profiled) -> None:
    table = profiled(0)
    error = errors_of_blocks(table, SimulatedBoard(BOARD))
    assert len(error) == len(SPACE.distinct_blocks)
    assert np.median(np.abs(error)) < 0.005
    assert np.abs(error).max() < 0.02
    assert sum(entry.ungated_n for entry in table.blocks) > 1.3 * sum(entry.n for entry in table.blocks)


def test_two_profiles_of_one_board_agree(profiled: Profiled) -> None:
    found = table_difference(profiled(0), profiled(1))
    assert found.header == ()
    assert found.agrees(0.005)
    assert found.blocks.median is not None and found.blocks.median > 0, "they were measured on different days"


def test_outliers_are_marked_and_kept(profiled: Profiled) -> None:
    table = profiled(0)
    samples = sum(entry.n for entry in table.blocks)
    marked = sum(entry.outliers for entry in table.blocks)
    assert marked > SHARED.outlier_share * samples
    assert min(entry.n for entry in table.blocks) >= 64
    tails = [entry.p90_ms / entry.median_ms for entry in table.blocks if entry.p90_ms is not None]
    assert len(tails) == len(table.blocks) and np.median(tails) < 1.1


def test_without_the_protocol_the_figures_are_wrong_by_much(tmp_path: Path) -> None:
    few = {"resolutions": (24,), "calibration_networks": 4, "validation_networks": 2}
    knobs = MeasureOptions(max_seconds=1.0)
    wrong: dict[bool, np.ndarray] = {}
    for gate in (True, False):
        board = SimulatedBoard(BOARD, 0, SHARED)
        protocol = replace(knobs, gate=gate)
        chosen = options(**few, block_protocol=protocol, network_protocol=protocol)
        table, _ = profile(board, SPACE, tmp_path / str(gate), chosen, clock=board.clock)
        wrong[gate] = np.abs(errors_of_blocks(table, board))
    assert wrong[True].max() < 0.03 and np.mean(wrong[True]) < 0.01
    assert wrong[False].max() > 0.5 and np.mean(wrong[False]) > 0.05


@given(SEEDS, SEEDS, SEEDS)
@FEW
def test_any_network_on_any_board_on_any_day_is_measured_to_its_true_time(board: int, day: int, seed: int) -> None:
    conditions = replace(SHARED, build_spread=0.0)
    device = SimulatedBoard(board, day, conditions)
    device.learn_fast_state(2 * conditions.drift_period_s)  # as long as the whole drift takes to be seen
    model = network(seed)
    found = measured(device, model, max_seconds=8.0)
    assert found.complete
    assert found.gated.p50_ms == pytest.approx(device.true_ms(model), rel=0.015)


@given(SEEDS, SEEDS)
@FEW
def test_what_ran_throttled_is_rejected_and_redone(day: int, seed: int) -> None:
    """Throttling by little, which the gate tolerates: the sensors alone tell it from the fast state.

    Without noise the last run of each batch, whose caches are warm, takes the true time or was throttled.
    """
    board = SimulatedBoard(BOARD, day, Conditions(throttled_clock=0.9, cool_s=0.2, hot_s=0.2))
    model = network(seed)
    found = measured(board, model, max_seconds=30.0, min_seconds=0.5, correct_drift=False)
    assert found.complete and found.fast_state_ns is not None
    true_ns = round(1e6 * board.true_ms(model))
    tolerance = found.protocol.tolerance
    counted = [batch for batch in found.batches if batch.counts(found.fast_state_ns, tolerance)]
    throttled = [batch for batch in found.batches if batch.samples_ns[-1] > 1.001 * true_ns]
    assert all(batch.samples_ns[-1] <= 1.001 * true_ns for batch in counted)
    assert throttled and all(batch.clocks_moved for batch in throttled)
    deaf = [replace(batch, clocks_moved=False) for batch in throttled]
    assert any(batch.counts(found.fast_state_ns, tolerance) for batch in deaf), "canaries alone would let them pass"
    told = {reading.throttled for reading in found.clocks}
    assert told == {(), ("cooling device cpufreq-cpu0 at 1 of 4",)}


@given(SEEDS)
@FEW
def test_a_slow_state_is_kept_out_and_shown_beside(day: int) -> None:
    board = SimulatedBoard(BOARD, day, Conditions(slow_factor=1.8, fast_s=0.2, slow_s=0.2))
    model = network(1)
    found = measured(board, model, max_seconds=60.0, min_seconds=1.0)
    true = board.true_ms(model)
    assert found.complete
    # What is slow for less than a batch passes between two fast canaries.
    assert np.quantile(found.gated_samples_ns(), 0.98) < 1.2e6 * true
    assert found.gated.p50_ms == pytest.approx(true, rel=0.005)
    assert found.ungated.n > found.gated.n
    assert max(max(samples) for samples in found.samples_ns) > 1.75e6 * true


def test_a_lost_time_slice_is_kept_out() -> None:
    board = SimulatedBoard(BOARD, 0, Conditions(preemptions_per_s=20.0))
    found = measured(board, network(1), max_seconds=60.0, min_seconds=1.0)
    assert any(found.preempted)
    assert max(found.gated_samples_ns()) < 2e6 < 4e6 < max(max(samples) for samples in found.samples_ns)


@given(SEEDS, SEEDS)
@FEW
def test_an_undisturbed_board_gives_its_true_time_and_the_same_again(board: int, seed: int) -> None:
    model = network(seed)
    first, second = (measured(SimulatedBoard(board), model) for _ in range(2))
    assert first == second
    assert first.gated.p50_ms == pytest.approx(SimulatedBoard(board).true_ms(model), rel=0.005)
    assert not any(first.clocks_moved) and not any(first.preempted)


@given(SEEDS, SEEDS)
@FEW
def test_boards_differ_and_a_lower_clock_slows_arithmetic_alone_down(board: int, seed: int) -> None:
    model, costs = network(seed), CostModel(board)
    full, throttled = costs.seconds(model), costs.seconds(model, 0.8)
    assert full < throttled < full / 0.8
    assert 1e3 * full == 1e3 * CostModel(board).seconds(model) == SimulatedBoard(board).true_ms(model)
    assert full != CostModel(board + 1).seconds(model)


def test_what_joins_its_neighbour_costs_no_launch() -> None:
    """Activations and small residual sums are part of a convolution; a large sum is a kernel of its own."""
    kernels = {}
    for block in SPACE.distinct_blocks:
        if block.skip and not block.se and block.expands:
            size = block.out_channels * block.out_height * block.out_width
            kernels[size] = len(fused(read_operators(block_graph(block).SerializeToString())))
    assert set(kernels.values()) == {3, 4}
    assert [kernels[size] for size in sorted(kernels)] == sorted(kernels.values())


def test_builds_of_one_model_differ_by_the_spread_of_builds() -> None:
    spread = 0.02
    board = SimulatedBoard(BOARD, 0, Conditions(build_spread=spread))
    medians = [measured(board, network(2), min_samples=8).gated.p50_ms for _ in range(60)]
    assert np.std(np.log(np.array(medians, np.float64))) == pytest.approx(spread, rel=0.3)


def test_frames_that_arrive_at_a_rate_find_cold_caches() -> None:
    model = network(3)
    found = measured(SimulatedBoard(BOARD), model, fps=30.0, max_seconds=10.0)
    assert found.complete
    assert found.gated.p50_ms is not None and found.gated.p50_ms > 1.05 * SimulatedBoard(BOARD).true_ms(model)


def test_what_a_board_cannot_do_is_refused() -> None:
    board = SimulatedBoard()
    with pytest.raises(RefusedError, match="no ONNX model"):
        board.compile(b"nothing")
    for ask in (
        lambda: board.compile(network(0), CompileOptions(precision="int8")),
        lambda: board.fingerprint(CompileOptions("tensorrt")),
    ):
        with pytest.raises(RefusedError, match="the simulated board runs"):
            ask()
    engine = board.compile(network(0), CompileOptions("simulated", provider="cpu", timeout_s=3.0))
    board.release(engine)
    with pytest.raises(RefusedError, match="was released"):
        board.measure(engine)
