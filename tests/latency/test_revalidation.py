"""Validating a table anew on a fake device: what is measured, resumed, refused, and carried into later profiles."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from hwnas.devices import Engine, Measurement, MeasureOptions
from hwnas.errors import BadFileError, DeviceError, StaleTableError, UserError
from hwnas.graphs import network_graph
from hwnas.latency import (
    LatencyModel,
    LatencyTable,
    ProfileOptions,
    fit_latency_model,
    load_table,
    profile,
    save_table,
)
from hwnas.latency.plan import fresh_networks
from hwnas.latency.revalidation import Revalidated, RevalidationOptions, carry_over, revalidate
from hwnas.spaces import Architecture, get_space

sys.path.insert(0, str(Path(__file__).parent))
from fake_device import FakeDevice, true_time_ns
from tables import made_table

SPACE = get_space("mobilenet_v3/small")
QUICK = MeasureOptions(max_seconds=1.0, min_samples=16)
PROFILE = ProfileOptions(
    resolutions=(24,),
    calibration_networks=12,
    validation_networks=6,
    builds=1,
    block_protocol=QUICK,
    network_protocol=QUICK,
)


class Drifted(FakeDevice):
    """Everything takes ``factor`` times as long as when the table was measured, the canary too."""

    factor = 1.0

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        measured = super().measure(engine, options)

        def slower(times: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(round(self.factor * ns) for ns in times)

        canary = tuple(slower(times or ()) for times in measured.canary_ns)
        changed = {
            "samples_ns": tuple(map(slower, measured.samples_ns)),
            "canary_ns": canary,
            "fast_state_ns": self.factor * (measured.fast_state_ns or 0.0),
        }
        return Measurement.model_validate(measured.model_dump() | changed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    device = FakeDevice()
    return profile(device, SPACE, tmp_path, PROFILE, clock=device.clock)[1]


def some(n: int) -> list[Architecture]:
    return SPACE.decode(SPACE.sample(np.random.default_rng(11), n))


def run(
    path: Path, device: FakeDevice | None = None, n: int = 5, proposed: int = 4, **options: object
) -> tuple[Revalidated, FakeDevice]:
    device = device or Drifted()
    asked = RevalidationOptions(networks=n, **options)  # type: ignore[arg-type]

    def propose(model: LatencyModel, without: Collection[str]) -> list[Architecture]:
        return [each for each in some(proposed + 2) if each.id not in without][:proposed]

    return revalidate(device, path, propose if proposed else None, asked, clock=device.clock), device


def ids(table: LatencyTable, role: str) -> set[str]:
    return {entry.architecture.id for entry in table.networks if entry.role == role}


def test_fresh_networks_take_the_place_of_those_before_and_none_enters_the_fit(path: Path) -> None:
    before = load_table(path)
    found, device = run(path)
    after = load_table(path)
    assert found.written and found.table == after
    assert after.with_role("calibration") == before.with_role("calibration") and after.blocks == before.blocks
    assert len(ids(after, "validation")) == 5 and not ids(after, "validation") & {
        entry.architecture.id for entry in before.networks
    }
    assert ids(after, "proposed") == {architecture.id for architecture in some(4)}
    assert after.validation is not None and after.validation.n == 5 and "macs" in after.validation.baselines
    assert after.proposed is not None and after.proposed.n == 4
    assert after.revalidation is not None and after.revalidation.seconds > 0
    assert after.profile_seconds == before.profile_seconds
    genomes = SPACE.sample(np.random.default_rng(1), 50)
    models = [fit_latency_model(table, SPACE).predict(genomes) for table in (before, after)]
    assert np.array_equal(models[0], models[1])
    assert len(device.measured) == 3 * 9
    for entry in after.with_role("proposed"):
        true = true_time_ns(network_graph(SPACE.blocks(entry.architecture)).SerializeToString()) / 1e6
        assert entry.median_ms == pytest.approx(true, rel=0.03) and entry.builds == 3


def test_it_is_measured_by_the_table_s_own_protocol(path: Path) -> None:
    asked: list[MeasureOptions] = []
    device = Drifted()
    measure = device.measure
    device.measure = lambda engine, options=None: (asked.append(options), measure(engine, options))[1]  # type: ignore[method-assign]
    run(path, device, n=2, proposed=0)
    assert {(options.min_samples, options.max_seconds) for options in asked} == {(16, 1.0)}


def test_what_is_not_measured_anew_stays(path: Path) -> None:
    before = load_table(path)
    kept = run(path, n=0)[0].table
    assert kept.with_role("validation") == before.with_role("validation") and len(kept.with_role("proposed")) == 4
    again = run(path, n=3, proposed=0)[0].table
    assert again.with_role("proposed") == kept.with_role("proposed") and again.proposed == kept.proposed
    assert len(again.with_role("validation")) == 3


def test_networks_of_the_fit_are_not_proposed(path: Path) -> None:
    fitted = [entry.architecture for entry in load_table(path).with_role("calibration")]
    device = FakeDevice()
    options = RevalidationOptions(networks=0)
    found = revalidate(device, path, lambda model, without: [*fitted, *some(2)], options, clock=device.clock)
    assert ids(found.table, "proposed") == {architecture.id for architecture in some(2)}


def test_an_interrupted_validation_goes_on_and_ends_as_if_it_had_not_been(path: Path) -> None:
    content = path.read_bytes()
    whole = run(path)[0].table
    path.write_bytes(content)
    device = Drifted()
    measure, left = device.measure, iter(range(10))

    def interrupted(engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return measure(engine, options)

    device.measure = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run(path, device)
    assert path.read_bytes() == content
    journal = path.with_suffix(".validation.jsonl")
    assert journal.exists()
    resumed, rest = run(path)
    assert len(rest.measured) == 3 * 9 - 10
    assert resumed.table.networks == whole.networks and resumed.table.proposed == whole.proposed
    assert not journal.exists() and path.with_suffix(".validated.jsonl").exists()


def test_a_validation_that_ended_is_not_taken_for_an_interrupted_one(path: Path) -> None:
    first = run(path)[0].table
    second, device = run(path)
    assert len(device.measured) == 3 * 9
    assert not ids(first, "validation") & ids(second.table, "validation")


@pytest.mark.parametrize("factor", [0.9, 1.05])
def test_drift_of_the_fast_state_is_divided_out(path: Path, factor: float) -> None:
    content = path.read_bytes()
    undrifted = run(path)[0].table
    path.write_bytes(content)
    device = Drifted()
    device.factor = factor
    drifted = run(path, device)[0].table
    assert drifted.fast_states_ms == undrifted.fast_states_ms
    assert drifted.revalidation is not None and undrifted.revalidation is not None
    state = undrifted.revalidation.fast_states_ms["small"]
    assert drifted.revalidation.fast_states_ms["small"] == pytest.approx(factor * state, rel=1e-3)
    for ours, theirs in zip(undrifted.with_role("proposed"), drifted.with_role("proposed"), strict=True):
        assert theirs.median_ms == pytest.approx(ours.median_ms, rel=1e-3)
        assert theirs.ungated_median_ms == pytest.approx(factor * ours.ungated_median_ms, rel=1e-3)


def test_a_device_that_is_never_in_the_table_s_fast_state_is_told_and_nothing_is_written(path: Path) -> None:
    content = path.read_bytes()
    device = Drifted()
    device.factor = 1.4
    with pytest.raises(
        UserError, match=r"fast state: small canary 0\.1\d+ ms, in the table 0\.\d+ ms\); validate again"
    ):
        run(path, device)
    assert path.read_bytes() == content


def test_another_device_is_refused_or_leaves_the_table_as_it_is(path: Path) -> None:
    content = path.read_bytes()
    with pytest.raises(StaleTableError, match="cpu: fake → another"):
        run(path, Drifted(cpu="another"))
    device = Drifted(cpu="another")
    device.factor = 3.0
    found, _ = run(path, device, allow_stale=True)
    assert not found.written and path.read_bytes() == content
    assert found.table.validation is not None and found.table.validation.n == 5
    assert found.table.validation.bias < -50  # by its own fast state: three times as slow
    assert not path.with_suffix(".validated.jsonl").exists()


def test_a_device_that_becomes_another_gives_nothing(path: Path) -> None:
    device = Drifted()
    release = device.release

    def upgraded(engine: Engine) -> None:
        device.cpu = "another"
        release(engine)

    device.release = upgraded  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=r"changed while it was measured.*validate afresh"):
        run(path, device)
    with pytest.raises(BadFileError, match="another device"):
        other = load_table(path).model_copy(update={"fingerprint": Drifted(cpu="third").fingerprint()})
        path.write_text(other.model_dump_json())
        run(path, Drifted(cpu="third"))


def test_a_refused_network_costs_itself_and_is_named(path: Path) -> None:
    import hashlib

    device = Drifted()
    graph = network_graph(SPACE.blocks(some(1)[0])).SerializeToString()
    device.refuse = {hashlib.sha256(graph).hexdigest()}
    table = run(path, device)[0].table
    assert table.missing.proposed == 1 and table.missing.validation == 0
    assert table.missing.failures == ("the fake device refuses this model.",)
    assert table.proposed is not None and table.proposed.n == 3


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"kind": "imported"}, "is imported, so no device is known"),
        ({"target": "elsewhere"}, "is of target elsewhere, not host-cpu"),
        ({"mode": "cuda"}, "is of onnxruntime-cuda, which target 'host-cpu' does not have"),
        ({"arrival": "30 fps"}, "arrive 30 fps, but its protocol says otherwise"),
    ],
)
def test_a_table_that_cannot_be_validated_is_refused(tmp_path: Path, changes: dict[str, str], complaint: str) -> None:
    table = made_table().model_copy(update={**changes, "fingerprint": FakeDevice().fingerprint()})
    with pytest.raises(UserError, match=complaint):
        run(save_table(table, tmp_path))


def test_nothing_to_measure_and_a_single_network_are_refused(path: Path) -> None:
    with pytest.raises(UserError, match="nothing to validate with"):
        run(path, n=0, proposed=0)
    for wrong in (-1, 1):
        with pytest.raises(UserError, match="2 networks or more"):
            RevalidationOptions(networks=wrong)


def test_a_later_profile_carries_the_networks_unless_all_is_forgotten(path: Path, tmp_path: Path) -> None:
    validated = run(path)[0].table
    device = FakeDevice()
    profiled, _ = profile(device, SPACE, tmp_path, PROFILE, clock=device.clock)
    assert device.measured == []
    assert profiled.with_role("proposed") == validated.with_role("proposed")
    assert profiled.proposed == validated.proposed and profiled.revalidation == validated.revalidation
    assert ids(profiled, "validation") > ids(validated, "validation")
    afresh = ProfileOptions(**(vars(PROFILE) | {"fresh": True}))
    forgotten, _ = profile(device, SPACE, tmp_path, afresh, clock=device.clock)
    assert forgotten.proposed is None and forgotten.revalidation is None


def test_carried_networks_are_put_into_the_new_table_s_time_scale(path: Path) -> None:
    former = run(path)[0].table
    state = former.fast_states_ms["small"]
    table = former.model_copy(
        update={"networks": former.with_role("calibration"), "fast_states_ms": {"small": 0.9 * state}}
    )
    carried = carry_over(table, former)
    for new, old in zip(carried.with_role("proposed"), former.with_role("proposed"), strict=True):
        assert new.median_ms == pytest.approx(0.9 * old.median_ms)
        assert new.ungated_median_ms == old.ungated_median_ms


def test_a_former_table_that_cannot_be_read_carries_nothing(path: Path, tmp_path: Path) -> None:
    run(path)
    path.write_text("{}")
    device = FakeDevice()
    profiled, _ = profile(device, SPACE, tmp_path, PROFILE, clock=device.clock)
    assert profiled.proposed is None and load_table(path) == profiled


def test_fresh_networks_are_spread_over_latency_and_are_others() -> None:
    first = fresh_networks(SPACE, 1, 60, ())
    known = {unit.key.split()[1] for unit in first[:30]}
    others = fresh_networks(SPACE, 1, 40, known)
    assert len(others) == 40 and not known & {unit.key.split()[1] for unit in others}
    cost = np.sort([sum(block.macs for block in unit.network.blocks) for unit in others])
    assert cost[-1] > 5 * cost[0]
    assert np.diff(cost).max() < 0.25 * (cost[-1] - cost[0])
    assert fresh_networks(SPACE, 1, 0, ()) == []
