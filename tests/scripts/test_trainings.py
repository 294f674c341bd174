"""Networks trained alone: on equal terms, in a queue that goes on after any end, and what is said of them."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.errors import UserError
from hwnas.files import locked, write_json
from hwnas.pipeline.stopwatch import Stopwatch
from hwnas.progress import Silent
from hwnas.spaces import get_space, single_space
from hwnas.spaces.yardsticks import YARDSTICKS
from hwnas.supernet import load_record
from hwnas.training import Trainer, TrainingConfig
from hwnas.training.step import EagerStep
from hwnas.training.teachers import Teacher
from tests.latency.fake_device import FakeDevice
from tests.training import toy

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import alone
import bench_supernet
import bench_transfer
import bench_yardsticks
import pages
from alone import Bench, image_passes
from equal_latency import BUILDS, random_subnets, scaled_to, uniform_subnet
from lineup import SEARCHED, Entry, Lineup
from trainings import UNFINISHED, Training, run_all

SPACE = get_space("mobilenet_v3/small", len(toy.CLASSES))


def training(directory: Path, **changes: Any) -> Training:
    space = single_space("mobilenet_v3/thin", toy.thin_space().network(toy.thin_space().smallest))
    return Training(directory, space, toy.dataset(), toy.config(**({"epochs": 3, "full_epochs": 3} | changes)))


class Counting(Silent):
    """Remembers the bar's total and how far it has come."""

    def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
        self.total, self.done = total, done

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.done += amount


def test_a_queue_that_was_stopped_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    unbroken = [training(tmp_path / "a"), training(tmp_path / "b", seed=1)]
    bar = Counting()
    assert run_all(unbroken, None, bar)
    assert bar.done == bar.total == 36
    broken = [training(tmp_path / "c"), training(tmp_path / "d", seed=1)]
    assert not run_all(broken, 0, bar)
    assert (bar.done, sum(one.steps_done for one in broken)) == (0, 0)
    first = broken[0]
    Trainer(first.directory, first.space, first.dataset, first.config).run_until(5)
    assert first.steps_done == 5
    assert run_all(broken, None, bar)
    assert bar.done == bar.total
    for one, other in zip(unbroken, broken, strict=True):
        assert one.validation_top1 == other.validation_top1
        for left, right in zip(one.network().parameters(), other.network().parameters(), strict=True):
            assert torch.equal(left, right)
    assert run_all(broken, 0, bar), "what is done needs no time"


def test_a_queue_that_is_interrupted_within_a_step_keeps_whole_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = training(tmp_path / "whole"), training(tmp_path / "broken")
    assert run_all([whole], None, Silent())
    update, calls = EagerStep.update, iter(range(100))

    def interrupted(self: EagerStep, rate: float, since_begin: int) -> None:
        update(self, rate, since_begin)
        if next(calls) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(EagerStep, "update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all([broken], None, Silent())
    assert broken.steps_done == 4, "what was saved last"
    monkeypatch.setattr(EagerStep, "update", update)
    assert run_all([broken], None, Silent())
    for left, right in zip(whole.network().parameters(), broken.network().parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_training_that_diverges_is_written_down_and_the_queue_goes_on(tmp_path: Path) -> None:
    wild = training(tmp_path / "wild", learning_rate=1e30, warmup_epochs=0, gradient_clip=1e30)
    queue = [wild, training(tmp_path / "sound")]
    bar = Counting()
    assert run_all(queue, None, bar)
    assert wild.diverged
    assert wild.validation_top1 is None
    assert "diverged" in wild.why_diverged()
    assert bar.done == bar.total
    assert queue[1].validation_top1 is not None


def test_one_that_had_diverged_at_its_end_is_written_down_when_it_is_judged(tmp_path: Path) -> None:
    queue = [training(tmp_path / "spoilt"), training(tmp_path / "sound", seed=1)]
    trainer = queue[0].trainer()
    trainer.run_until(trainer.total_steps)
    next(iter(trainer.state.average.values()))[:1] = math.nan
    trainer.pause()
    bar = Counting()
    assert run_all(queue, None, bar)
    assert "not finite" in queue[0].why_diverged()
    assert queue[1].validation_top1 is not None
    assert bar.done == bar.total


def test_two_workers_never_train_in_one_directory(tmp_path: Path) -> None:
    queue = [training(tmp_path / "a"), training(tmp_path / "b", seed=1)]
    with locked(queue[0].directory):
        assert not run_all(queue, None, Silent()), "the other worker's is not done"
    assert [one.steps_done for one in queue] == [0, queue[1].steps]
    assert run_all(queue, None, Silent())


def heard_by_teachers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the size of each batch that a teacher itself answers."""
    asked: list[int] = []
    answer = Teacher.__call__

    def counting(self: Teacher, images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return answer(self, images)

    monkeypatch.setattr(Teacher, "__call__", counting)
    return asked


def test_side_by_side_they_learn_what_they_learn_alone_and_the_teacher_is_asked_once(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[dict[str, Any]] = [{}, {"learning_rate": 0.03, "epochs": 1, "full_epochs": 1}, {"seed": 1}]
    changes += [{"learning_rate": 1e30, "warmup_epochs": 0, "gradient_clip": 1e30}]
    apart, beside = (
        [training(tmp_path / where / str(number), teacher=str(trained), **some) for number, some in enumerate(changes)]
        for where in ("apart", "beside")
    )
    assert run_all(apart, None, Silent())
    beside[0].trainer().run_until(5)  # what is further on waits for the others
    asked, bar = heard_by_teachers(monkeypatch), Counting()
    with locked(beside[2].directory):
        assert not run_all(beside, None, bar, together=True), "another process is at work on one"
    assert len(asked) == apart[0].steps
    assert not run_all(beside, 0, bar, together=True), "no time"
    assert run_all(beside, None, bar, together=True)
    assert bar.done == bar.total
    assert [one.diverged for one in beside] == [one.diverged for one in apart] == [False, False, False, True]
    for one, other in zip(apart[:3], beside[:3], strict=True):
        assert one.validation_top1 == other.validation_top1
        for left, right in zip(one.network().parameters(), other.network().parameters(), strict=True):
            assert torch.equal(left, right)


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({"epochs": 20, "full_epochs": 2}, 2 + 18 * 4),
        ({"epochs": 10, "recipe": "single-stage", "random_subnets": 1}, 30),
        ({"epochs": 10, "recipe": "progressive", "random_subnets": 3, "full_epochs": 4}, 4 + 6 * 3),
        ({"epochs": 1, "full_epochs": 2}, 1),
    ],
)
def test_a_step_counts_as_often_as_it_trains_subnets(settings: dict[str, Any], passes: float) -> None:
    assert image_passes(TrainingConfig.model_validate(settings)) == pytest.approx(passes)


# --- equal latency --------------------------------------------------------------------------------------------


class Macs:
    """A latency model that knows multiply-accumulates alone."""

    def predict(self, genomes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        macs = SPACE.macs(genomes)
        return macs, 0 * macs


def test_networks_of_equal_latency_are_found_and_not_measured_twice(tmp_path: Path) -> None:
    device = FakeDevice()
    journal = tmp_path / "journal.jsonl"
    watch = Stopwatch(device, SPACE, device.default_options(), "p50", journal, Silent())  # type: ignore[arg-type]
    searched = SPACE.architecture(resolution=56, stage1_depth=3)
    wanted = SPACE.network(searched)
    for name in YARDSTICKS:
        wanted_ms, found_ms = watch.figures_ms([wanted, scaled_to(name, wanted, watch).network], BUILDS)
        assert found_ms == pytest.approx(wanted_ms, rel=0.02), name
    randoms = random_subnets(SPACE, Macs(), searched, 2, watch)  # type: ignore[arg-type]
    uniform = uniform_subnet(SPACE, Macs(), searched, watch)  # type: ignore[arg-type]
    assert len({searched.id, uniform.id, *(found.id for found in randoms)}) == 4
    for kind in ("kernel", "expansion", "depth"):
        assert len({value for label, value in uniform.choices if label.endswith(kind)}) == 1
    before = len(device.measured)
    scaled_to("MobileNetV2", wanted, watch)
    assert len(device.measured) == before


# --- the programs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A supernet that has learned little."""
    directory = tmp_path_factory.mktemp("supernet")
    toy.trainer(directory, epochs=1, full_epochs=0.5, random_subnets=0).run()
    return directory


@pytest.fixture
def supernet(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its data set is one that tests know."""
    monkeypatch.setattr(alone, "load_dataset", lambda source, root: toy.dataset())
    return trained


def run(program: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """Exit status and the JSON object that is the last line."""
    monkeypatch.setattr(sys, "argv", [program.__name__, *words, "--json"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    told = capsys.readouterr()
    assert ended.value.code in (0, UNFINISHED, bench_supernet.MISSED), told.err
    return ended.value.code, json.loads(told.out.splitlines()[-1])


def test_a_supernet_is_held_against_training_alone_and_the_test_images_are_read_last(
    tmp_path: Path, supernet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--supernet", str(supernet), "--data", "toy", "--out", str(tmp_path / "out")]
    words += ["--alone", "3", "--seeds", "2", "--subnets", "2", "--passes", "0.5"]
    status, result = run(bench_supernet, monkeypatch, capsys, *words, "--until", "0")
    assert status == UNFINISHED
    assert "networks" not in result
    assert all("test_top1" not in entry for entry in result["alone"])
    status, result = run(bench_supernet, monkeypatch, capsys, *words)
    assert status == 0
    assert result["supernet_passes"] == 0.5 + 0.5 * 2
    macs = [entry["mmacs"] for entry in result["alone"]]
    assert macs == sorted(macs), "one of each stratum"
    gaps = [np.mean(entry["test_top1"]) - entry["supernet_test_top1"] for entry in result["alone"]]
    assert result["alone_gap_mean"] == pytest.approx(np.mean(gaps))
    records = [load_record(directory) for directory in (tmp_path / "out").iterdir()]
    assert [record.training["config"]["teacher"] for record in records] == 6 * [None]
    assert len(result["networks"]) == 4
    gap = max(gaps)
    aims = bench_supernet.judged(result, 100 * result["largest"], 100.1, 100 * gap - 0.01)
    assert list(aims.values()) == [True, False, False]
    status, again = run(bench_supernet, monkeypatch, capsys, *words, "--aims", "0", "0", str(100 * gap - 0.01))
    assert (status, list(again["aims"].values())) == (bench_supernet.MISSED, [True, True, False])


def test_nothing_can_be_trained_on_equal_terms_with_an_imported_supernet(
    tmp_path: Path, supernet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    imported = shutil.copytree(supernet, tmp_path / "imported")
    record = load_record(imported)
    write_json(imported / "record.json", record.model_copy(update={"training": {"imported": "ofa"}}))
    monkeypatch.setattr(
        sys, "argv", ["bench_supernet", "--supernet", str(imported), "--data", "toy", "--alone", "1", "--passes", "1"]
    )
    with pytest.raises(SystemExit) as ended:
        bench_supernet.main()
    assert ended.value.code == 2
    assert "was trained is not known (it was imported)" in capsys.readouterr().err


def test_yardsticks_are_trained_at_their_best_rate_and_one_table_holds_all(
    tmp_path: Path, supernet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_yardsticks, "line_up", lambda bench, arguments, progress: lined_up(bench))
    words = ["--supernet", str(supernet), "--data", "toy", "--out", str(tmp_path / "out"), "--budget", "1"]
    words += ["--seeds", "1", "--passes", "0.4", "--finetune", "0.2"]
    status, result = run(bench_yardsticks, monkeypatch, capsys, *words, "--until", "0")
    assert (status, result["done"], len(result["rows"])) == (UNFINISHED, False, 2)
    status, result = run(bench_yardsticks, monkeypatch, capsys, *words)
    rows = {row["name"]: row for row in result["rows"]}
    assert (status, result["passes"]) == (0, pytest.approx(0.6))
    assert set(rows) == {SEARCHED, "uniform subnet", bench_yardsticks.ALONE, "MobileNetV2", bench_yardsticks.TUNED}
    assert [rows[name]["equal"] for name in (SEARCHED, "uniform subnet", "MobileNetV2")] == [True, True, False]
    assert rows["MobileNetV2"]["learning_rate"] in [pytest.approx(0.1 * factor) for factor in bench_yardsticks.RATES]
    assert all(0 <= top1 <= 1 for row in rows.values() for top1 in row["test_top1"])
    page = (tmp_path / "out" / "yardsticks.html").read_text()
    assert page.count("<svg") >= 2
    assert "http" not in page.replace("http-equiv", "")


def lined_up(bench: Bench) -> Lineup:
    """What the device would have told."""
    small, large = bench.space.smallest, bench.space.architecture(resolution=24)
    entries = [
        Entry(
            name=name,
            choices=architecture.to_json(),
            latency_ms=latency_ms,
        )
        for name, architecture, latency_ms in ((SEARCHED, small, 0.1), ("uniform subnet", large, 0.101))
    ]
    blocks = tuple(block.to_json() for block in YARDSTICKS["MobileNetV2"](24, 3, 0.1, 4))
    entries.append(Entry(name="MobileNetV2", blocks=blocks, width=0.1, latency_ms=0.11))
    return Lineup(weights_sha256="", target="host-cpu", identity8="0" * 8, budget_ms=1.0, entries=tuple(entries))


def test_fine_tuning_begins_with_the_supernets_weights(tmp_path: Path, supernet: Path) -> None:
    bench = Bench(supernet, "toy")
    arguments = argparse.Namespace(passes=None, batch_size=None, finetune=0.2, seeds=1, sweep=0.1, out=tmp_path / "out")
    contest = bench_yardsticks.Contest([bench], lined_up(bench), arguments)
    for entry in contest._trained:
        for one in contest._sweep(entry):
            one.directory.mkdir(parents=True)
            (one.directory / "record.json").write_bytes((supernet / "record.json").read_bytes())
    (tuned,) = contest._trainings()[bench_yardsticks.TUNED]
    assert tuned.beginning is not None
    expected = bench.supernet.extract(bench.space.smallest).state_dict()
    assert all(torch.equal(tuned.beginning.state_dict()[name], tensor) for name, tensor in expected.items())
    assert tuned.config.epochs == 0.2
    assert tuned.config.teacher == str(bench.directory)


def test_pictures_of_the_package_are_taken_once_each_and_missing_ones_are_told(tmp_path: Path) -> None:
    root = tmp_path / "stamps"
    for below in bench_transfer.KINDS.values():
        (root / below / "deeper").mkdir(parents=True)
        for name in ("one.png", "one_mirror.png", "deeper/one.png", "notes.txt"):
            (root / below / name).write_bytes(b"picture")
    folder = bench_transfer.stamps(tmp_path / "out", root)
    assert sorted(found.name for found in folder.iterdir()) == sorted(bench_transfer.KINDS)
    assert sorted(found.name for found in (folder / "birds").iterdir()) == ["deeper-one.png", "one.png"]
    with pytest.raises(UserError, match="install the Debian package tuxpaint-stamps-default"):
        bench_transfer.stamps(tmp_path / "other", tmp_path / "nowhere")


def test_a_figure_without_figures_says_so(tmp_path: Path) -> None:
    figures = [pages.strips("a", "A", "", "x", {"row": []}), pages.curves("b", "B", "", ("x", "y"), {"group": []})]
    pages.write_page(tmp_path / "page.html", "Nothing", "Yet.", figures, [])
    assert (tmp_path / "page.html").read_text().count("Nothing was measured yet") == 2
