"""The winner and the networks that it is compared with, as the report shows them."""

from __future__ import annotations

from hwnas import report
from hwnas.export import BenchmarkResult
from hwnas.files import read_model
from hwnas.pipeline.documents import ExportRecord
from hwnas.pipeline.forms import Form
from hwnas.pipeline.run.benchmarks import (
    LARGEST,
    benchmark_path,
    benchmarked_model,
    wider_precisions,
    yardsticks_of,
)
from hwnas.pipeline.run.measurements import latency
from hwnas.pipeline.run.models import YARDSTICK
from hwnas.pipeline.run.run import Run

NAMES = {LARGEST: "largest subnet", YARDSTICK: "MobileNetV3-Small"}


def yardsticks(run: Run) -> list[str]:
    """The benchmarks that the winner is shown beside: itself in wider precisions, and other networks."""
    return [*(str(Form(run.winner.id, precision)) for precision in wider_precisions(run)), *yardsticks_of(run.space)]


def title_of(benchmark: str) -> str:
    """What a benchmarked network is called: ``chosen network in fp32``."""
    if benchmark in NAMES:
        return NAMES[benchmark]
    precision = Form.of(benchmark).precision
    return f"chosen network in {precision}" if precision else "chosen network"


def benchmark_of(run: Run, name: str) -> BenchmarkResult:
    """A benchmark, judged by the fastest state of the device that this run has seen, as all that are compared are."""
    found = read_model(benchmark_path(run, name), BenchmarkResult, what="benchmark")
    fast_ms = run.device.fast_state_ms(found.measurements[0].protocol.canary)
    return found if fast_ms is None or found.fast_state_ms is None else found.judged(min(fast_ms, found.fast_state_ms))


def compared_network(run: Run, name: str) -> report.Network:
    """A benchmarked network as the report shows it."""
    bench = benchmark_of(run, name)
    model = benchmarked_model(run, name)
    specs = model.specs
    export = read_model(model.path.with_suffix(".json"), ExportRecord, what="export record")
    return report.Network(
        name=title_of(name),
        resolution=bench.resolution,
        measured=report.Measurement(gated=latency(bench.gated), ungated=latency(bench.ungated)),
        top1_test=bench.top1,
        classification=bench.classification,
        detection=bench.detection,
        throughput=bench.gated.images_per_s,
        macs=sum(spec.macs for spec in specs),
        params=sum(spec.params for spec in specs),
        onnx_bytes=bench.onnx_bytes,
        engine_bytes=bench.engine_bytes,
        peak_memory_mib=bench.peak_memory_mib,
        build_seconds=bench.build_s,
        parity=export.parity,
        note=bench.top1_missing or "",
    )
