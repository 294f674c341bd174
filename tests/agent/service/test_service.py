"""The state that all threads share, over slots that a test makes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.runtimes import TensorInfo
from hwnas.agent.service import service as module
from hwnas.agent.service.choice import Governor
from hwnas.agent.service.metrics import Metrics
from hwnas.agent.service.service import Service
from tests.agent.service.board import until

IMAGES = np.zeros((1, 2), np.float32)


class FakeSlot:
    """Adds its number to what it is given; its engine may break."""

    def __init__(self, number: int, _: Callable[[], Any]) -> None:
        self.number = number
        self.manifest = SimpleNamespace(digest=str(number) * 64, name="fake", version=number)
        engine = SimpleNamespace(inputs=[TensorInfo("input", "float32", (1, 2))])
        self.models = [SimpleNamespace(engine=engine, model=SimpleNamespace(id="m"))]
        self.expected_ms = [1.0]
        self.retired = False
        self._thread = ThreadPoolExecutor(1)

    def infer(self, place: int, images: np.ndarray) -> Future[dict[str, np.ndarray]]:
        assert not self.retired, "a request for a slot that is gone"
        return self._thread.submit(self._compute, images)

    def do(self, job: Callable[[], Any]) -> Future[Any]:
        return self._thread.submit(job)

    def retire(self) -> None:
        self.retired = True
        self._thread.shutdown(wait=False)

    def join(self) -> None:
        self._thread.shutdown()

    def _compute(self, images: np.ndarray) -> dict[str, np.ndarray]:
        if self.number == 9:
            raise AgentError(ErrorKind.DEVICE_FAULT, "CUDA's cudaMemcpy failed with cudaErrorIllegalAddress")
        return {"sum": images + self.number}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(module, "LoadedSlot", FakeSlot)
    return Service(tmp_path, Metrics(), Governor())


def load(service: Service, number: int) -> None:
    files: Any = number
    service.load(files)


def test_no_request_meets_a_slot_that_is_gone(service: Service) -> None:
    load(service, 1)
    stop = threading.Event()
    found: list[tuple[float, str]] = []

    def ask() -> None:
        while not stop.is_set():
            answer = service.infer(IMAGES)
            found.append((float(answer.outputs["sum"][0, 0]), answer.digest[0]))

    with ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(ask) for _ in range(3)]
        for number in range(40):
            load(service, 1 + number % 2)
            answers = len(found)
            until(lambda answers=answers: len(found) > answers + 3)  # so that one came for this slot
        stop.set()
        for client in asked:
            client.result()
    assert {digest for _, digest in found} == {"1", "2"}
    assert all(value == float(digest) for value, digest in found)
    service.stop()


def test_a_fault_of_the_device_ends_more_than_the_request(service: Service) -> None:
    load(service, 9)
    assert service.fault is None
    with pytest.raises(AgentError, match="cudaErrorIllegalAddress"):
        service.infer(IMAGES)
    assert service.fault == "CUDA's cudaMemcpy failed with cudaErrorIllegalAddress"


def test_a_slot_does_not_begin_to_serve_within_a_pause(service: Service) -> None:
    load(service, 1)
    service.quiesce(2.0)
    switching = threading.Thread(target=load, args=(service, 2))
    switching.start()
    assert service.serving is not None
    assert service.serving.slot.manifest.version == 1
    assert not service.resume()[1]
    switching.join()
    assert service.serving.slot.manifest.version == 2
