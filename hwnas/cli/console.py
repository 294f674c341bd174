"""What the command line draws: progress bars, tables, one-sentence errors."""

from __future__ import annotations

import functools
import getpass
import json
import logging
import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from hwnas.questions import answered_by

P = ParamSpec("P")

out = Console()
err = Console(stderr=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines, and nothing else.")]
AcceptNewOption = Annotated[
    bool, typer.Option("--accept-new", help="Trust a board that was never seen before without asking.")
]

_drawn: list[Progress] = []
"""Progress bars on the terminal."""
_asking = threading.Lock()
"""Boards are seen to in threads, and there is one terminal."""


class _Rate(ProgressColumn):
    """Units a second, or seconds a unit where that is slower."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("–")
        unit = task.fields["unit"] or "it"
        return Text(f"{speed:.1f} {unit}/s" if speed >= 1 else f"{1 / speed:.1f} s/{unit}")


class Bars:
    """Draws :class:`hwnas.progress.Progress` tasks, one bar after the other."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: list[TaskID] = []

    def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
        """Begin a task; tasks may be nested."""
        task = self._progress.add_task(description, total=total, unit=unit.rstrip("s"), note="")
        self._drawn(task).completed = done
        self._tasks.append(task)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Move the innermost task's bar."""
        if self._tasks:
            self._progress.update(self._tasks[-1], advance=amount, note=note)

    def finish(self) -> None:
        """End the innermost task, where it is."""
        if self._tasks:
            task = self._tasks.pop()
            self._progress.update(task, completed=_unrounded(self._drawn(task)), note="")
            self._progress.stop_task(task)

    def _drawn(self, task: TaskID) -> Task:
        return next(known for known in self._progress.tasks if known.id == task)


def _unrounded(task: Task) -> float:
    """How far a task came; what it lacks by the rounding of its parts' sum, it does not lack."""
    whole = task.total or 0.0
    return whole if math.isclose(task.completed, whole) else task.completed


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars on the standard error stream, with rate and time left."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=err, transient=False, refresh_per_second=4) as progress:
        _drawn.append(progress)
        try:
            yield Bars(progress)
        finally:
            _drawn.remove(progress)


class Terminal:
    """Answers :class:`hwnas.questions.Questions` by asking whoever sits at the terminal; without one, nobody."""

    def __init__(self, accept_new: bool = False) -> None:
        """``accept_new``: trust every host that was never seen before, and say so."""
        self._accept_new = accept_new

    def trusts(self, host: str, fingerprint: str) -> bool:
        """Whether the host's key is right."""
        with _bars_stopped():
            if self._accept_new:
                err.print(f"{host} is new; its key {fingerprint} is remembered.", soft_wrap=True, highlight=False)
                return True
            question = f"{host} was never seen before. Its key is {fingerprint}. Is that right?"
            return sys.stdin.isatty() and typer.confirm(question, err=True)

    def secret(self, what: str) -> str | None:
        """What is typed, unseen."""
        with _bars_stopped():
            return getpass.getpass(f"{what}: ") if sys.stdin.isatty() else None


@contextmanager
def _bars_stopped() -> Iterator[None]:
    """Nothing is drawn over a question, and nobody else asks one meanwhile."""
    with _asking:
        for progress in _drawn:
            progress.stop()
        yield
        for progress in _drawn:
            progress.start()


def print_json(value: Any) -> None:
    """One JSON object on one line of the standard output."""
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")


def print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    """A table for people; the first column is text, the others are figures."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold")
    for index, name in enumerate(header):
        # An identity is there to be copied: it stays in one piece.
        identity = index == 0 and all(" " not in row[0] for row in rows)
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold", no_wrap=identity)
    for row in rows:
        table.add_row(*row)
    out.print(table)


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Make a command of a function: known errors become one sentence and an exit code, Ctrl-C ends cleanly."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        from hwnas.errors import HwnasError

        logging.getLogger("hwnas").addHandler(logging.NullHandler())
        try:
            with answered_by(Terminal()):
                function(*args, **kwargs)
        except HwnasError as error:
            err.print(Text.assemble(("Error: ", "bold red"), str(error)), soft_wrap=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as error:
            err.print(
                "Interrupted. What was on disk is whole; "
                "runs, profiles, searches, trainings, tunings and rollouts go on from there."
            )
            raise typer.Exit(130) from error

    return guarded


def milliseconds(value: float | None) -> str:
    """A latency with three significant decimals, or a dash."""
    return "–" if value is None else f"{value:.4g} ms"


def percent(value: float | None) -> str:
    """A fraction as per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.2f} %"


def share(value: float | None, interval: tuple[float, float] | None) -> str:
    """A fraction as per cent and below it its interval, such as ``99.0 %`` over ``96.4–99.7``, or a dash."""
    if value is None or interval is None:
        return "–"
    return f"{100 * value:.1f} %\n{100 * interval[0]:.3g}–{100 * interval[1]:.3g}"


def readable(value: Any) -> str:
    """A fact as people write it."""
    if value is None:
        return "unknown"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
