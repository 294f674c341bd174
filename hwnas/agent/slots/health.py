"""Whether a candidate may be served: right, fast, small enough, and on a board that is not too hot to tell.

Memory comes first, in a process that the kernel kills before the service; an engine that is too big is loaded nowhere
else.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..measuring import Measurement
from ..protocol import AgentError
from ..runtimes import Engine
from ..sensors import Clocks, Sensors, memory_bytes
from ..service.client import ServiceClient
from ..service.record import find_service
from . import checks
from .checks import Check
from .manifest import Model
from .slot_files import SlotFiles

_ANSWER_WITHIN_S = 3.0
_PAUSE_S = 2.0
"""The service holds requests back for no longer; a slice of the measurement is shorter."""
_LOOK_EVERY_S = 0.1


class Health:
    """Checks candidates on this board; tests put another in its place."""

    def __init__(
        self,
        root: Path,
        patience_s: float = 60.0,
        available_bytes: Callable[[], Optional[int]] = lambda: memory_bytes("MemAvailable", Path("/proc/meminfo")),
        sensors: Callable[[bool], Sensors] = lambda gpu: Sensors(gpu=gpu),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            root: where the slots are, and the service that serves them.
            patience_s: how long the service may take to load a slot.
            available_bytes: memory of the board that a process could have; replaced in tests, as those below.
            sensors: those of a board whose engines run on a GPU or not.
            sleep: lets the service work on what has waited.
        """
        self._root = root
        self._service = ServiceClient(root, _ANSWER_WITHIN_S)
        self._patience_s = patience_s
        self._available_bytes = available_bytes
        self._sensors = sensors
        self._sleep = sleep

    def check(self, candidate: SlotFiles, current: Optional[SlotFiles]) -> Dict[str, Any]:
        """The health check's result, for the state, the audit and the host.

        ``healthy``; ``checks``, each with its ``name``, ``model``, ``ok``, what was ``found``, the ``limit``, their
        ``unit`` and what it ``says``; ``contended``, whether requests may have been answered while latency was
        measured; ``service``, whether one runs; ``live``, how it answered since the building of the engines began:
        the number of ``requests``, ``p99_ms`` (``None`` where they are too few to state it) and ``slowest_ms``.

        Raises:
            AgentError: an engine is not there or not what was built.
        """
        start = time.monotonic()
        runs = find_service(self._root) is not None
        found = self._memory(candidate, current)
        contended = False
        if all(check.ok for check in found):
            for model in candidate.manifest.models:
                of_model, alone = self._computing(candidate, model)
                found += of_model
                contended |= not alone
        return {
            "healthy": all(check.ok for check in found),
            "checks": [check.as_record() for check in found],
            "contended": contended,
            "live": self._live(_build_s(candidate) + time.monotonic() - start) if runs else None,
            "service": runs,
        }

    def refusal(self, digest: str, service: bool) -> Optional[str]:
        """Wait until the service serves a slot; gives why it does not, ``None`` if it does.

        Args:
            digest: the slot.
            service: whether one ran before the switch; if none did there is nobody to wait for.
        """
        deadline = time.monotonic() + self._patience_s
        problem = "no service has answered since"
        while service or find_service(self._root) is not None:
            with contextlib.suppress(AgentError):
                said = self._service.health()
                if said.get("digest") == digest and said.get("ready"):
                    return None
                problem = said.get("problem") or "it still serves %s" % str(said.get("digest"))[:12]
                if digest[:12] in problem:
                    return problem
            if time.monotonic() > deadline:
                return "the service did not take the slot within %.0f s: %s" % (self._patience_s, problem)
            time.sleep(_LOOK_EVERY_S)
        return None

    def _memory(self, candidate: SlotFiles, current: Optional[SlotFiles]) -> List[Check]:
        """Each model alone, then all of the candidate's and all of the current slot's in one process."""
        models = candidate.manifest.models
        found = [checks.memory_alone(candidate.engine(model), model) for model in models]
        if not all(check.ok for check in found):
            return found
        engines = [files.engine(model) for files in (candidate, current) if files for model in files.manifest.models]
        return [*found, checks.memory_together(engines, self._available_bytes())]

    def _computing(self, candidate: SlotFiles, model: Model) -> Tuple[List[Check], bool]:
        """What a model computes, how fast, and whether it was alone on the board meanwhile."""
        built = candidate.engine(model)
        try:
            engine = built.load()
        except AgentError as error:
            return [Check("golden", model.id, False, None, None, "", "it cannot be loaded: %s" % error.message)], True
        try:
            found = [checks.golden(engine, candidate, model)]
            if candidate.manifest.samples is not None:
                found.append(checks.accuracy(engine, candidate, model, candidate.manifest.samples))
            with self._sensors(built.options.on_gpu) as sensors:
                readings: List[Clocks] = []
                latency, alone = self._latency(engine, model, sensors, readings)
            return [*found, latency, checks.throttling(model, readings)], alone
        finally:
            engine.close()

    def _latency(self, engine: Engine, model: Model, sensors: Sensors, readings: List[Clocks]) -> Tuple[Check, bool]:
        """Measure in slices, with the service held back in each of them."""

        def read() -> Clocks:
            readings.append(sensors.read())
            return readings[-1]

        samples = checks.Samples(model.budget)
        alone = True
        while not samples.enough():
            start = time.monotonic()
            result, quiet = self._in_a_pause(Measurement(engine, None, samples.next_protocol(), clocks=read))
            samples.take(result)
            alone &= quiet
            self._sleep(time.monotonic() - start)
        return samples.verdict(model.id), alone

    def _in_a_pause(self, measurement: Measurement) -> Tuple[Dict[str, Any], bool]:
        """What was measured, and whether the service was quiet meanwhile."""
        if find_service(self._root) is None:
            return measurement.run(), True
        with contextlib.ExitStack() as paused:
            try:
                pause = paused.enter_context(self._service.quiesced(_PAUSE_S))
            except AgentError:
                return measurement.run(), False
            result = measurement.run()
            try:
                paused.close()
            except AgentError:  # it died meanwhile, or was stopped
                return result, False
            return result, pause.held

    def _live(self, lately_s: float) -> Optional[Dict[str, Any]]:
        """How the service answered in the last ``lately_s``; ``None`` if it does not say."""
        with contextlib.suppress(AgentError):
            return self._service.health(lately_s).get("lately")
        return None


def _build_s(candidate: SlotFiles) -> float:
    """For how long the engines of a slot were built."""
    return sum(float(candidate.engine(model).record["build_s"]) for model in candidate.manifest.models)


def unhealthy_reason(result: Dict[str, Any]) -> str:
    """What a health check found wrong, in one sentence."""
    return "; ".join("model %s: %s" % (check["model"], check["says"]) for check in result["checks"] if not check["ok"])
