from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.errors import BadFileError, UserError
from hwnas.files import locked
from hwnas.pipeline.config import RunConfig, command_line, freeze_config
from hwnas.pipeline.steps import Steps


class Kitchen:
    """A step that counts how often it was done."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = directory / "dish.txt"
        self.cooked = 0

    def cook(self, **inputs: object) -> None:
        def action() -> None:
            self.cooked += 1
            self.output.write_text(f"dish {inputs}")

        Steps(self.directory).do("dish", inputs, lambda: [self.output], action)


def test_a_step_is_done_once_for_the_same_inputs(tmp_path: Path) -> None:
    kitchen = Kitchen(tmp_path)
    kitchen.cook(salt=1)
    kitchen.cook(salt=1)
    assert kitchen.cooked == 1
    kitchen.cook(salt=2)
    assert kitchen.cooked == 2


@pytest.mark.parametrize("harm", ["changed", "deleted", "record torn"])
def test_a_step_is_done_again_when_its_files_are_not_as_it_left_them(tmp_path: Path, harm: str) -> None:
    kitchen = Kitchen(tmp_path)
    kitchen.cook(salt=1)
    if harm == "changed":
        kitchen.output.write_text("eaten")
    elif harm == "deleted":
        kitchen.output.unlink()
    else:
        (tmp_path / "steps" / "dish.json").write_text("{")
    kitchen.cook(salt=1)
    assert kitchen.cooked == 2
    assert "salt" in kitchen.output.read_text()


def test_a_step_that_fails_is_not_recorded(tmp_path: Path) -> None:
    steps = Steps(tmp_path)

    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        steps.do("dish", {}, list, fail)
    with pytest.raises(BadFileError, match="does not exist"):
        steps.record("dish")
    assert steps.seconds() == {}


def test_steps_are_told_in_the_order_they_ended_and_parts_are_left_out(tmp_path: Path) -> None:
    steps = Steps(tmp_path)
    steps.do("second", {}, list, lambda: steps.do("first", {}, list, lambda: steps.do("part/a", {}, list, dict)))
    assert list(steps.seconds()) == ["first", "second"]


def test_a_run_goes_on_only_as_it_was_begun(tmp_path: Path) -> None:
    config = RunConfig(target="host-cpu", space="mobilenet_v3/small", dataset="fashion-mnist")
    freeze_config(tmp_path, config)
    freeze_config(tmp_path, config)
    with pytest.raises(UserError, match=r"is a run with seed = 0, not 1; give another --name"):
        freeze_config(tmp_path, config.model_copy(update={"seed": 1}))


def test_what_may_change_is_taken_over_and_the_command_is_told_as_it_was_given(tmp_path: Path) -> None:
    config = RunConfig(target="host-cpu", space="mobilenet_v3/small", dataset="my photos", budget_ms=0.5)
    freeze_config(tmp_path, config)
    freeze_config(tmp_path, config.model_copy(update={"budget_ms": 0.6, "allow_stale": True}))
    told = command_line("x", config.model_copy(update={"allow_stale": True}))
    expected = (
        "hwnas run --name x --target host-cpu --space mobilenet_v3/small --data 'my photos' --budget 0.5 --allow-stale"
    )
    assert told == expected


def test_a_directory_is_one_process_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(UserError, match="Another process is at work"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass
