from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from hwnas.agent.knobs import WarmUp
from hwnas.devices import CompileOptions, Engine, Measurement, MeasureOptions
from hwnas.errors import BadFileError, DeviceError, UserError
from hwnas.search import Budget, ExportedCandidate, Finalist, keepers, measure_finalists
from hwnas.spaces import get_space

SPACE = get_space("mobilenet_v3/small")
FAST_NS = 100_000
OPTIONS = MeasureOptions(min_samples=64)


class ScriptedDevice:
    """Times a model by what its bytes say, in ms; batches in the fast state alternate with slow ones.

    ``fast_batches`` of each measurement are in the fast state; ``fails_after`` builds, it fails; ``known_fast_ns`` is a
    fast state of the canary from before.
    """

    def __init__(self, fast_batches: int = 64, fails_after: int | None = None, known_fast_ns: float = math.inf) -> None:
        self.fast_batches = fast_batches
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
        self._times[engine] = float(onnx)
        return Engine(engine, 1000, 0.1, 0.1, (), (), "", options or CompileOptions())

    def measure(self, engine: Engine, options: MeasureOptions | None = None) -> Measurement:
        assert options is not None
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
