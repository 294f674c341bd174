#!/usr/bin/env python3
"""What the service of a board adds to a model: requests over HTTP against calling the engine directly.

Starts the service as a process on this machine with a network of `mobilenet_v3`, and asks it over TCP and over a Unix
socket, in turn with the same engine called in this process, one by one. What the service adds is taken within each
round; the figures are medians over the rounds. With --json the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hwnas.agent.inference import infer
from hwnas.agent.judging import LEAST_SAMPLES, order_statistic
from hwnas.agent.measuring import seeded_inputs
from hwnas.agent.runtimes import Engine, RuntimeOptions, open_runtime
from hwnas.agent.service.address import parse_address
from hwnas.agent.service.client import connection_to
from hwnas.agent.service.npy import write_npy
from hwnas.cli.console import bars, print_table
from hwnas.graphs import network_graph
from hwnas.spaces import get_space
from tests.agent.service.board import Board, end
from tests.deploy.bundles import TinyBundle, tiny_bundle

CLIENTS = 4
UNITS = {"p50": "ms", "p99": "ms", "added": "ms, of a round's percentiles", "over": "service / direct", "rate": "1/s"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", default=["small"], help="of mobilenet_v3")
    parser.add_argument("--requests", type=at_least_stating, default=LEAST_SAMPLES[0.99], help="of each kind, a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()
    with bars() as progress:
        progress.start("serving", len(arguments.preset) * arguments.rounds, unit="round")
        found = [compare(preset, arguments.requests, arguments.rounds, progress.advance) for preset in arguments.preset]
        progress.finish()
    header = ["preset", "way", "p50 ms", "p99 ms", "+ p50", "+ p99", "p99 /", "per s"]
    print_table("What the service adds to calling the engine", header, [line for row in found for line in lines(row)])
    print(f"+ and /: against direct calls of the same round; per s: {CLIENTS} clients at a time (direct: one)")
    if arguments.json:
        print(json.dumps({"units": UNITS, "machine": platform.platform(), "clients": CLIENTS, "networks": found}))


def at_least_stating(text: str) -> int:
    """As many requests as a p99 can be stated of."""
    if int(text) < LEAST_SAMPLES[0.99]:
        raise argparse.ArgumentTypeError(f"a p99 is stated from {LEAST_SAMPLES[0.99]} requests on")
    return int(text)


def compare(preset: str, requests: int, rounds: int, advance: Callable[[], None]) -> dict[str, Any]:
    """Direct calls and both kinds of requests in turn, one by one, and the rate of several clients."""
    bundle, engine = bundled(preset)
    images = seeded_inputs(engine.inputs, seed=0)[0]
    body = write_npy(images)
    times: dict[str, list[list[float]]] = {"direct": [], "tcp": [], "unix": []}
    rates: dict[str, list[float]] = {name: [] for name in times}
    with served(bundle) as connect, contextlib.ExitStack() as stack:
        calls: dict[str, Callable[[], object]] = {"direct": lambda: infer(engine, images)}
        for way in ("tcp", "unix"):
            calls[way] = asking(stack.enter_context(contextlib.closing(connect(way))), body)
        for _ in range(rounds):
            for name, durations in timed_in_turn(calls, requests).items():
                times[name].append(durations)
            rates["direct"].append(1e3 * requests / sum(times["direct"][-1]))
            for way in ("tcp", "unix"):
                rates[way].append(rate(partial(connect, way), body, requests))
            advance()
    return {
        "preset": preset,
        "input": list(engine.inputs[0].shape),
        "requests": requests,
        "rounds": rounds,
        **{name: figures(times[name], times["direct"], rates[name]) for name in times},
    }


def figures(rounds: list[list[float]], direct: list[list[float]], rates: list[float]) -> dict[str, float]:
    """Medians over the rounds."""

    def median(name: Callable[[float, float], float], p: float) -> float:
        pairs = [(order_statistic(a, p), order_statistic(b, p)) for a, b in zip(rounds, direct, strict=True)]
        return statistics.median(name(found, base) for found, base in pairs)

    return {
        **{f"p{100 * p:.0f}": median(lambda found, _: found, p) for p in (0.5, 0.99)},
        **{f"p{100 * p:.0f}_added": median(lambda found, base: found - base, p) for p in (0.5, 0.99)},
        **{f"p{100 * p:.0f}_over": median(lambda found, base: found / base, p) for p in (0.5, 0.99)},
        "rate": statistics.median(rates),
    }


def timed_in_turn(calls: Mapping[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Milliseconds of each call, one of each kind after the other, so that all see the same machine."""
    durations: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            durations[name].append(1e3 * (time.perf_counter() - start))
    return durations


def asking(connection: http.client.HTTPConnection, body: bytes) -> Callable[[], object]:
    """One request on a connection that stays open, with as little of a client as there can be."""
    connection.connect()
    channel = connection.sock
    request = b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    def ask() -> None:
        channel.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += channel.recv(1 << 16)
        head, _, content = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"bench_serve: the service answered {answer!r}")
        missing = int(head.lower().partition(b"content-length:")[2].split()[0]) - len(content)
        while missing > 0:
            missing -= len(channel.recv(1 << 16))

    return ask


def rate(connect: Callable[[], http.client.HTTPConnection], body: bytes, requests: int) -> float:
    """Requests a second of several clients, each on a connection of its own."""

    def ask() -> None:
        with contextlib.closing(connect()) as connection:
            timed_in_turn({"": asking(connection, body)}, requests // CLIENTS)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return CLIENTS * (requests // CLIENTS) / (time.perf_counter() - start)


@contextlib.contextmanager
def served(bundle: TinyBundle) -> Iterator[Callable[[str], http.client.HTTPConnection]]:
    """The bundle on two services, one for each kind of address; what makes a connection."""
    with contextlib.ExitStack() as stack:
        addresses = {}
        for way in ("tcp", "unix"):
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            board = Board(home)
            board.point(bundle)
            process = stack.enter_context(
                board.serving(address="127.0.0.1:0" if way == "tcp" else f"unix:{home}/socket")
            )
            stack.callback(end, process)
            board.when(ready=True)
            addresses[way] = parse_address((board.record() or {})["address"])
        yield lambda way: connection_to(addresses[way], timeout_s=60.0)


def bundled(preset: str) -> tuple[TinyBundle, Engine]:
    """A signed bundle of a network of a preset, and its engine in this process."""
    space = get_space(f"mobilenet_v3/{preset}")
    (architecture,) = space.decode(space.sample(np.random.default_rng(0), 1))
    onnx = network_graph(space.blocks(architecture)).SerializeToString()
    runtime = open_runtime("onnxruntime")
    options = RuntimeOptions(runtime.default_provider)
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory) / "engine"
        runtime.compile(onnx, options, built)
        engine = runtime.load(built.read_bytes(), options)
    images = seeded_inputs(engine.inputs, seed=0)[0]
    template = tiny_bundle(models=(preset.replace(".", "-"),), real=False)
    (model,) = template.manifest["models"]
    replaced = {
        model["onnx"]: onnx,
        model["golden"]["inputs"]: write_npy(images),
        model["golden"]["outputs"]: write_npy(infer(engine, images)),
    }
    files = {**template.files, **replaced}
    manifest = {
        **template.manifest,
        "samples": None,
        "models": [{**model, "input": engine.inputs[0].as_record(), "outputs": [engine.outputs[0].as_record()]}],
        "files": {
            path: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in files.items()
        },
    }
    return TinyBundle(manifest, files, template.keys), engine


def lines(row: dict[str, Any]) -> list[list[str]]:
    """Of the table."""
    found = []
    for way in ("direct", "tcp", "unix"):
        of = row[way]
        added = (
            ["", "", ""]
            if way == "direct"
            else [f"{of['p50_added']:.3f}", f"{of['p99_added']:.3f}", f"{of['p99_over']:.2f}"]
        )
        found.append([row["preset"], way, f"{of['p50']:.3f}", f"{of['p99']:.3f}", *added, f"{of['rate']:.0f}"])
    return found


if __name__ == "__main__":
    main()
