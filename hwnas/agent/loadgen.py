"""MLPerf's LoadGen as the generator of a scenario's queries, where the package mlcommons-loadgen is installed.

It issues every query from within this process and takes its own times, which hold what its Python binding costs too:
some ten microseconds a query.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from .protocol import AgentError, ErrorKind
from .scenarios import PERCENTILES, Load, ScenarioKnobs, SystemUnderTest

_RESULTS = ("result_", "early_stopping_", "loadgen_version", "generated_samples_per_query")
_NAMES = {"single-stream": "SingleStream", "multi-stream": "MultiStream", "offline": "Offline"}
_CHUNK = 1024
_HASTE = 0.5


def find_loadgen() -> Optional[Any]:
    """The module, or ``None`` where it is not installed."""
    try:
        return importlib.import_module("mlperf_loadgen")
    except ImportError:
        return None


class LoadGen:
    """Runs a scenario under LoadGen; one at a time in a process."""

    def __init__(self, library: Any) -> None:
        """``library`` is the module mlperf_loadgen."""
        self._library = library

    def run(self, sut: SystemUnderTest, knobs: ScenarioKnobs, expected_ns: float, directory: Path) -> Load:
        """Let LoadGen issue queries to ``sut``; its logs go to ``directory``.

        Raises:
            AgentError: whatever the engine raised in a query.
        """
        library = self._library
        failures: List[Exception] = []

        def issue(queries: List[Any]) -> None:
            # A chunk is answered as soon as it is done, so that a query of a million samples does not hoard answers.
            for first in range(0, len(queries), _CHUNK):
                chunk = queries[first : first + _CHUNK]
                try:
                    if not failures:
                        sut.answer([query.index for query in chunk])
                except Exception as error:  # it must not pass through LoadGen's C++
                    failures.append(error)
                library.QuerySamplesComplete([library.QuerySampleResponse(query.id, 0, 0) for query in chunk])

        handle = library.ConstructSUT(issue, lambda: None)
        samples = library.ConstructQSL(sut.count, sut.count, lambda _: None, lambda _: None)
        try:
            settings, logs = self._settings(knobs, expected_ns), self._logs(directory)
            library.StartTestWithLogSettings(handle, samples, settings, logs)
        finally:
            library.DestroyQSL(samples)
            library.DestroySUT(handle)
        if failures:
            raise failures[0]
        return _load(_read_log(directory / "mlperf_log_detail.txt"), knobs, sut)

    def _settings(self, knobs: ScenarioKnobs, expected_ns: float) -> Any:
        found = self._library.TestSettings()
        found.scenario = getattr(self._library.TestScenario, _NAMES[knobs.scenario])
        found.mode = self._library.TestMode.PerformanceOnly
        found.min_duration_ms = int(1000 * knobs.min_seconds)
        found.max_duration_ms = int(1000 * knobs.max_seconds)
        found.min_query_count = knobs.min_queries
        found.single_stream_target_latency_percentile = knobs.percentile
        # It prepares as many queries as the least time takes, and ends early, invalid, if they take less.
        expected = max(int(expected_ns * _HASTE), 1)
        found.single_stream_expected_latency_ns = expected
        found.multi_stream_target_latency_percentile = knobs.percentile
        found.multi_stream_expected_latency_ns = expected
        found.multi_stream_samples_per_query = knobs.samples_per_query
        found.offline_expected_qps = 1e9 / expected_ns
        found.sample_index_rng_seed = knobs.seed
        return found

    def _logs(self, directory: Path) -> Any:
        output = self._library.LogOutputSettings()
        output.outdir = str(directory)
        output.copy_summary_to_stdout = False
        found = self._library.LogSettings()
        found.log_output = output
        found.enable_trace = False
        return found


def _read_log(path: Path) -> Dict[str, Any]:
    """The results in a detailed log, by LoadGen's own names."""
    found: Dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(":::MLLOG "):
            entry = json.loads(line[len(":::MLLOG ") :])
            if entry["key"].startswith(_RESULTS) or entry["key"] == "num_errors":
                found[entry["key"]] = entry["value"]
    if "result_validity" not in found:
        raise AgentError(ErrorKind.INTERNAL, "LoadGen ended without a result; its log is %s" % path)
    return found


def _load(log: Dict[str, Any], knobs: ScenarioKnobs, sut: SystemUnderTest) -> Load:
    queries = int(log["result_query_count"])
    samples = queries * int(log["generated_samples_per_query"])
    percentiles: Tuple[Tuple[float, float], ...] = ()
    bound: Optional[float] = None
    if knobs.scenario != "offline":
        single = knobs.scenario == "single-stream"
        name = "result_%.2f_percentile_latency_ns" if single else "result_%.2f_percentile_per_query_latency_ns"
        percentiles = tuple((p, float(log[name % (100 * p)])) for p in PERCENTILES)
        bound = float(log["early_stopping_latency_ss" if single else "early_stopping_latency_ms"]) or None
    return Load(
        generator="LoadGen " + str(log["loadgen_version"]).split(" ", maxsplit=1)[0],
        queries=queries,
        samples=samples,
        seconds=sut.seconds,
        percentiles_ns=percentiles,
        bound_ns=bound,
        samples_per_s=float(log.get("result_samples_per_second", samples / sut.seconds)),
        answering_s=sut.answering_ns / 1e9,
        reasons=tuple(_reasons(log)),
        log=log,
    )


def _reasons(log: Dict[str, Any]) -> Iterator[str]:
    """Why LoadGen calls a run invalid."""
    if log["result_validity"] == "VALID":
        return
    met = ("result_min_duration_met", "result_min_queries_met", "early_stopping_met")
    unmet = [name for name in met if log.get(name) is False]
    yield "LoadGen calls it %s: %s" % (log["result_validity"], ", ".join(unmet) or "it gives no reason")
