"""A run as it could have been, and a headless browser to look at its page."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.classification import Classification
from hwnas.report import (
    Asked,
    BlockTime,
    Candidate,
    DeviceFound,
    Finalist,
    HeldOutNetwork,
    Latency,
    LatencyFigures,
    LatencyModelQuality,
    Measurement,
    Network,
    ReportData,
    Search,
    Step,
    Table,
    Winner,
)
from hwnas.spaces import get_space
from hwnas.supernet.metrics import ClassificationMeter

GARMENTS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


@pytest.fixture(scope="session")
def sample() -> ReportData:
    """A search over the ``small`` space with invented but plausible figures."""
    return make_sample()


def make_sample(evaluations: int = 56) -> ReportData:
    rng = np.random.default_rng(7)
    space = get_space("mobilenet_v3/small", 10)
    genomes = space.sample(rng, evaluations)
    macs = space.macs(genomes)
    latency = 0.06 + 0.08 * macs / 1e6
    budget = float(np.quantile(latency, 0.75))
    latency = np.where(latency > budget, budget * rng.uniform(0.9, 0.995, evaluations), latency)
    top1 = 0.905 + 0.03 * (latency / budget) ** 0.5 + rng.normal(0, 0.002, evaluations) + 2e-5 * np.arange(evaluations)
    top1 = np.round(top1 * 5000) / 5000
    architectures = space.decode(genomes)
    order = np.lexsort((latency, -top1))
    front = [i for i in range(evaluations) if not ((latency < latency[i]) & (top1 >= top1[i])).any()]
    best = int(order[0])
    candidates = tuple(
        Candidate(
            index=i,
            id=architectures[i].id,
            top1=float(top1[i]),
            predicted_ms=float(latency[i]),
            std_ms=0.0021,
            origin="seed" if i < 16 else f"generation {(i - 16) // 8 + 1}",
        )
        for i in range(evaluations)
    )
    finalists = tuple(
        Finalist(
            id=architectures[i].id,
            top1=float(top1[i]),
            predicted_ms=float(latency[i]),
            std_ms=0.0021,
            measured=_measured(float(latency[i] * rng.normal(1, 0.006))),
            keeps_budget=True,
        )
        for i in order[:5]
    )
    blocks = space.blocks(architectures[best])
    present = space.block_indices(genomes[best : best + 1])[0] >= 0
    labels = [slot.label for slot, there in zip(space.slots, present, strict=True) if there]
    share = np.array([block.macs for block in blocks], float) + 2e4
    times = share / share.sum() * (latency[best] - 0.012)
    measured = 0.06 + 0.08 * space.macs(space.sample(rng, 48)) / 1e6
    return ReportData(
        run="quickstart",
        created=datetime(2026, 11, 23, 21, 45, tzinfo=UTC),
        command="hwnas run --target host-cpu --space mobilenet_v3/small --budget-ms 0.4 --seed 0",
        versions={"hwnas": "0.1.0", "torch": "2.13.0+cpu", "onnxruntime": "1.32.0", "nni": "3.0", "python": "3.11.2"},
        asked=Asked(
            target="host-cpu",
            space="mobilenet_v3/small",
            dataset="fashion-mnist (embedded sample)",
            runtime="onnxruntime",
            mode="CPUExecutionProvider",
            precision="fp32",
            batch=1,
            threads=1,
            budget_ms=budget,
            confidence=0.95,
            strategy="hwnas",
            seed=0,
            evaluations=evaluations,
        ),
        winner=Winner(
            id=architectures[best].id,
            choices=dict(architectures[best].choices),
            network=Network(
                name="winner",
                resolution=architectures[best].resolution,
                measured=finalists[0].measured,
                predicted_ms=float(latency[best]),
                predicted_std_ms=0.0021,
                top1_validation=float(top1[best]),
                top1_test=0.9318,
                classification=classification(GARMENTS),
                throughput=2400.0,
                macs=int(macs[best]),
                params=int(space.params(genomes[best : best + 1])[0]),
                onnx_bytes=1_050_000,
                engine_bytes=1_130_000,
                peak_memory_mib=11.2,
                build_seconds=0.031,
                parity=3.1e-6,
            ),
            blocks=tuple(
                BlockTime(label=label, spec=spec, ms=float(ms))
                for label, spec, ms in zip(labels, blocks, times, strict=True)
            ),
            overhead_ms=0.012,
        ),
        yardsticks=(
            _yardstick("largest subnet", 64, 0.94, 0.9391).model_copy(
                update={"classification": classification(GARMENTS, seed=1)}
            ),
            _yardstick("MobileNetV3-Small", 64, 0.79, None, "untrained, so it has a latency and no accuracy"),
        ),
        search=Search(
            candidates=candidates,
            front=tuple(architectures[i].id for i in front),
            finalists=finalists,
            predictor_kendall_tau=0.71,
        ),
        latency_model=LatencyModelQuality(
            held_out=tuple(
                HeldOutNetwork(
                    id=f"{i:016x}", measured_ms=float(ms), predicted_ms=float(ms * rng.normal(1, 0.012)), std_ms=0.002
                )
                for i, ms in enumerate(measured)
            ),
            figures=_figures("latency model", 0.94, 1.0, 1.0, 0.973),
            baselines=(_figures("MACs alone", 7.9, 0.41, 0.73, 0.861), _figures("block sum", 16.8, 0.0, 0.06, 0.934)),
        ),
        table=Table(
            name="mobilenet_v3-small.onnxruntime-CPUExecutionProvider-fp32-b1-t1-1a2b3c4d.json",
            kind="measured",
            created=datetime(2026, 11, 23, 21, 40, tzinfo=UTC),
            protocol={"min_samples": 64, "tolerance": 0.12, "gate": True, "warmup": {"min_seconds": 0.005}},
            blocks=459,
            blocks_measured=459,
        ),
        device=DeviceFound(
            description="This machine's CPU",
            identity8="1a2b3c4d",
            identity={
                "machine": "x86_64",
                "cpu": {"model": "Intel(R) Xeon(R) Processor", "family": ["6", "207", "2"], "isa": ["avx2", "fma"]},
                "cores": 2,
                "max_clock_mhz": None,
                "runtime": {"name": "onnxruntime", "version": "1.32.0", "threads": 1},
            },
            context={"kernel": "6.1.0", "load_average": [1.04, 0.76, 0.4], "virtual_machine": True, "temperatures": {}},
        ),
        steps=(
            Step(name="profile", seconds=180.4),
            Step(name="search", seconds=131.0),
            Step(name="train", seconds=0.0, note="skipped: weights are shipped"),
            Step(name="benchmark", seconds=24.2),
        ),
    )


def classification(names: tuple[str, ...], seed: int = 0, images: int = 4000) -> Classification:
    """Answers that are sure and mostly right, and take neighbouring classes for each other."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % len(names)
    logits = 2 * torch.randn(images, len(names), generator=generator)
    logits[torch.arange(images), labels] += 7
    logits[torch.arange(images), (labels + 2) % len(names)] += 3
    meter = ClassificationMeter(names)
    meter.update(logits, labels)
    return meter.result("test")


def _measured(p50: float) -> Measurement:
    return Measurement(
        gated=Latency(p50_ms=p50, p90_ms=p50 * 1.02, p99_ms=p50 * 1.15, samples=780),
        ungated=Latency(p50_ms=p50 * 1.21, p90_ms=p50 * 1.83, p99_ms=p50 * 2.4, samples=1980),
        builds=3,
    )


def _yardstick(name: str, resolution: int, p50: float, top1: float | None, note: str = "") -> Network:
    return Network(
        name=name,
        resolution=resolution,
        measured=_measured(p50),
        top1_test=top1,
        throughput=1000 / p50,
        macs=9_640_000,
        params=820_000,
        onnx_bytes=3_310_000,
        engine_bytes=3_390_000,
        peak_memory_mib=17.9,
        build_seconds=0.052,
        note=note,
    )


def _figures(predictor: str, mape: float, within_5: float, within_10: float, tau: float) -> LatencyFigures:
    return LatencyFigures(
        predictor=predictor,
        n=48,
        mape_percent=mape,
        within_5_percent=within_5,
        within_10_percent=within_10,
        kendall_tau=tau,
        spearman=min(tau + 0.02, 1.0),
        rmse_ms=mape / 250,
        coverage_95=0.9375 if predictor == "latency model" else None,
    )


class Browser:
    """Headless Chromium over the DevTools protocol; keeps every request and console message it is told of."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        self._connection.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            reply = self._receive()
            if reply.get("id") == number:
                assert "error" not in reply, reply["error"]
                return reply["result"]

    def open(self, path: Path, width: int, *, dark: bool = False) -> None:
        """Load a page at a width of the window in CSS pixels and wait until it is loaded."""
        mobile = width < 500
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=mobile)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.requests.clear()
        self.complaints.clear()
        self.call("Page.navigate", url=path.as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        reply = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def _receive(self) -> dict[str, Any]:
        message = json.loads(self._connection.recv(timeout=60))
        method, params = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(params))
        return message


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine: the page is not looked at in a browser")
    client = pytest.importorskip("websockets.sync.client", reason="websockets is needed to drive Chromium")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path_factory.mktemp('chromium')}", "--remote-debugging-port=0", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(
                (found[1] for line in process.stderr if (found := re.search(r"listening on (ws://\S+)", line))), None
            )
            assert address is not None, f"{program} ended before it could be driven"
            with client.connect(address, max_size=None, open_timeout=60, proxy=None) as connection:
                yield Browser(connection)
        finally:
            process.kill()
