"""The search's side of its workers: a Unix socket that trials connect to, and a queue of architectures to evaluate."""

from __future__ import annotations

import json
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Thread
from typing import IO, Any

from pydantic import ValidationError

from hwnas.errors import HwnasError, UserError
from hwnas.files import describe
from hwnas.search.service.arrivals import Arrival, Arrivals
from hwnas.search.service.machines import Machine
from hwnas.search.service.recipe import Recipe
from hwnas.spaces import Architecture

log = logging.getLogger(__name__)

MOST_FAILURES = 3
"""Times that a place may lose its worker without an answer between, or an architecture may see its worker end."""


@dataclass
class Place:
    """Where one worker is kept alive.

    Attributes:
        connected: whether the trial launched last has reported.
        failures: workers lost since the last answer.
        given_up: whether too many were lost.
    """

    machine: Machine
    number: int
    connected: bool = False
    failures: int = 0
    given_up: bool = False

    @property
    def name(self) -> str:
        """For messages and NNI's web page."""
        return f"{self.machine.name}, worker {self.number}"


@dataclass
class _Task:
    architecture: Architecture
    answer: Future[Arrival] = field(default_factory=Future)
    failures: int = 0


class Pool:
    """Gives architectures to whichever worker is free, and to another one when a worker is lost.

    Args:
        path: of the socket, in a directory of the user alone.
        arrivals: known answers, which no worker is asked for again.
    """

    def __init__(self, path: Path, machines: Sequence[Machine], recipe: Recipe, arrivals: Arrivals) -> None:
        self.places = [Place(machine, i) for machine in machines for i in range(machine.workers)]
        self._recipe = recipe
        self._arrivals = arrivals
        self._tasks: dict[str, _Task] = {}
        self._waiting: deque[_Task] = deque()
        self._changed = Condition()
        self._connections: set[socket.socket] = set()
        self._error: HwnasError | None = None
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(len(self.places))
        Thread(target=self._accept, daemon=True).start()

    def begin(self, architectures: Sequence[Architecture]) -> None:
        """Have architectures evaluated, in this order as far as workers are free."""
        with self._changed:
            for architecture in architectures:
                if architecture.id not in self._tasks:
                    task = self._tasks[architecture.id] = _Task(architecture)
                    known = self._arrivals.get(architecture.id)
                    if known is None:
                        self._waiting.append(task)
                    else:
                        task.answer.set_result(known)
            self._changed.notify_all()

    def answer(self, architecture: Architecture, check: Callable[[], None], every_s: float = 0.5) -> Arrival:
        """Wait for the answer for an architecture, while ``check`` (called every now and then) raises nothing.

        Raises:
            HwnasError: the evaluation failed, or no worker is left.
        """
        self.begin([architecture])
        answer = self._tasks[architecture.id].answer
        while True:
            try:
                return answer.result(timeout=every_s)
            except TimeoutError:
                if self._error is not None:
                    raise self._error from None
                check()

    def launched(self, number: int) -> Place:
        """A trial is launched at this place."""
        place = self.places[number]
        place.connected = False
        return place

    def ended(self, number: int) -> bool:
        """A trial has ended at this place; returns whether another one should be launched."""
        place = self.places[number]
        if not place.connected:
            self._lost(place, "its trial ended at once, see trial.stderr below 'service'")
        return not (self._closed or place.given_up)

    def close(self) -> None:
        """Let all workers end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            connections = list(self._connections)
        self._listener.close()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    # --- one thread a connection ----------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """Feed one worker until it or the search ends."""
        with self._changed:
            self._connections.add(connection)
        place: Place | None = None
        try:
            with connection, connection.makefile("rw") as worker, suppress(OSError):
                place = self.places[json.loads(worker.readline())["place"]]
                place.connected = True
                _send(worker, {"command": place.machine.command()})
                _send(worker, self._recipe.model_dump(mode="json", by_alias=True))
                ready = _receive(worker)
                if "error" in ready:
                    raise UserError(f"A worker on {place.machine.name} cannot evaluate: {ready['error']}")
                if "ready" in ready:
                    ready = self._feed(worker, place)
                self._lost(place, ready.get("ended"))
        except HwnasError as error:
            self._fail(error)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            where = "a worker" if place is None else f"the worker on {place.machine.name}"
            self._fail(HwnasError(f"What {where} answers is not understood ({type(error).__name__}: {error})."))
        finally:
            with self._changed:
                self._connections.discard(connection)

    def _feed(self, worker: IO[str], place: Place) -> dict[str, Any]:
        """Give the worker task after task; returns its last words when it is lost."""
        while (task := self._take()) is not None:
            answer: dict[str, Any] = {}
            try:
                _send(worker, task.architecture.to_json())
                answer = _receive(worker)
            except OSError:
                pass
            if "top1" in answer:
                self._keep(task, place, answer)
            elif "error" in answer:
                raise HwnasError(
                    f"The evaluation of {task.architecture.id} on {place.machine.name} failed: {answer['error']}"
                )
            else:
                self._put_back(task, place, answer.get("ended"))
                return answer
        return {}

    def _take(self) -> _Task | None:
        """The next task; None when the pool is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            return None if self._closed else self._waiting.popleft()

    def _keep(self, task: _Task, place: Place, answer: dict[str, Any]) -> None:
        if answer.get("id") != task.architecture.id:
            raise HwnasError(f"The worker on {place.machine.name} answers for another architecture than it was given.")
        try:
            arrival = Arrival(id=task.architecture.id, top1=answer["top1"], seconds=answer["seconds"])
        except ValidationError as error:
            raise HwnasError(f"The evaluation of {task.architecture.id} gave {describe(error)}.") from error
        with self._changed:
            place.failures = 0
            self._arrivals.add(arrival)
        task.answer.set_result(arrival)

    def _put_back(self, task: _Task, place: Place, last_words: str | None) -> None:
        with self._changed:
            if self._closed:
                return
            task.failures += 1
            self._waiting.appendleft(task)
            self._changed.notify_all()
        if task.failures >= MOST_FAILURES:
            raise HwnasError(
                f"{task.failures} workers ended while they evaluated {task.architecture.id}, the last one on "
                f"{place.machine.name}: {last_words or 'it was killed'}."
            )

    def _lost(self, place: Place, last_words: str | None) -> None:
        """A worker has ended: NNI launches another one, unless too many were lost there."""
        with self._changed:
            if self._closed:
                return
            place.failures += 1
            place.given_up = place.failures >= MOST_FAILURES
            none_left = all(other.given_up for other in self.places)
        log.warning("%s was lost: %s", place.name, last_words or "it was killed")
        if none_left:
            self._fail(
                HwnasError(f"No worker is left; the last one, on {place.machine.name}: {last_words or 'was killed'}.")
            )

    def _fail(self, error: HwnasError) -> None:
        with self._changed:
            if self._error is None and not self._closed:
                self._error = error


def _send(worker: IO[str], value: Any) -> None:
    worker.write(json.dumps(value) + "\n")
    worker.flush()


def _receive(worker: IO[str]) -> dict[str, Any]:
    """The next answer; empty at the end."""
    line = worker.readline()
    return dict(json.loads(line)) if line.endswith("\n") else {}
