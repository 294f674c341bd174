#!/usr/bin/env python3
"""On a Jetson: profile, search, build with TensorRT, compare with trtexec, and one JSON to send to the project.

Runs on the board itself. The JSON, <state>/results.json, is what `hwnas tables import results FILE` takes; it holds
no names, addresses or serial numbers: the device's model, versions and clocks, latencies, and what was searched.
Each stage is done once; a call that ends with status 75 goes on when it is run again. With --dry-run the same is done
on any machine's CPU with ONNX Runtime, to test this script: its results say so and cannot be imported.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from acceptance import UNFINISHED, Acceptance, Found, Stage, add_stages, chosen

from hwnas.agent import arrays
from hwnas.agent.measuring import seeded_inputs
from hwnas.agent.protocol import AgentError
from hwnas.agent.queries import measure_queries
from hwnas.agent.runtimes import Engine, RuntimeOptions, open_runtime
from hwnas.agent.trtexec import TrtexecKnobs
from hwnas.cli.console import bars
from hwnas.devices import CompileOptions, Device, load_target, open_device
from hwnas.errors import DeviceError, HwnasError, UserError
from hwnas.files import read_json
from hwnas.graphs import graph_in_precision
from hwnas.latency import ProfileOptions, fit_latency_model, load_table, profile
from hwnas.latency.crosscheck import LIMIT, CrossCheck, cross_check
from hwnas.spaces import get_space

CHECKED = 3
"""So many candidates of the search are compared with trtexec."""
DRY = "it is a dry run on a CPU, made to test the script."
_COMPUTE_START, _COMPUTE_END = 4, 5
"""Columns of a trace."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="local-jetson", help="a target whose connection is local")
    parser.add_argument("--space", default="mobilenet_v3/small")
    parser.add_argument("--profile-minutes", type=float, default=20.0)
    parser.add_argument("--evaluations", type=int, default=24, help="of the search")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement by either")
    parser.add_argument("--trtexec", default="/usr/src/tensorrt/bin/trtexec", help="name or path of the program")
    parser.add_argument("--minutes", type=float, default=120.0, help="of this call")
    parser.add_argument("--state", type=Path, help="directory of what is done (default: runs/jetson_acceptance[-dry])")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, to test this script")
    add_stages(parser)
    arguments = parser.parse_args()
    try:
        sys.exit(0 if accept(arguments) else UNFINISHED)
    except HwnasError as error:
        print(f"jetson_acceptance: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def accept(arguments: argparse.Namespace) -> bool:
    """Whether all is done."""
    dry = arguments.dry_run
    state = arguments.state or Path("runs") / ("jetson_acceptance-dry" if dry else "jetson_acceptance")
    with open_device(load_target("host-cpu" if dry else arguments.target)) as device:
        identity8 = device.fingerprint().identity8
        acceptance = Acceptance(
            "jetson_acceptance", device.target.name, state, identity8, arguments.minutes, DRY if dry else None
        )
        steps = Steps(device, state, arguments)
        stages = [
            Stage("device", steps.describe),
            Stage("profile", steps.profile),
            Stage("search", steps.search, least_s=60),
            Stage("cross-check", steps.compare, least_s=60),
        ]
        done = acceptance.run(chosen(stages, arguments.stages))
        print(f"{acceptance.write_results(stages)}: {'complete' if done else 'not complete, run this again'}")
        if done:
            require_agreement(acceptance.found(stages).get("cross-check", {}).get("differences", {}))
        return done


def require_agreement(differences: dict[str, float]) -> None:
    """
    Raises:
        DeviceError: our time of an engine and trtexec's are further apart than is allowed.
    """
    apart = {name: difference for name, difference in differences.items() if abs(difference) > LIMIT}
    if apart:
        told = ", ".join(f"{name} by {100 * difference:+.1f} %" for name, difference in apart.items())
        raise DeviceError(
            f"Our p50 differs from trtexec's ({told}), where {100 * LIMIT:g} % are allowed; lock the clocks "
            "(jetson_clocks), let the board rest, remove cross-check.json from the state and run this again."
        )


@dataclass
class Steps:
    device: Device
    state: Path
    arguments: argparse.Namespace

    def describe(self, _: float) -> Found:
        fingerprint = self.device.fingerprint()
        return {"identity8": fingerprint.identity8, **fingerprint.model_dump(mode="json")}

    def profile(self, seconds: float) -> Found | None:
        """The table, in as many calls as its minutes take."""
        wanted = self.arguments.profile_minutes
        options = ProfileOptions(minutes=min(wanted, seconds / 60))
        with bars() as progress:
            space = get_space(self.arguments.space)
            table, path = profile(self.device, space, self.state / "tables", options, progress)
        spent = 60 * wanted <= table.profile_seconds + 1
        complete = spent or not table.missing.blocks or self.arguments.stages is not None
        return {"table": str(path), "missing": table.missing.model_dump(mode="json")} if complete else None

    def search(self, _: float) -> Found:
        """A search under the median prediction for a thousand random architectures."""
        path = Path(self.found("profile")["table"])
        table = load_table(path)
        space = get_space(table.space, table.num_classes)
        genomes = space.sample(np.random.default_rng(0), 1000)
        budget = float(np.median(fit_latency_model(table, space).predict(genomes)[0]))
        given = ["--budget", f"{budget:.6g}", "--target", self.device.target.name, "--space", self.arguments.space]
        given += ["--table", str(path), "--evaluations", str(self.arguments.evaluations), "--json"]
        found = json.loads(hwnas("search", "--out", str(self.state / "search"), *given).splitlines()[-1])
        best = sorted(found["evaluations"], key=lambda evaluation: -evaluation["top1"])
        return {"budget_ms": budget, "best": best[:CHECKED], "evaluated": len(best)}

    def compare(self, _: float) -> Found:
        """The best candidates as engines, by both."""
        best = self.found("search")["best"]
        checks = [self.cross_check(evaluation["architecture"]) for evaluation in best]
        return {
            "cross_checks": [check.model_dump(mode="json") for check in checks],
            "differences": {check.model: check.difference for check in checks},
        }

    def cross_check(self, architecture: Any) -> CrossCheck:
        described = self.state / "engines" / "architecture.json"
        described.parent.mkdir(mode=0o700, exist_ok=True)
        described.write_text(json.dumps(architecture))
        model = described.with_name("model.onnx")
        shown = hwnas("export", str(described), "--out", str(model), "--space", self.arguments.space, "--json")
        name = json.loads(shown.splitlines()[-1])["sha256"][:16]
        options = self.device.default_options()
        path, engine = build(model, options, described.with_name(f"{name}.engine"))
        generation = "trtexec-11" if newer(options) else "trtexec-10"
        wanted = {"duration": self.arguments.seconds, "noDataTransfers": True}
        knobs = TrtexecKnobs.like(generation, wanted)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        ours = partial(our_p50_ms, engine, knobs)
        return cross_check(name, path, sha256, ours, knobs, generation, self.arguments.trtexec)

    def found(self, stage: str) -> Found:
        """What an earlier stage found.

        Raises:
            UserError: it is not done.
        """
        file = self.state / f"{stage}.json"
        found: Found = read_json(file) if file.exists() else {"failed": "was not run"}
        if "failed" in found:
            raise UserError(f"Stage '{stage}' is needed and not done; run it first.")
        return found


def hwnas(*arguments: str) -> str:
    """What a command prints.

    Raises:
        DeviceError: it failed.
    """
    done = subprocess.run([sys.executable, "-m", "hwnas", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DeviceError(f"`hwnas {arguments[0]}` failed: {' '.join(done.stderr.split())[-400:]}")
    return done.stdout


def build(model: Path, options: CompileOptions, output: Path) -> tuple[Path, Engine]:
    """An engine file, which trtexec is to read too, and the engine in this process."""
    graph = graph_in_precision(onnx.load(model), options.precision)
    wanted = RuntimeOptions(options.provider or "", options.precision, options.threads)
    try:
        runtime = open_runtime(options.runtime)
        runtime.compile(graph.SerializeToString(), wanted, output)
        return output, runtime.load(output.read_bytes(), wanted)
    except AgentError as error:
        raise DeviceError(f"{model} could not be built: {error.message}.") from error


def newer(options: CompileOptions) -> bool:
    """Whether TensorRT is of the generation whose trtexec has other defaults."""
    return options.runtime == "tensorrt" and int(open_runtime("tensorrt").version().split(".")[0]) >= 11


def our_p50_ms(engine: Engine, knobs: TrtexecKnobs) -> float:
    """The p50 of compute times with the same knobs."""
    measured = measure_queries(engine.queries(knobs, seeded_inputs(engine.inputs, 0)), {})
    traces = arrays.unpack(measured["traces_ns"])  # type: ignore[arg-type]
    return float(np.median(traces[:, _COMPUTE_END] - traces[:, _COMPUTE_START])) / 1e6


if __name__ == "__main__":
    main()
