"""From a comparison of engines to what its page shows."""

from __future__ import annotations

from pydantic import JsonValue, TypeAdapter

from hwnas.devices import ScenarioResult
from hwnas.export import ComparedEngine, Comparison, Timing
from hwnas.report.comparison_data import ComparisonData, EngineFigures, Latencies, Roof, Scenario, UnderRoof


def comparison_data(found: Comparison) -> ComparisonData:
    """What the page of a comparison shows."""
    return ComparisonData(
        target=found.target,
        created=found.created,
        rounds=found.rounds,
        engines=tuple(map(_engine, found.engines)),
        roofs=tuple(Roof(**roofs.model_dump()) for roofs in found.roofs),
        identity=TypeAdapter(dict[str, JsonValue]).validate_python(found.identity),
    )


def _engine(engine: ComparedEngine) -> EngineFigures:
    line = engine.roofline
    return EngineFigures(
        name=engine.name,
        runtime=engine.runtime,
        precision=engine.precision,
        batch=engine.batch,
        threads=engine.threads,
        gated=_latencies(engine.gated),
        ungated=_latencies(engine.ungated),
        images_per_s=engine.gated.images_per_s or engine.ungated.images_per_s,
        ratio=engine.ratio.median,
        ratio_interval=engine.ratio.interval,
        ratio_gated=engine.ratio_gated,
        ratios=engine.ratio.by_round,
        transfers_ms=engine.upload_ms + engine.download_ms,
        onnx_bytes=engine.onnx_bytes,
        engine_bytes=engine.engine_bytes,
        build_s=engine.build_s,
        peak_memory_mib=engine.peak_memory_mib,
        engine_memory_mib=engine.engine_memory_mib,
        roofline=None
        if line is None
        else UnderRoof(
            operations=line.work.operations,
            bytes=line.work.bytes,
            intensity=line.work.intensity,
            operations_per_s=line.operations_per_s,
            attainable=line.attainable,
            share=line.share,
            bound_by=line.bound_by,
        ),
        roofline_missing=engine.roofline_missing,
        scenario=None if engine.scenario is None else _scenario(engine.scenario),
    )


def _latencies(timing: Timing) -> Latencies:
    return Latencies(samples=timing.n, p50_ms=timing.p50_ms, p90_ms=timing.p90_ms, p99_ms=timing.p99_ms)


def _scenario(ran: ScenarioResult) -> Scenario:
    return Scenario(
        name=ran.knobs.scenario,
        generator=ran.load.generator,
        queries=ran.load.queries,
        samples=ran.load.samples,
        seconds=ran.load.seconds,
        percentile=ran.knobs.percentile,
        percentile_ms=ran.percentile_ms,
        bound_ms=ran.bound_ms,
        samples_per_s=ran.load.samples_per_s,
        joules_per_sample=ran.joules_per_sample,
        energy_of=ran.energy.of,
        energy_missing=ran.energy.reason,
        invalid=ran.load.reasons,
        differs=ran.differs_from_mlperf,
    )
