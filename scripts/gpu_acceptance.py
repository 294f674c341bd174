#!/usr/bin/env python3
"""Everything that an NVIDIA GPU can show of hwnas, in calls of at most nine minutes, as one JSON.

Stages: the device and its runtimes; the agent under CUDA events (repeatability, transfers, clocks); numbers against
ONNX Runtime's on the CPU; providers and precisions of runtime `torch`; clocks and power under load; latency tables of
`small` and `imagenet-w1.0` with held-out figures; TensorRT and ONNX Runtime's GPU providers where they are installed.
Each stage is done once; run the same command until it ends with status 0. Where there is a GPU for one call alone,
--stages says what is worth it. With --device cpu the same is done on the CPU, to test this script: its results say so,
and no table goes to latency_tables.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from acceptance import UNFINISHED, Acceptance, Found, Stage, add_stages, asked_of, chosen

from hwnas.agent.node_model import read_node_model
from hwnas.agent.nvml import open_nvml
from hwnas.agent.runtimes import RuntimeOptions
from hwnas.cli.console import bars
from hwnas.devices import CompileOptions, Device, Measurement, MeasureOptions, RuntimeChoice, load_target, open_device
from hwnas.errors import HwnasError, UserError
from hwnas.files import read_json_lines
from hwnas.graphs import as_node_file, graph_in_precision, network_graph
from hwnas.latency import ProfileOptions, profile
from hwnas.latency.figures import ValidationFigures
from hwnas.spaces import Space, get_space

SPACES = {"small": 4.0, "imagenet-w1.0": 12.0}
"""Preset to the minutes that its table is measured for."""
RESOLUTIONS = {"small": None, "imagenet-w1.0": (128, 176, 224)}
PROVIDERS = {"cuda": ("cudagraph", "cuda", "cudacompile"), "cpu": ("cpu", "cpucompile")}
PRECISIONS = {"cuda": ("fp32", "fp16", "bf16"), "cpu": ("fp32", "bf16")}
OTHERS = (("onnxruntime", "CUDAExecutionProvider"), ("onnxruntime", "TensorrtExecutionProvider"))
OTHERS += (("tensorrt", "gpu"), ("tensorrt_rtx", "gpu"))
MEASURE = MeasureOptions(min_samples=256, max_seconds=4.0)
LOAD_S = 5.0
TABLE_MARGIN_S = 10.0
"""For what a table takes beside its measurements."""
LAYOUTS = ("channels-last", "contiguous")
ROUNDS = 20
"""In each of which either layout is timed."""
DRY = "it is a dry run on the CPU, made to test the script."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call (default: 9)")
    parser.add_argument("--state", type=Path, help="directory of what is done (default: runs/gpu_acceptance[-dry])")
    parser.add_argument("--tables", type=Path, help="directory of latency tables (default: latency_tables)")
    parser.add_argument("--small-minutes", type=float, default=SPACES["small"])
    parser.add_argument("--imagenet-minutes", type=float, default=SPACES["imagenet-w1.0"])
    parser.add_argument("--without-compile", action="store_true", help="leave torch.compile out: it takes minutes")
    add_stages(parser)
    arguments = parser.parse_args()
    try:
        sys.exit(0 if accept(arguments) else UNFINISHED)
    except HwnasError as error:
        print(f"gpu_acceptance: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def accept(arguments: argparse.Namespace) -> bool:
    """Whether all is done."""
    dry = arguments.device == "cpu"
    state = arguments.state or Path("runs") / ("gpu_acceptance-dry" if dry else "gpu_acceptance")
    tables = arguments.tables or (state / "tables" if dry else Path("latency_tables"))
    if dry and tables.resolve().name == "latency_tables":
        raise UserError("A dry run on the CPU writes no table into latency_tables; leave --tables out.")
    with open_device(load_target("host-cpu" if dry else "local-gpu")) as device:
        stages = Stages(device, arguments.device, tables, arguments.without_compile, arguments.stages is not None).all(
            {"small": arguments.small_minutes, "imagenet-w1.0": arguments.imagenet_minutes}
        )
        asked = chosen(stages, arguments.stages)
        options = RuntimeChoice("torch").options(device.target)
        device.release(device.compile(network(get_space("mobilenet_v3/small"), seed=0), options))  # or says why not
        identity8 = device.fingerprint(options).identity8
        acceptance = Acceptance(
            "gpu_acceptance", device.target.name, state, identity8, arguments.minutes, DRY if dry else None
        )
        done = acceptance.run(asked)
        print(f"{acceptance.write_results(stages)}: {'complete' if done else 'not complete, run this again'}")
        return done


@dataclass
class Stages:
    device: Device
    kind: str
    tables: Path
    without_compile: bool
    one_call: bool = False
    """Nothing is left to a later call: a table is what there was time for."""

    def all(self, minutes: dict[str, float]) -> list[Stage]:
        providers = [name for name in PROVIDERS[self.kind] if not (self.without_compile and "compile" in name)]
        return [
            Stage("device", self.describe),
            Stage("agent", self.repeat, least_s=30),
            Stage("numbers", self.compare, least_s=30),
            Stage("layouts", self.layouts, least_s=30),
            *(Stage(f"torch-{name}", partial(self.variants, name), least_s=60) for name in providers),
            Stage("load", self.load),
            *(Stage(f"table-{preset}", partial(self.table, preset, n), least_s=15) for preset, n in minutes.items()),
            *(Stage(f"{runtime}-{provider}", partial(self.other, runtime, provider)) for runtime, provider in OTHERS),
        ]

    def describe(self, _: float) -> Found:
        """The device as each runtime finds it, and its clocks and watts at rest."""
        target = self.device.target
        fingerprints = {
            f"{runtime}-{provider}": asked_of(
                self.device, partial(self.fingerprint, CompileOptions(runtime, provider=provider))
            )
            for runtime, support in target.runtimes.items()
            for provider in support.providers
        }
        return {"fingerprints": fingerprints, "at_rest": gpu_reading()}

    def fingerprint(self, options: CompileOptions) -> Found:
        return dict(self.device.fingerprint(options).model_dump(mode="json"))

    def repeat(self, _: float) -> Found:
        """Two builds of one network measured twice each, in turns."""
        onnx = network(get_space("mobilenet_v3/small"), seed=0)
        options = self.options()
        engines = [self.device.compile(onnx, options) for _ in range(2)]
        rounds = [[self.device.measure(engine, MEASURE) for engine in engines] for _ in range(2)]
        for engine in engines:
            self.device.release(engine)
        medians = [[p50(measurement) for measurement in measured] for measured in rounds]
        known = [ms for measured in medians for ms in measured if ms is not None]
        return {
            "p50_ms": medians,
            "largest_difference": max(known) / min(known) - 1 if known else None,
            "first": brief(rounds[0][0]),
            "clocks": [vars(reading) for reading in rounds[0][0].clocks[:: max(1, len(rounds[0][0].clocks) // 3)]],
        }

    def compare(self, _: float) -> Found:
        """Logits of each precision against FP32 by ONNX Runtime on the CPU; relative to the largest logit."""
        onnx = network(get_space("mobilenet_v3/small"), seed=0)
        images = np.random.default_rng(0).standard_normal(shape_of(onnx)).astype(np.float32)
        with open_device(load_target("host-cpu")) as host:
            expected = host.infer(host.compile(onnx), images)
        found = {}
        for precision in PRECISIONS[self.kind]:
            engine = self.device.compile(onnx, self.options(precision=precision))
            found[precision] = float(
                np.abs(self.device.infer(engine, images) - expected).max() / np.abs(expected).max()
            )
            self.device.release(engine)
        return {"largest_relative_error": found}

    def layouts(self, _: float) -> Found:
        """The same network channels-last and contiguous, in turns in this process: which layout runtime torch takes."""
        from hwnas.agent.runtimes.torch_engines import CudaTorchEngine, TorchEngine
        from hwnas.agent.runtimes.torch_program import build_program

        make = CudaTorchEngine if self.kind == "cuda" else TorchEngine
        found: Found = {}
        for preset in SPACES:
            model = read_node_model(as_node_file(extreme(get_space(f"mobilenet_v3/{preset}"), "largest")))
            for precision in PRECISIONS[self.kind]:
                options = RuntimeOptions(PROVIDERS[self.kind][0], precision)
                programs = {name: build_program(model, precision, name == "channels-last") for name in LAYOUTS}
                engines = {name: make(program, model, options) for name, program in programs.items()}
                times = {name: [] for name in LAYOUTS}
                for _round in range(ROUNDS):
                    for name, engine in engines.items():
                        times[name].append(min(engine.timed_runs(5)) / 1e6)
                medians = {name: float(np.median(rounds)) for name, rounds in times.items()}
                fastest = {name: min(rounds) for name, rounds in times.items()}
                found[f"{preset} {precision}"] = {"median_ms": medians, "fastest_ms": fastest}
        return {"networks": found}

    def variants(self, provider: str, seconds: float) -> Found | None:
        """Smallest and largest network of both spaces in each precision; compiled programs of one network alone.

        As many as there is time for; None if that is none.
        """
        found = {}
        ends = time.monotonic() + seconds - 30
        for preset in ("small",) if "compile" in provider else SPACES:
            space = get_space(f"mobilenet_v3/{preset}")
            for size in ("largest",) if "compile" in provider else ("smallest", "largest"):
                for precision in PRECISIONS[self.kind]:
                    if time.monotonic() < ends:
                        measure = partial(self.measured, extreme(space, size), self.options(provider, precision))
                        found[f"{preset} {size} {precision}"] = asked_of(self.device, measure)
        return {"networks": found} if found else None

    def load(self, _: float) -> Found:
        """Clocks and watts while the largest network runs."""
        onnx = extreme(get_space("mobilenet_v3/imagenet-w1.0"), "largest")
        readings: list[Found] = []
        over = threading.Event()
        watcher = threading.Thread(target=watch, args=(readings, over))
        watcher.start()
        try:
            busy = replace(MEASURE, min_seconds=LOAD_S, max_seconds=2 * LOAD_S)
            measured = self.measured(onnx, self.options(), busy)
        finally:
            over.set()
            watcher.join()
        return {"network": measured, "readings": readings}

    def table(self, preset: str, minutes: float, seconds: float) -> Found | None:
        """As much of a table as there is time for; None while its minutes are not spent and may be by another call."""
        space = get_space(f"mobilenet_v3/{preset}")
        if seconds <= TABLE_MARGIN_S:
            return None
        spent = self.spent_minutes(space)
        until = min(minutes, spent + (seconds - TABLE_MARGIN_S) / 60)
        minutes = until if self.one_call else minutes
        options = ProfileOptions(minutes=until, resolutions=RESOLUTIONS[preset], compile=self.options())
        try:
            with bars() as progress:
                table, path = profile(self.device, space, self.tables, options, progress)
        except UserError:
            if until < minutes:
                return None  # too few blocks yet, which the next call measures
            raise
        if until < minutes:
            return None
        return {
            "table": str(path),
            "blocks": len(table.blocks),
            "missing": table.missing.model_dump(mode="json"),
            "held_out": figures(table.validation),
        }

    def spent_minutes(self, space: Space) -> float:
        """Of earlier calls, by the table's journal."""
        name = f"{space.family}-{space.preset}.torch-*.journal.jsonl"
        journals = sorted((self.tables / self.device.target.name).glob(name), key=lambda path: path.stat().st_mtime)
        lines = read_json_lines(journals[-1])[1:] if journals else []
        return sum(record["seconds"] for record in lines) / 60

    def other(self, runtime: str, provider: str, _: float) -> Found:
        """Another runtime on the same networks, or why it is not there."""
        space, found = get_space("mobilenet_v3/small"), {}
        for precision in ("fp32", "fp16"):
            onnx = graph_in_precision(graph(space, "largest"), precision).SerializeToString()
            options = CompileOptions(runtime, precision, provider=provider)
            found[precision] = asked_of(self.device, partial(self.measured, onnx, options))
        return {"networks": found}

    def measured(self, onnx: bytes, options: CompileOptions, measure: MeasureOptions = MEASURE) -> Found:
        engine = self.device.compile(onnx, options)
        try:
            return {**brief(self.device.measure(engine, measure)), "build_s": engine.build_s, "load_s": engine.load_s}
        finally:
            self.device.release(engine)

    def options(self, provider: str | None = None, precision: str | None = None) -> CompileOptions:
        return RuntimeChoice("torch", provider, precision).options(self.device.target)


def watch(readings: list[Found], over: threading.Event) -> None:
    """A reading of the GPU every tenth of a second."""
    while not over.wait(0.1):
        readings.append({"seconds": round(time.monotonic(), 2), **gpu_reading()})


def gpu_reading() -> Found:
    """Clocks and watts of this moment; empty without a GPU."""
    nvml = open_nvml()
    if nvml is None:
        return {}
    try:
        return {**nvml.read()._asdict(), "watts": nvml.power_watts()}
    finally:
        nvml.close()


def brief(measurement: Measurement) -> Found:
    """What a reader wants of a measurement."""
    return {
        "gated": vars(measurement.gated),
        "ungated": vars(measurement.ungated),
        "upload_ms": measurement.upload_ms,
        "download_ms": measurement.download_ms,
        "canary_ms": measurement.fast_state_ms,
        "batches_with_moved_clocks": sum(measurement.clocks_moved),
        "throttled": sorted({reason for reading in measurement.clocks for reason in reading.throttled}),
    }


def p50(measurement: Measurement) -> float | None:
    return measurement.gated.p50_ms or measurement.ungated.p50_ms


def figures(validation: ValidationFigures | None) -> Any:
    return None if validation is None else validation.model_dump(mode="json")


def network(space: Space, seed: int) -> bytes:
    genome = space.sample(np.random.default_rng(seed), 1)
    return bytes(network_graph(space.network(space.decode(genome)[0])).SerializeToString())


def graph(space: Space, size: str) -> Any:
    """The network with the fewest or the most multiply-accumulates of a thousand."""
    genomes = space.sample(np.random.default_rng(0), 1000)
    order = np.argsort(space.macs(genomes))
    chosen = order[0] if size == "smallest" else order[-1]
    return network_graph(space.network(space.decode(genomes[chosen : chosen + 1])[0]))


def extreme(space: Space, size: str) -> bytes:
    return bytes(graph(space, size).SerializeToString())


def shape_of(onnx: bytes) -> list[int]:
    from hwnas.graphs import translate

    return list(next(iter(translate(onnx).inputs.values())))


if __name__ == "__main__":
    main()
