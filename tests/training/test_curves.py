from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hwnas.errors import UserError
from hwnas.files import append_json_line, read_json_lines
from hwnas.training.curves import EVENT_FILES, extend_curves, restart_curves

sys.path.insert(0, str(Path(__file__).parent))
import toy


def line(step: int, **more: object) -> dict[str, object]:
    return {"step": step, "epoch": step / 4, "seconds": 2.0 * step, "loss_largest": 3 - step / 100, "lr": 0.1, **more}


def drawn(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a directory: points (step, value) by curve."""
    reader = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_every_line_is_a_point_of_its_curves(tmp_path: Path) -> None:
    restart_curves(tmp_path, [line(1), line(2)])
    extend_curves(tmp_path, line(3, top1_largest=0.5, phase="depth"))
    found = drawn(tmp_path)
    assert sorted(found) == ["loss/largest", "lr", "top1/largest"]
    assert found["loss/largest"] == [(step, pytest.approx(3 - step / 100)) for step in (1, 2, 3)]
    assert found["top1/largest"] == [(3, 0.5)]


def test_time_is_that_of_training(tmp_path: Path) -> None:
    restart_curves(tmp_path, [line(1), line(2), line(10)])
    reader = EventAccumulator(str(tmp_path))
    reader.Reload()
    first, second, last = (event.wall_time for event in reader.Scalars("lr"))
    assert (second - first, last - first) == pytest.approx((2, 18), abs=1e-3)


def test_what_is_begun_anew_has_no_point_twice(tmp_path: Path) -> None:
    restart_curves(tmp_path, [])
    for step in range(1, 7):
        extend_curves(tmp_path, line(step))
    (torn,) = tmp_path.glob(EVENT_FILES)
    torn.write_bytes(torn.read_bytes()[:-5])
    watching = EventAccumulator(str(tmp_path))
    watching.Reload()
    assert [event.step for event in watching.Scalars("lr")] == [1, 2, 3, 4, 5]
    restart_curves(tmp_path, [line(step) for step in range(1, 5)])
    extend_curves(tmp_path, line(5, loss_largest=7.0))
    watching.Reload()
    assert [event.step for event in watching.Scalars("lr")] == [1, 2, 3, 4, 5]
    assert [event.value for event in watching.Scalars("loss/largest")][-1] == 7.0
    assert [step for step, _ in drawn(tmp_path)["lr"]] == [1, 2, 3, 4, 5]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        restart_curves(tmp_path / "absent", [])


def test_training_draws_what_it_records_once_however_it_was_stopped(tmp_path: Path) -> None:
    settings = {"epochs": 3, "batch_size": 48, "evaluate_epochs": 3}
    toy.trainer(tmp_path, **settings).run_until(2)
    # As a kill leaves it: steps that were told and are not in the state, a line and a record that are torn.
    append_json_line(tmp_path / "metrics.jsonl", line(3))
    extend_curves(tmp_path, line(3))
    extend_curves(tmp_path, line(4))
    events = max(tmp_path.glob(EVENT_FILES))
    events.write_bytes(events.read_bytes()[:-3])
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 4, "lo')
    toy.trainer(tmp_path, **settings).run_until(4)
    found, lines = drawn(tmp_path), read_json_lines(tmp_path / "metrics.jsonl")
    assert [one["step"] for one in lines] == [2, 4]
    assert sorted(found) == ["loss/largest", "loss/random", "loss/smallest", "lr"]
    for curve, points in found.items():
        name = curve.replace("/", "_")
        assert points == [(one["step"], pytest.approx(one[name], rel=1e-6)) for one in lines if name in one]
