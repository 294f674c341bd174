from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hwnas.agent.knobs import WarmUp
from hwnas.devices import Arrival, CompileOptions, Engine, Measurement, MeasureOptions, Statistics
from hwnas.errors import BadFileError, DeviceError, UserError
from hwnas.search import (
    Budget,
    Choice,
    ExportedCandidate,
    Finalist,
    choose_and_promise,
    forget_measurements,
    keepers,
    measure_finalists,
)
from hwnas.search.finalists import Measured
from hwnas.spaces import get_space

SPACE = get_space("mobilenet_v3/small")
FAST_NS = 100_000
OPTIONS = MeasureOptions(min_samples=64)


class ScriptedDevice:
    """Times a model by what its bytes say, in ms; batches in the fast state alternate with slow ones.

    ``fast_batches`` of each measurement are in the fast state; ``fails_after`` builds, it fails; ``known_fast_ns`` is a
    fast state of the canary from before; the model ``slower_from`` names takes half as long again from that build on.
    """

    def __init__(
        self,
        fast_batches: int = 64,
        fails_after: int | None = None,
        known_fast_ns: float = math.inf,
        slower_from: tuple[str, int] = ("", 0),
    ) -> None:
        self.fast_batches = fast_batches
        self.slower_from = slower_from
        self.asked: list[MeasureOptions] = []
        self.known_fast_ns = known_fast_ns
        self.fails_after = fails_after
        self.built: list[str] = []
        self.released: list[str] = []
        self._times: dict[str, float] = {}

    def compile(self, onnx: bytes, options: CompileOptions | None = None) -> Engine:
        if self.fails_after is not None and len(self.built) == self.fails_after:
            raise DeviceError("The device failed.")
        engine = f"engine{len(self.built)}"
        self.built.append(onnx.decode())
        model, build = self.slower_from
        slow = onnx.decode() == model and self.built.count(model) >= build
        self._times[engine] = float(onnx) * (1.5 if slow else 1.0)
        return Engine(engine, 1000, 0.1, 0.1, (), (), "", options or CompileOptions())

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        assert options is not None
        self.asked.append(options)
        fast_ns = self._times[engine.id] * 1e6
        rng = np.random.default_rng(len(self.built))
        samples, canaries = [], []
        for batch in range(128):
            slow = 1.0 if batch < self.fast_batches else 1.8
            samples.append([int(t * slow) for t in fast_ns * rng.uniform(0.99, 1.01, 4)])
            canaries.append([int(FAST_NS * slow)] * 2)
        return Measurement.model_validate(
            {
                "protocol": options.as_protocol(),
                "samples_ns": samples,
                "canary_ns": canaries,
                "clocks_moved": [False] * 128,
                "preempted": [False] * 128,
                "fast_state_ns": min(self.known_fast_ns, *(canary[0] for canary in canaries)),
                "complete": True,
                "warmup": dict.fromkeys(WarmUp.__dataclass_fields__, 1),
                "clocks": [],
                "upload_ns": [1],
                "download_ns": [1],
                "timer_overhead_ns": 1,
                "canary_sha256": "",
                "elapsed_s": 1.0,
            }
        )

    def release(self, engine: Engine) -> None:
        self.released.append(engine.id)


def candidates(*models: tuple[str, float]) -> list[ExportedCandidate]:
    architectures = SPACE.decode(SPACE.sample(np.random.default_rng(0), len(models)))
    pairs = zip(architectures, models, strict=True)
    return [ExportedCandidate(architecture, ms.encode(), top1) for architecture, (ms, top1) in pairs]


def measure(
    device: ScriptedDevice, journal: Path, *models: tuple[str, float], limit: float = 1.0, builds: int = 3
) -> list[Finalist]:
    budget = Budget("fake", "latency_ms", limit)
    return measure_finalists(
        device, candidates(*models), budget, journal=journal, builds=builds, measure_options=OPTIONS
    )


def test_keepers_are_ranked_by_accuracy_and_then_by_measured_latency(tmp_path: Path) -> None:
    device = ScriptedDevice()
    found = measure(device, tmp_path / "journal", ("1.2", 0.95), ("0.8", 0.93), ("0.5", 0.93), ("0.2", 0.90))
    assert [finalist.keeps for finalist in found] == [False, True, True, True]
    assert keepers(found) == [found[i].architecture for i in (2, 1, 3)]
    best = found[2]
    assert best.gated.statistics.p50_ms == pytest.approx(0.5, rel=0.01)
    assert best.ungated.statistics.p50_ms is not None and best.ungated.statistics.p50_ms > 0.5
    assert best.gated.statistics.n == 3 * 64 * 4
    assert best.gated.statistics.p99_ms is not None
    assert len(best.build_p50_ms) == len(best.builds) == 3
    assert device.built == ["1.2", "0.8", "0.5", "0.2"] * 3
    assert len(device.released) == 12


def test_none_wins_where_none_keeps_the_budget(tmp_path: Path) -> None:
    assert keepers(measure(ScriptedDevice(), tmp_path / "journal", ("1.2", 0.95), ("1.1", 0.93))) == []
    assert keepers([]) == []


@pytest.mark.parametrize("fails_after", range(6))
def test_a_broken_measurement_goes_on_without_measuring_twice(tmp_path: Path, fails_after: int) -> None:
    models = (("0.8", 0.93), ("0.5", 0.9))
    first, second = ScriptedDevice(fails_after=fails_after), ScriptedDevice()
    with pytest.raises(DeviceError):
        measure(first, tmp_path / "journal", *models)
    found = measure(second, tmp_path / "journal", *models)
    assert len(first.built) + len(second.built) == 6
    assert [len(finalist.builds) for finalist in found] == [3, 3]
    assert [finalist.gated.statistics.p50_ms for finalist in found] == pytest.approx([0.8, 0.5], rel=0.01)
    untouched = ScriptedDevice()
    assert measure(untouched, tmp_path / "journal", *models) == found
    assert untouched.built == []


def test_builds_are_judged_by_the_fast_state_that_all_show(tmp_path: Path) -> None:
    """A build measured wholly in the slow state is not taken for fast once another build shows what fast is."""
    slow = ScriptedDevice(fast_batches=0)
    measure(slow, tmp_path / "journal", ("0.8", 0.9), builds=1)
    (finalist,) = measure(ScriptedDevice(), tmp_path / "journal", ("0.8", 0.9), builds=3)
    assert finalist.build_p50_ms[0] is None
    assert finalist.gated.statistics.p50_ms == pytest.approx(0.8, rel=0.01)
    assert finalist.gated.statistics.n == 2 * 64 * 4


def test_a_faster_state_that_the_device_showed_before_is_the_one_that_counts(tmp_path: Path) -> None:
    """Three builds agree on a state 5 % slower than the profile's: their times are stated for the profile's."""
    (finalist,) = measure(ScriptedDevice(known_fast_ns=FAST_NS / 1.05), tmp_path / "journal", ("0.84", 0.9))
    assert finalist.gated.statistics.p50_ms == pytest.approx(0.8, rel=0.01)


def test_a_candidate_short_of_samples_is_built_again_up_to_twice_as_often(tmp_path: Path) -> None:
    """Ten fast batches of four a build: 64 samples take two builds; the first alone has 40."""
    device = ScriptedDevice(fast_batches=10)
    (finalist,) = measure(device, tmp_path / "a", ("0.8", 0.9), builds=1)
    assert len(finalist.builds) == len(device.built) == 2
    assert finalist.gated.statistics.n == 80


def test_other_options_and_other_models_are_measured_anew(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    measure(ScriptedDevice(), journal, ("0.8", 0.9))
    device = ScriptedDevice()
    measure(device, journal, ("0.8", 0.9), ("0.7", 0.9))
    assert device.built == ["0.7"] * 3
    other = ScriptedDevice()
    options = MeasureOptions(min_samples=100)
    budget = Budget("fake", "latency_ms", 1.0)
    measure_finalists(other, candidates(("0.8", 0.9)), budget, journal=journal, measure_options=options)
    assert other.built == ["0.8"] * 3


def test_the_same_model_twice_is_measured_once(tmp_path: Path) -> None:
    device = ScriptedDevice()
    found = measure(device, tmp_path / "journal", ("0.8", 0.9), ("0.8", 0.9))
    assert len(device.built) == 3
    assert found[0].gated == found[1].gated


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one build"):
        measure(ScriptedDevice(), tmp_path / "journal", ("0.8", 0.9), builds=0)
    journal = tmp_path / "journal"
    measure(ScriptedDevice(), journal, ("0.8", 0.9), builds=1)
    line = json.loads(journal.read_text())
    line["build"] = "first"
    journal.write_text(json.dumps(line) + "\n")
    with pytest.raises(BadFileError, match="line 1: field 'build'"):
        measure(ScriptedDevice(), journal, ("0.8", 0.9))


def promise(
    device: ScriptedDevice,
    directory: Path,
    *groups: list[tuple[str, float]],
    budget: Budget | None = None,
    builds: int = 3,
) -> Choice:
    models = iter(candidates(*[model for group in groups for model in group]))
    return choose_and_promise(
        device,
        [[next(models) for _ in group] for group in groups],
        budget or Budget("fake", "latency_ms", 1.0),
        directory=directory,
        builds=builds,
        measure_options=OPTIONS,
    )


def test_what_is_promised_was_measured_on_builds_that_had_no_part_in_the_choice(tmp_path: Path) -> None:
    device = ScriptedDevice()
    choice = promise(device, tmp_path, [("0.9", 0.95), ("0.5", 0.9)], builds=1)
    assert choice.promised is not None and choice.promised.top1 == 0.95
    assert device.built == ["0.9", "0.5", *["0.9"] * 3]
    assert len(choice.promised.builds) == 3 and len(choice.measured[0].builds) == 1
    chosen = {sample for build in choice.measured[0].builds for sample in build.measurement.samples_ns}
    assert chosen.isdisjoint(sample for build in choice.promised.builds for sample in build.measurement.samples_ns)
    untouched = ScriptedDevice()
    assert promise(untouched, tmp_path, [("0.9", 0.95), ("0.5", 0.9)], builds=1) == choice
    assert untouched.built == []
    forget_measurements(tmp_path)
    assert promise(untouched, tmp_path, [("0.9", 0.95), ("0.5", 0.9)], builds=1) == choice
    assert len(untouched.built) == 5


def test_a_candidate_that_breaks_the_budget_the_second_time_gives_way_to_the_next(tmp_path: Path) -> None:
    device = ScriptedDevice(slower_from=("0.9", 4))
    choice = promise(device, tmp_path, [("0.9", 0.95), ("0.5", 0.9)])
    assert choice.promised is not None and choice.promised.top1 == 0.9
    assert [finalist.top1 for finalist in choice.broke] == [0.95]
    assert choice.measured[0].keeps and not choice.broke[0].keeps


def test_groups_are_measured_until_one_keeps(tmp_path: Path) -> None:
    device = ScriptedDevice()
    choice = promise(device, tmp_path, [("1.5", 0.95)], [("0.9", 0.9)], [("0.1", 0.8)])
    assert choice.promised is not None and choice.promised.top1 == 0.9
    assert "0.1" not in device.built and [finalist.keeps for finalist in choice.measured] == [False, True]
    nothing = promise(ScriptedDevice(), tmp_path / "other", [("1.5", 0.95)])
    assert nothing.promised is None and nothing.broke == ()


def test_a_board_of_its_own_keeps_a_budget_on_all_samples(tmp_path: Path) -> None:
    """Half of the batches run 1.8 times as slowly: the gated p50 is 0.8 ms, that of all samples lies between."""
    gated = Budget("fake", "latency_ms", 1.0, statistic="p99")
    ungated = Budget("fake", "latency_ms", 1.0, statistic="p99", gated=False)
    for budget, keeps, figure in ((gated, True, 0.81), (ungated, False, 1.45)):
        device = ScriptedDevice()
        (found,) = measure_finalists(
            device, candidates(("0.8", 0.9)), budget, journal=tmp_path / "j", measure_options=OPTIONS
        )
        assert (found.keeps, found.surely) == (keeps, keeps)
        assert found.figure_ms == pytest.approx(figure, rel=0.02)
        for measured in (found.gated, found.ungated):
            assert measured.interval_ms is not None
            low, high = measured.interval_ms
            assert low <= (measured.statistics.p99_ms or 0.0) <= high


def test_a_p99_and_frames_that_arrive_ask_for_samples_and_time_enough(tmp_path: Path) -> None:
    device = ScriptedDevice()
    budget = Budget("fake", "latency_ms", 1.0, statistic="p99", arrival=Arrival(30.0))
    measure_finalists(device, candidates(("0.8", 0.9)), budget, journal=tmp_path / "j", measure_options=OPTIONS)
    asked = device.asked[0]
    assert asked.fps == 30.0
    assert 3 * asked.min_samples >= 662
    assert asked.max_seconds > asked.min_samples / 30


def test_too_few_samples_for_the_statistic_keep_nothing(tmp_path: Path) -> None:
    device = ScriptedDevice(fast_batches=10)
    budget = Budget("fake", "latency_ms", 1.0, statistic="p99")
    (found,) = measure_finalists(
        device, candidates(("0.8", 0.9)), budget, journal=tmp_path / "j", builds=1, measure_options=OPTIONS
    )
    assert found.figure_ms is None and not found.keeps and found.gated.interval_ms is None
    assert len(found.builds) == 2


def test_those_that_keep_it_with_all_of_their_interval_come_first() -> None:
    def finalist(top1: float, figure: float, surely: bool) -> Finalist:
        architecture = SPACE.decode(SPACE.sample(np.random.default_rng(int(100 * top1)), 1))[0]
        none = Measured(Statistics.of([]), None)
        return Finalist(architecture, top1, none, none, (), figure, figure <= 1.0, surely, ())

    sure, unsure, over = finalist(0.90, 0.8, True), finalist(0.95, 0.999, False), finalist(0.97, 1.2, False)
    assert keepers([over, unsure, sure]) == [sure.architecture, unsure.architecture]


def test_further_candidates_join_the_first_group_knowing_what_its_others_were_measured_at(tmp_path: Path) -> None:
    first, further, second = candidates(("1.2", 0.95), ("0.99", 0.93), ("0.1", 0.9))
    device, known = ScriptedDevice(), []

    def refine(measured: Sequence[Finalist]) -> list[ExportedCandidate]:
        known.append([finalist.figure_ms for finalist in measured])
        return [further]

    budget = Budget("fake", "latency_ms", 1.0)
    choice = choose_and_promise(
        device, [[first], [second]], budget, directory=tmp_path, refine=refine, measure_options=OPTIONS
    )
    assert known == [[pytest.approx(1.2, rel=0.01)]]
    assert [finalist.architecture for finalist in choice.measured] == [first.architecture, further.architecture]
    assert choice.promised is not None and choice.promised.architecture == further.architecture
    assert device.built.count("1.2") == 3 and "0.1" not in device.built
