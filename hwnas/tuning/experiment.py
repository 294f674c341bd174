"""The NNI experiment that drives a tuning: NNI's server launches a trial for each run that the tuner proposes."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from hwnas.errors import HwnasError
from hwnas.progress import Progress
from hwnas.search.nni_setup import (
    CommandType,
    CustomAlgorithmConfig,
    Experiment,
    ExperimentConfig,
    RunMode,
    TunerCommandChannel,
    nni,
)
from hwnas.search.service.manager import OwnServer
from hwnas.search.service.server import Server
from hwnas.tuning.halving import SuccessiveHalving
from hwnas.tuning.ranges import Ranges
from hwnas.tuning.schedule import Schedule

log = logging.getLogger(__name__)

MOST_FAILURES = 3
"""Times that a run may see its trial end without a result."""
EVERY_S = 0.5


class TuningExperiment(OwnServer, Experiment):  # type: ignore[misc]
    """A hyper-parameter experiment of NNI whose tuner is in this process.

    NNI would start the tuner in a process of its own, from where an exception reaches nobody and which would know
    nothing of our record.  Here this process answers the commands that NNI's server has for a tuner.  All runs that can
    be proposed are sent at once; the server queues them and launches as many at a time as its concurrency allows.
    """

    def __init__(self, server: Server, ranges: Ranges, workers: int) -> None:
        config = ExperimentConfig("local")
        config.search_space = ranges
        config.trial_concurrency = workers
        config.trial_command = "true"  # the server of ours sets the real one
        config.trial_code_directory = server.work
        config.experiment_working_directory = server.work
        config.log_level = "warning"
        # For the web page alone; NNI wants a directory to import it from, but does not.
        config.tuner = CustomAlgorithmConfig(
            class_name=f"{SuccessiveHalving.__module__}.{SuccessiveHalving.__qualname__}",
            code_directory=str(Path(__file__).parents[2]),
        )
        super().__init__(config, id=server.experiment)
        self._server = server


class Conductor:
    """Answers NNI's server until nothing is left to train.

    Args:
        schedule: settled.
        bar: started.
    """

    def __init__(self, schedule: Schedule, server: Server, bar: Progress) -> None:
        self._schedule = schedule
        self._server = server
        self._bar = bar
        self._done = schedule.steps_done()
        self._channel = TunerCommandChannel(server.channel)
        self._commands: Queue[tuple[CommandType, str]] = Queue()
        self._launches = count()
        self._runs: dict[int, int] = {}
        self._failures: Counter[int] = Counter()

    def conduct(self) -> None:
        """Let trials train until nothing is left.

        Raises:
            HwnasError: a trial failed, trials end without a result again and again, or NNI's server has ended.
        """
        self._channel.connect()
        Thread(target=self._listen, daemon=True).start()
        while not self._schedule.finished:
            try:
                command, data = self._commands.get(timeout=EVERY_S)
            except Empty:
                self._server.check()
                self._show()
                continue
            self._obey(command, data)
            for number in self._schedule.settle():
                self._launch(number)
            self._show()

    def _listen(self) -> None:
        with suppress(Exception):  # the server has ended, which check() tells
            while True:
                command, data = self._channel._receive()
                if command is None or command is CommandType.Terminate:
                    return
                self._commands.put((command, data))

    def _obey(self, command: CommandType, data: str) -> None:
        if command is CommandType.Initialize:
            self._channel._send(CommandType.Initialized, "")
            for number in self._schedule.open:
                if self._schedule.result(number) is None:
                    self._launch(number)
        elif command is CommandType.TrialEnd:
            trial = nni.load(data)
            self._ended(self._runs.pop(nni.load(trial["hyper_params"])["parameter_id"]))

    def _launch(self, number: int) -> None:
        """Have a trial launched for a proposal."""
        run = self._schedule.run(number)
        launch = next(self._launches)
        self._runs[launch] = number
        parameters = {"configuration": run.configuration, "rung": run.rung, "steps": run.end, **run.values}
        trial = {"parameter_id": launch, "parameters": parameters, "parameter_source": "algorithm"}
        self._channel._send(CommandType.NewTrialJob, nni.dump(trial | {"parameter_index": 0}))

    def _ended(self, number: int) -> None:
        """A trial has ended; without a result it was killed, and another one goes on, or it says why."""
        if self._schedule.result(number) is not None:
            return
        folder, run = self._schedule.folder(number), self._schedule.run(number)
        if folder.error is not None:
            raise HwnasError(f"The trial of configuration {run.configuration} failed: {folder.error}")
        self._failures[number] += 1
        if self._failures[number] >= MOST_FAILURES:
            raise HwnasError(
                f"{MOST_FAILURES} trials of configuration {run.configuration} were killed or ended without a word; "
                f"see trial.stderr below {self._server.directory}."
            )
        log.warning("a trial of configuration %d was lost", run.configuration)
        self._launch(number)

    def _show(self) -> None:
        done = self._schedule.steps_done()
        running = ", ".join(
            str(self._schedule.run(number).configuration) for number in sorted(set(self._runs.values()))
        )
        self._bar.advance(max(done - self._done, 0), note=f"configurations {running}")
        self._done = max(done, self._done)


def run_tuning_experiment(schedule: Schedule, server: Server, ranges: Ranges, workers: int, bar: Progress) -> None:
    """Have everything trained that a schedule still wants, ``workers`` runs at the same time.

    Raises:
        Whatever :meth:`Conductor.conduct` raises, KeyboardInterrupt included.
    """
    experiment = TuningExperiment(server, ranges, workers)
    try:
        # Detached: else NNI registers an exit hook.
        experiment.start(run_mode=RunMode.Detach)
        Conductor(schedule, server, bar).conduct()
    finally:
        experiment.stop()
