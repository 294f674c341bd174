"""What is asked on the terminal, and what is not where there is none."""

from __future__ import annotations

import getpass
import os
import pty
import subprocess
import sys

import pytest

from hwnas.cli.console import Terminal, bars
from hwnas.questions import Nobody, answered_by, answering


def test_nobody_answers_unless_somebody_is_named() -> None:
    assert not answering().trusts("board", "SHA256:x")
    assert answering().secret("Password") is None
    terminal = Terminal()
    with answered_by(terminal):
        assert answering() is terminal
    assert isinstance(answering(), Nobody)


def test_without_a_terminal_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123
    assert not Terminal().trusts("board", "SHA256:x")
    assert Terminal().secret("Password of me@board") is None
    assert Terminal(accept_new=True).trusts("board", "SHA256:x")
    assert "board is new; its key SHA256:x is remembered." in capfd.readouterr().err


@pytest.mark.parametrize(("typed", "trusted"), [("y", True), ("", False), ("n", False)])
def test_a_person_is_asked_for_a_key(typed: str, trusted: bool) -> None:
    code = "from hwnas.cli.console import Terminal; print('trusted', Terminal().trusts('board', 'SHA256:x'))"
    near, far = pty.openpty()
    asked = subprocess.Popen([sys.executable, "-c", code], stdin=far, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(far)
    os.write(near, typed.encode() + b"\n")
    said, question = asked.communicate(timeout=60)
    os.close(near)
    assert b"board was never seen before. Its key is SHA256:x. Is that right? [y/N]" in question
    assert said.decode().split() == ["trusted", str(trusted)]


def test_a_task_that_ends_early_is_not_drawn_as_done() -> None:
    with bars() as progress:
        progress.start("training", 161175, done=100, unit="steps")
        progress.start("inner", 3)
        progress.advance(3)
        progress.finish()
        progress.advance(50)
        progress.finish()
        training, inner = progress._progress.tasks
    assert (training.completed, training.total, training.finished) == (150, 161175, False)
    assert training.stop_time is not None, "its clock stands"
    assert inner.finished


def test_a_task_whose_parts_sum_to_the_whole_is_done_but_for_rounding() -> None:
    with bars() as progress:
        progress.start("sending", 0.3)
        for _ in range(3):
            progress.advance(0.1)
        progress.start("sending", 1233.7, done=100.6)
        for _ in range(7):
            progress.advance(1133.1 / 7)
        progress.finish()
        progress.finish()
        assert all(task.finished for task in progress._progress.tasks)


def test_no_bar_is_drawn_over_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def typed(prompt: str) -> str:
        drawn.append(progress._progress.live.is_started)
        return f"typed at {prompt}"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", typed)
    with bars() as progress:
        progress.start("profile", 3)
        assert progress._progress.live.is_started
        assert Terminal().secret("Password of me@board") == "typed at Password of me@board: "
        assert progress._progress.live.is_started
    assert drawn == [False]
