"""``hwnas bench --like``: what it prints, what goes into JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hwnas.agent.trtexec import TrtexecKnobs
from hwnas.cli.bench_like import _OPTIONS, summary_lines
from hwnas.cli.main import app
from hwnas.devices import CompileOptions
from hwnas.graphs import network_graph
from hwnas.spaces import get_space
from tests.devices.test_queries import measurement, query

_SHORT = ["--duration", "0", "--warmUp", "1", "--iterations", "20"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    space = get_space("mobilenet_v3/small", 10)
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    path.write_bytes(network_graph(space.blocks(space.smallest)).SerializeToString())
    return str(path)


def bench(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["bench", *arguments])
    return done.exit_code, " ".join(done.output.split())


def test_every_knob_has_its_option() -> None:
    assert set(vars(TrtexecKnobs())) <= set(_OPTIONS)
    assert set(_OPTIONS) - set(vars(TrtexecKnobs())) == {"timeDeserialize", "skipInference", "exportTimes"}


def test_the_lines_of_a_gpu_have_trtexecs_names() -> None:
    lines = summary_lines(measurement([query(0), query(2_000_000)]))
    names = [line.split(":")[0] for line in lines]
    order = ["Throughput", "Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency"]
    assert [name for name in names if name in order] == order
    assert (
        "Latency: min = 2.15 ms, max = 2.15 ms, mean = 2.15 ms, median = 2.15 ms, percentile(90%) = 2.15 ms"
        in (lines[names.index("Latency")])
    )
    assert "Total Host Walltime: 0.00415 s" in lines and "Total GPU Compute Time: 0.004 s" in lines
    assert "warmUp=200, duration=3, iterations=10, avgRuns=10, percentile=90,95,99" in lines[-1]


def test_a_cpu_is_measured_by_the_hosts_clock_and_told_so(model: str, tmp_path: Path) -> None:
    times = tmp_path / "times.json"
    code, text = bench(model, "--like", "trtexec-10", *_SHORT, "--exportTimes", str(times))
    assert code == 0, text
    assert "Timed by the host's clock" in text and "Compute Time: min" in text and "GPU Compute" not in text
    assert "the knobs about a GPU are off" in text and "iterations=20" in text
    assert len(json.loads(times.read_text())) >= 20


def test_json_has_every_knob_and_what_was_measured(model: str) -> None:
    done = CliRunner().invoke(
        app, ["bench", model, "--like", "trtexec-11", *_SHORT, "--percentile", "50,99.9", "--noSpinWait", "--json"]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["knobs"] == {
        **TrtexecKnobs(warmUp=1, duration=0, iterations=20, noDataTransfers=True).as_record(),
        "percentile": [50.0, 99.9],
    }
    assert told["latency_ms"]["percentiles"].keys() == {"50", "99.9"}
    assert (told["runtime"], told["like"], told["clock"]) == (
        CompileOptions().runtime,
        "trtexec-11",
        "the host's clock",
    )


def test_the_modes_without_queries(model: str) -> None:
    code, text = bench(model, "--like", "trtexec-10", "--skipInference", "--timeDeserialize")
    assert code == 0, text
    assert "Built in" in text and "average of 20 more" in text and "Throughput" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--warmUp", "3"], "--warmUp is trtexec's; give --like trtexec-10 or --like trtexec-11 with it."),
        (["--like", "trtexec-9"], "must be one of trtexec-10, trtexec-11"),
        (["--like", "trtexec-10", "--useManagedMemory"], "knob useManagedMemory cannot be met: host and GPU"),
        (["--like", "trtexec-10", "--threads"], "knob threads cannot be met: one thread"),
        (["--like", "trtexec-10", "--timeRefit"], "knob timeRefit cannot be met: engines"),
        (["--like", "trtexec-10", "--percentile", "90;99"], "--percentile takes numbers with commas between"),
        (["--like", "trtexec-10", "--percentile", "190"], "from 0 to 100"),
        (["--like", "trtexec-11", "--useCudaGraph"], "knob useCudaGraph has no object here"),
        (["--like", "trtexec-11", "--infStreams", "2"], "knob infStreams has no object here"),
        (["--like", "trtexec-11", "--precision", "fp32,int8"], "one model is measured in one way"),
        (["--like", "trtexec-11", "--skipInference", "--exportTimes", "x"], "--exportTimes needs queries"),
        (["--like", "trtexec-11", "--runtime", "tensorflow"], "has no runtime called 'tensorflow'"),
    ],
)
def test_what_cannot_be_met_is_refused_in_words(model: str, arguments: list[str], words: str) -> None:
    code, text = bench(model, *arguments)
    assert code == 2
    assert words in text
