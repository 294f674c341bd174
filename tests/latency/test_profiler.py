"""Profiling a fake device: what is measured, resumed, refused, and how well the fitted model recovers its costs."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hwnas.devices import Engine, Fingerprint, Measurement, MeasureOptions
from hwnas.errors import BadFileError, DeviceError, UserError
from hwnas.graphs import block_graph, network_graph
from hwnas.latency import LatencyTable, ProfileOptions, fit_latency_model, journal_path, load_table, profile
from hwnas.latency.plan import blocks_at
from hwnas.latency.sitting import LEARNING_S
from hwnas.spaces import get_space
from tests.forked import begun, finished

sys.path.insert(0, str(Path(__file__).parent))
import fake_device
from fake_device import FakeDevice, true_time_ns

SPACE = get_space("mobilenet_v3/small")
QUICK = MeasureOptions(max_seconds=1.0, min_samples=16)


def options(**changes: object) -> ProfileOptions:
    settings: dict[str, object] = {"resolutions": (24,), "calibration_networks": 6, "validation_networks": 4}
    settings |= {"builds": 1, "block_protocol": QUICK, "network_protocol": QUICK}
    return ProfileOptions(**(settings | changes))  # type: ignore[arg-type]


def run(device: FakeDevice, root: Path, **changes: object) -> tuple[LatencyTable, Path]:
    return profile(device, SPACE, root, options(**changes), clock=device.clock)


def true_ms(genome: np.ndarray) -> float:
    blocks = SPACE.blocks(SPACE.decode(genome)[0])
    return true_time_ns(network_graph(blocks).SerializeToString()) / 1e6


@pytest.fixture(scope="module")
def all_resolutions(tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    device = FakeDevice(noise=0.01, slow_share=0.5)
    root = tmp_path_factory.mktemp("tables")
    return run(device, root, resolutions=None, calibration_networks=30, validation_networks=40)[0]


def test_every_distinct_block_is_measured_to_its_true_time(all_resolutions: LatencyTable) -> None:
    assert {entry.block for entry in all_resolutions.blocks} == set(SPACE.distinct_blocks)
    for entry in all_resolutions.blocks[::20]:
        true = true_time_ns(block_graph(entry.block).SerializeToString()) / 1e6
        assert entry.median_ms == pytest.approx(true, rel=0.03)
    # The machine was slow half of the time, which the gate keeps out of the figures.
    assert sum(entry.ungated_n for entry in all_resolutions.blocks) > 1.5 * sum(
        entry.n for entry in all_resolutions.blocks
    )


def test_the_model_recovers_a_device_whose_networks_are_not_the_sum_of_their_blocks(
    all_resolutions: LatencyTable,
) -> None:
    model = fit_latency_model(all_resolutions, SPACE)
    genomes = SPACE.sample(np.random.default_rng(5), 40)
    true = np.array([true_ms(genomes[i : i + 1]) for i in range(len(genomes))])
    mean, std = model.predict(genomes)
    assert np.abs(mean / true - 1).mean() < 0.01
    assert (np.abs(mean - true) < 3 * std).mean() > 0.9
    figures = all_resolutions.validation
    assert figures is not None and figures.n == 40
    assert figures.mape < 1.0 and figures.within_10pct == 1.0 and figures.kendall_tau is not None
    assert figures.kendall_tau > 0.97
    assert figures.baselines["block_sum"].mape > 2 * figures.mape
    assert figures.baselines["macs"].mape > 2 * figures.mape


def test_blocks_of_resolutions_that_were_not_profiled_are_interpolated_and_marked(tmp_path: Path) -> None:
    table, _ = run(FakeDevice(), tmp_path, resolutions=(24, 44, 64), calibration_networks=20, validation_networks=40)
    assert {entry.block for entry in table.blocks} == set(blocks_at(SPACE, (24, 44, 64)))
    model = fit_latency_model(table, SPACE)
    genomes = SPACE.sample(np.random.default_rng(1), 200)
    measured = np.isin(np.array(SPACE.resolutions)[genomes[:, SPACE.position("resolution")]], (24, 44, 64))
    assert not model.interpolated(genomes)[measured].any()
    assert model.interpolated(genomes)[~measured].all()
    assert table.validation is not None and table.validation.interpolated is not None
    assert table.validation.interpolated.mape < 3.0
    attribution = model.blocks_ms(SPACE.architecture(resolution=48))
    assert {cost.estimated for cost in attribution.blocks} == {True, False} or all(
        cost.estimated for cost in attribution.blocks
    )


def test_a_profile_killed_at_any_moment_loses_nothing_and_measures_nothing_twice(tmp_path: Path) -> None:
    def lines(journal: Path) -> int:
        return journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0

    finished(fake_device.main, tmp_path / "whole", tmp_path / "whole.log")
    whole = next((tmp_path / "whole").rglob("*t1-????????.json"))
    units = lines(journal_path(whole))

    broken = tmp_path / "broken" / whole.relative_to(tmp_path / "whole")
    places = (tmp_path / "broken", tmp_path / "broken.log")
    rng = random.Random(0)
    for moment in sorted(rng.sample(range(1, units), 3)):
        # It cannot end before it is killed, however late that is.
        child = begun(fake_device.main, *places, journal=journal_path(broken), stuck_after=moment + 1)
        while lines(journal_path(broken)) < moment:
            assert child.is_alive()
            time.sleep(0.002)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert not broken.exists()
    finished(fake_device.main, *places)

    assert lines(journal_path(broken)) == units
    measured = Counter((tmp_path / "broken.log").read_text().split())
    once = Counter((tmp_path / "whole.log").read_text().split())
    assert measured >= once and sum((measured - once).values()) <= 3  # those in flight
    first, second = load_table(whole), load_table(broken)
    assert first.blocks == second.blocks and first.networks == second.networks
    assert first.validation == second.validation


def test_a_finished_profile_is_not_measured_again_and_grows_when_asked(tmp_path: Path) -> None:
    table, path = run(FakeDevice(), tmp_path)
    again = FakeDevice()
    assert run(again, tmp_path)[0] == table
    assert again.measured == []
    more = FakeDevice()
    grown, same_path = run(more, tmp_path, validation_networks=7)
    assert same_path == path
    assert len(more.measured) == 3
    assert {entry.architecture for entry in table.networks} < {entry.architecture for entry in grown.networks}
    afresh = FakeDevice()
    run(afresh, tmp_path, fresh=True)
    assert len(afresh.measured) == len(table.blocks) + 10


def test_a_bounded_profile_stops_in_time_says_what_is_missing_and_is_continued(tmp_path: Path) -> None:
    device = FakeDevice()
    table, _ = run(device, tmp_path, minutes=0.012)
    assert device.now_s <= 60 * 0.012 + 1
    assert table.missing.blocks > 0 and table.blocks
    assert table.missing.blocks + len(table.blocks) == len(blocks_at(SPACE, (24,)))
    mean, std = fit_latency_model(table, SPACE).predict(SPACE.sample(np.random.default_rng(0), 100))
    assert (mean > 0).all() and (std > 0).all()
    complete, _ = run(FakeDevice(), tmp_path)
    assert complete.missing.blocks == 0
    assert complete.profile_seconds > table.profile_seconds


def test_batches_are_judged_again_when_a_faster_state_shows_up(tmp_path: Path) -> None:
    device = FakeDevice()
    device.fast_from_s = 2.6  # until then everything is slow, and nothing tells
    table, _ = run(device, tmp_path)
    for entry in table.blocks:
        true = true_time_ns(block_graph(entry.block).SerializeToString()) / 1e6
        assert entry.median_ms == pytest.approx(true, rel=0.03)
    assert len(device.measured) > len(table.blocks) + len(table.networks)


def test_a_refused_unit_costs_itself_and_is_named(tmp_path: Path) -> None:
    import hashlib

    device = FakeDevice()
    block = blocks_at(SPACE, (24,))[5]
    device.refuse = {hashlib.sha256(block_graph(block).SerializeToString()).hexdigest()}
    table, _ = run(device, tmp_path)
    assert table.missing.blocks == 1
    assert table.missing.failures == ("the fake device refuses this model.",)
    assert block not in {entry.block for entry in table.blocks}


def test_a_device_that_refuses_everything_ends_the_profile(tmp_path: Path) -> None:
    device = FakeDevice()
    device.compile = lambda onnx, options=None: (_ for _ in ()).throw(DeviceError("gone."))  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match="gone"):
        run(device, tmp_path)
    assert not list(tmp_path.rglob("*t1-????????.json"))


def test_too_little_time_is_said_and_not_wasted(tmp_path: Path) -> None:
    device = FakeDevice()
    with pytest.raises(UserError, match="more minutes"):
        run(device, tmp_path, minutes=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"minutes": 0.0},
        {"minutes": float("nan")},
        {"builds": 0},
        {"batch": 0},
        {"validation_networks": -1},
        {"networks_only": 1},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        options(**wrong)


def test_an_unknown_resolution_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no resolution 25; it has 24, 28"):
        run(FakeDevice(), tmp_path, resolutions=(24, 25))


def test_a_journal_measured_by_another_protocol_is_refused(tmp_path: Path) -> None:
    run(FakeDevice(), tmp_path)
    with pytest.raises(UserError, match="another protocol"):
        run(FakeDevice(), tmp_path, block_protocol=MeasureOptions(max_seconds=1.0, min_samples=16, tolerance=0.05))


def test_a_damaged_journal_is_refused_by_line(tmp_path: Path) -> None:
    _, path = run(FakeDevice(), tmp_path)
    journal = journal_path(path)
    lines = journal.read_text().splitlines()
    lines[3] = '{"unit": 7}'
    journal.write_text("\n".join(lines) + "\n")
    with pytest.raises(BadFileError, match="line 4: field 'unit'"):
        run(FakeDevice(), tmp_path)


def test_two_profiles_at_once_are_refused(tmp_path: Path) -> None:
    device, second = FakeDevice(), FakeDevice()
    measure = device.measure
    refusals: list[str] = []

    def interrupted(*arguments: object) -> object:
        if not refusals:
            with pytest.raises(UserError) as refusal:
                run(second, tmp_path)
            refusals.append(str(refusal.value))
        return measure(*arguments)  # type: ignore[arg-type]

    device.measure = interrupted  # type: ignore[assignment, method-assign]
    run(device, tmp_path)
    assert "Another process is profiling" in refusals[0]
    assert second.measured == []


def test_a_device_that_becomes_another_while_it_is_measured_gives_no_table(tmp_path: Path) -> None:
    device = FakeDevice()
    release = device.release

    def upgraded(engine: object) -> None:
        device.cpu = "another"
        release(engine)  # type: ignore[arg-type]

    device.release = upgraded  # type: ignore[assignment, method-assign]
    with pytest.raises(DeviceError, match="changed while it was measured"):
        run(device, tmp_path)
    assert not list(tmp_path.rglob("*t1-????????.json"))


def test_a_model_that_is_good_enough_asks_for_no_more_networks(tmp_path: Path) -> None:
    table, _ = run(FakeDevice(), tmp_path, calibration_networks=70, good_enough_percent=20.0)
    assert len(table.with_role("calibration")) == 30
    table, _ = run(FakeDevice(), tmp_path, calibration_networks=70, good_enough_percent=1e-6)
    assert len(table.with_role("calibration")) == 70


def test_the_choice_of_networks_goes_on_where_time_ran_out(tmp_path: Path) -> None:
    unbroken, _ = run(FakeDevice(), tmp_path / "unbroken", calibration_networks=60)
    minutes = 0.85 * (unbroken.profile_seconds - LEARNING_S) / 60
    broken = FakeDevice()
    first, _ = run(broken, tmp_path / "broken", calibration_networks=60, minutes=minutes)
    assert 30 < len(first.with_role("calibration")) < 60
    whole, _ = run(broken, tmp_path / "broken", calibration_networks=60)
    assert len(whole.with_role("calibration")) == 60
    assert {entry.architecture for entry in first.networks} <= {entry.architecture for entry in whole.networks}
    assert max(Counter(broken.measured).values()) == 1


def test_whole_networks_alone_make_a_table_that_predicts(tmp_path: Path) -> None:
    device = FakeDevice()
    table, path = run(device, tmp_path, networks_only=40, calibration_networks=None, validation_networks=None)
    assert not table.blocks
    assert [len(table.with_role(role)) for role in ("calibration", "validation")] == [40, 20]
    assert table.validation is not None
    assert table.validation.mape < 3 and table.validation.mape < 0.5 * table.validation.baselines["macs"].mape
    measured = len(device.measured)
    again, _ = run(device, tmp_path, networks_only=40, calibration_networks=None, validation_networks=None)
    assert len(device.measured) == measured and again.networks == table.networks
    run(device, tmp_path)
    with pytest.raises(UserError, match="holds blocks"):
        run(device, tmp_path, networks_only=40)
    assert load_table(path).blocks


def test_progress_is_told_to_its_end(tmp_path: Path) -> None:
    class Recorder:
        total, done, finished = 0.0, 0.0, False

        def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
            self.total, self.done = total, done

        def advance(self, amount: float = 1.0, note: str = "") -> None:
            self.done += amount

        def finish(self) -> None:
            self.finished = True

    recorder, device = Recorder(), FakeDevice()
    profile(device, SPACE, tmp_path, options(builds=2), recorder, device.clock)
    assert recorder.finished and recorder.done == recorder.total > 0


def test_a_table_says_that_its_device_is_emulated_whether_the_target_or_the_device_tells(tmp_path: Path) -> None:
    told, found = FakeDevice(), FakeDevice()
    told.target = told.target.model_copy(update={"emulated": True})
    identity = found.fingerprint().identity | {"emulator": "qemu-aarch64-static"}
    found.fingerprint = lambda _=None: Fingerprint(identity=identity, context={})  # type: ignore[method-assign]
    kinds = [
        run(device, tmp_path / name, networks_only=5, validation_networks=None)[0].kind
        for name, device in (("told", told), ("found", found), ("neither", FakeDevice()))
    ]
    assert kinds == ["emulated", "emulated", "measured"]


def test_a_board_is_soaked_once_a_sitting_and_its_kinds_spread_is_in_the_table(tmp_path: Path) -> None:
    device = FakeDevice()
    board = {"shared": False, "soak_seconds": 7.0, "board_spread": 0.03}
    device.target = device.target.model_copy(update=board)
    soaked: list[float] = []
    measure = device.measure

    def recorded(engine: Engine, asked: MeasureOptions | None = None) -> Measurement:
        assert asked is not None
        soaked.append(asked.soak_seconds)
        return measure(engine, asked)

    device.measure = recorded  # type: ignore[method-assign]
    table, _ = run(device, tmp_path)
    first = len(soaked)
    run(device, tmp_path, calibration_networks=8)
    assert [number for number, seconds in enumerate(soaked) if seconds] == [0, first]
    assert soaked[0] == soaked[first] == 7.0
    alike = table.model_copy(update={"board_spread": 0.0})
    genomes = SPACE.sample(np.random.default_rng(0), 20)
    (mean, std), (_, alone) = (fit_latency_model(each, SPACE).predict(genomes) for each in (table, alike))
    np.testing.assert_allclose(std**2, alone**2 + (0.03 * mean) ** 2)
