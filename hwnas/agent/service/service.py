"""What serves now, and what changes it: a slot, a budget, heat."""

from __future__ import annotations

import contextlib
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from ..arrays import Array
from ..inference import require_samples
from ..protocol import AgentError, ErrorKind
from ..slots.slot_files import SlotFiles
from .choice import Governor, choose, most_steps
from .executor import LoadedSlot
from .metrics import Metrics
from .pause import MOST_S, Pause
from .record import keep_budget, kept_budget

_QUIET_WITHIN_S = 10.0


class Serving(NamedTuple):
    """The slot and the model that requests are bound to as they come."""

    slot: LoadedSlot
    place: int
    fits: bool
    """Whether the model keeps the budget."""
    since: str


class Answer(NamedTuple):
    """Of a request."""

    outputs: Dict[str, Array]
    digest: str
    model: str


class Service:
    """The state that all threads share; every method may be called by any of them."""

    def __init__(self, root: Path, metrics: Metrics, governor: Governor) -> None:
        self._root = root
        self._metrics = metrics
        self._governor = governor
        self._lock = threading.Lock()
        self._keeping = threading.Lock()
        self._serving: Optional[Serving] = None
        self._pause: Optional[Pause] = None
        self._budget_ms = kept_budget(root)
        self._slowed_by: List[str] = []
        self.problem: Optional[str] = None
        """Why the active slot is not the one that serves."""
        self.fault: Optional[str] = None
        """What broke the device for this process; only another process can go on."""

    @property
    def serving(self) -> Optional[Serving]:
        """What serves now."""
        return self._serving

    def infer(self, images: Array) -> Answer:
        """The answer of the model that serves, whatever serves when it is ready.

        Raises:
            AgentError: ``bad-request`` when it takes other samples; ``busy`` when nothing serves; what a runtime says.
        """
        with self._lock:  # a slot gets no request after its retirement
            serving = self._required()
            slot, place = serving.slot, serving.place
            require_samples(slot.models[place].engine, images)
            future = slot.infer(place, images)
        try:
            return Answer(future.result(), slot.manifest.digest, slot.models[place].model.id)
        except AgentError as error:
            if error.kind == ErrorKind.DEVICE_FAULT:
                self.fault = error.message
            raise

    def load(self, files: SlotFiles) -> None:
        """Load a slot beside the one that serves, and let it serve from then on; the old one is unloaded.

        Raises:
            AgentError: it cannot be loaded; the old one goes on.
        """
        loaded = LoadedSlot(files, self._exclusive)
        self._wait_for_pause()
        with self._lock:
            old, self._serving = self._serving, self._chosen(loaded, _now())
            self.problem = None
        if old is not None:
            self._metrics.switched("slot")
            old.slot.retire()

    def stop(self) -> None:
        """Serve nothing any more; what was accepted is answered first."""
        with self._lock:
            old, self._serving = self._serving, None
        if old is not None:
            old.slot.retire()
            old.slot.join()

    def set_budget(self, latency_ms: Optional[float]) -> None:
        """Keep to a budget from now on, also after a restart; ``None``: to none.

        Raises:
            OSError: it cannot be written; the budget is as it was.
        """
        with self._keeping:  # apart from the other lock: a disk takes its time
            keep_budget(self._root, latency_ms)
            self._take_budget(latency_ms)

    def read_budget(self) -> None:
        """Keep to the budget that is written in the root, whoever wrote it."""
        with self._keeping:
            self._take_budget(kept_budget(self._root))

    def observe_heat(self, slowed_by: List[str], now: float) -> None:
        """Take one more reading of what slows the device down; ``now`` in s."""
        with self._lock:
            self._slowed_by = slowed_by
            serving = self._serving
            most = 0 if serving is None else most_steps(serving.slot.expected_ms, self._budget_ms)
            self._governor.observe(bool(slowed_by), now, most)
            self._choose_again("throttling")

    def quiesce(self, seconds: float) -> None:
        """Let requests wait for at most so long, from when those accepted before are done.

        Raises:
            AgentError: ``busy`` when they wait already, or those before do not get done.
        """
        with self._lock:
            if self._pause is not None and self._pause.in_force:
                raise AgentError(ErrorKind.BUSY, "the service is paused already; resume it first")
            pause = self._pause = self._begun(seconds)
        if not pause.quiet.wait(_QUIET_WITHIN_S):
            pause.resume()
            raise AgentError(ErrorKind.BUSY, "requests in flight did not end within %d s" % _QUIET_WITHIN_S)

    def resume(self) -> "tuple[float, bool]":
        """End the pause; gives for how long it was, in s, and whether it had ended by itself before.

        Raises:
            AgentError: ``bad-request`` where there was none.
        """
        with self._lock:
            pause, self._pause = self._pause, None
        if pause is None:
            raise AgentError(ErrorKind.BAD_REQUEST, "the service is not paused")
        return pause.resume()

    @property
    def busy_s(self) -> float:
        """For how long the present job has been done."""
        serving = self._serving
        return 0.0 if serving is None else serving.slot.busy_s

    def state(self) -> Dict[str, Any]:
        """All that can be said of it, for people and programs."""
        serving, slowed_by = self._serving, self._slowed_by
        known: Dict[str, Any] = {
            "ready": serving is not None,
            "problem": self.problem,
            "budget_ms": self._budget_ms,
            "throttled": slowed_by,
        }
        if serving is None:
            return {**known, "digest": None, "model": None}
        manifest, models = serving.slot.manifest, serving.slot.models
        return {
            **known,
            "digest": manifest.digest,
            "name": manifest.name,
            "version": manifest.version,
            "since": serving.since,
            "model": models[serving.place].model.id,
            "fits": serving.fits,
            "models": [
                {"id": loaded.model.id, "accuracy": loaded.model.accuracy, **loaded.expected.as_record()}
                for loaded in models
            ],
        }

    def _required(self) -> Serving:
        if self._serving is None:
            raise AgentError(ErrorKind.BUSY, "nothing is served yet: %s" % (self.problem or "no slot is active"))
        return self._serving

    def _chosen(self, slot: LoadedSlot, since: str) -> Serving:
        choice = choose(slot.expected_ms, self._budget_ms, self._governor.steps)
        return Serving(slot, choice.place, choice.fits, since)

    def _take_budget(self, latency_ms: Optional[float]) -> None:
        with self._lock:
            self._budget_ms = latency_ms
            self._choose_again("budget")

    def _choose_again(self, cause: str) -> None:
        before = self._serving
        if before is not None:
            self._serving = self._chosen(before.slot, before.since)
            if self._serving.place != before.place:
                self._metrics.switched(cause)

    def _begun(self, seconds: float) -> Pause:
        """A pause behind all jobs; where there are none, of nothing."""
        pause = Pause(seconds)
        if self._serving is None:
            pause.begin()
        else:
            self._serving.slot.do(pause)
        return pause

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[bool]:
        with self._lock:
            pause = self._begun(MOST_S)
        quiet = pause.quiet.wait(MOST_S)
        try:
            yield quiet
        finally:
            pause.resume()

    def _wait_for_pause(self) -> None:
        """A slot must not begin to serve while whoever paused the old one relies on it."""
        pause = self._pause
        while pause is not None and pause.in_force:
            pause.over.wait(0.1)


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
