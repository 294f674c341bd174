"""Results that somebody sends: what of them is believed, and our times against a pretended trtexec's."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hwnas.agent.trtexec import TrtexecKnobs
from hwnas.cli.main import app
from hwnas.devices import Fingerprint
from hwnas.errors import BadFileError, DeviceError, HwnasError, UserError
from hwnas.files import write_json
from hwnas.latency import LatencyTable, load_table
from hwnas.latency.crosscheck import CrossCheck, cross_check, trtexec_command, trtexec_p50_ms
from hwnas.latency.importers import import_results
from hwnas.latency.results import AcceptanceResults

sys.path.insert(0, str(Path(__file__).parent))
from tables import made_table

ORIN = {"runtime": {"name": "tensorrt", "provider": "gpu", "threads": 1, "version": "10.3.0"}}
SHA256 = "ab" * 32


def table(**changes: Any) -> LatencyTable:
    settings = {
        "target": "jetson-orin-nano",
        "runtime": "tensorrt",
        "mode": "gpu",
        "precision": "fp16",
        "profile_seconds": 500.0,
        "fingerprint": Fingerprint(identity=ORIN, context={}),
    }
    return made_table(validation=25).model_copy(update=settings | changes)


def check(ours: float = 1.0, theirs: float = 1.0) -> CrossCheck:
    return CrossCheck(
        model="m", engine_sha256=SHA256, knobs={}, command=("trtexec",), ours_ms=(ours,) * 3, trtexec_ms=(theirs,) * 3
    )


def results(**changes: Any) -> AcceptanceResults:
    settings: dict[str, Any] = {
        "hwnas": "1.0",
        "script": "jetson_acceptance",
        "target": "jetson-orin-nano",
        "created": datetime.date(2026, 11, 26),
        "tables": (table(),),
        "cross_checks": (check(),),
    }
    return AcceptanceResults(**(settings | changes))


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    write_json(tmp_path / "sent.json", results())
    return tmp_path / "sent.json"


def test_a_table_that_was_sent_is_one_of_ours_and_says_where_it_is_from(sent: Path, tmp_path: Path) -> None:
    command = ["tables", "import", "results", str(sent), "--tables", str(tmp_path / "tables"), "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (record,) = json.loads(done.output)
    found = load_table(Path(record["path"]))
    assert Path(record["path"]).parent.name == found.target == "jetson-orin-nano"
    assert (found.kind, found.networks, found.blocks) == ("measured", table().networks, table().blocks)
    assert found.fingerprint == table().fingerprint and found.validation is not None and found.validation.n == 25
    assert found.hygiene is not None and "measured elsewhere with hwnas 1.0" in found.hygiene.marked[0].reason
    shown = CliRunner().invoke(app, ["tables", "show", record["path"]])
    assert shown.exit_code == 0 and "measured elsewhere" in " ".join(shown.output.split())
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2 and "table of this very device already" in " ".join(again.output.split())


def test_the_device_may_be_called_otherwise(sent: Path, tmp_path: Path) -> None:
    assert import_results(sent, tmp_path, target="my-orin")[0].target == "my-orin"


UNBELIEVABLE: dict[str, tuple[dict[str, Any], type[HwnasError], str]] = {
    "dry run": ({"dry_run": "it ran on a CPU."}, UserError, "are no measurement: it ran on a CPU"),
    "no table": ({"tables": ()}, UserError, "hold no latency table"),
    "no cross-check": ({"cross_checks": ()}, UserError, "no cross-check against trtexec"),
    "failed cross-check": (
        {"cross_checks": (check(), check(1.03))},
        UserError,
        r"differs from trtexec's by \+3\.0 %, where 2 % are allowed",
    ),
    "emulated": ({"tables": (table(kind="emulated"),)}, BadFileError, "it is emulated, and not measured"),
    "another target": ({"tables": (table(target="tx2"),)}, BadFileError, "it is of target tx2"),
    "another runtime": ({"tables": (table(runtime="torch"),)}, BadFileError, "its fingerprint is of runtime tensorrt"),
    "another provider": ({"tables": (table(mode="dla"),)}, BadFileError, "its fingerprint is of provider gpu"),
    "other threads": ({"tables": (table(threads=2),)}, BadFileError, "its fingerprint is of 1 threads"),
    "no gate": ({"tables": (table(fast_states_ms={}),)}, BadFileError, "measured without gate"),
    "too fast to be true": ({"tables": (table(profile_seconds=0.1),)}, BadFileError, "samples take longer than"),
    "few held out": ({"tables": (table(networks=table().networks[:40]),)}, UserError, "fewer than 20 held-out"),
    "another space": ({"tables": (table(num_classes=7),)}, BadFileError, "has no block"),
}


@pytest.mark.parametrize("what", UNBELIEVABLE)
def test_what_cannot_be_believed_is_refused_in_a_sentence(what: str, tmp_path: Path) -> None:
    changes, kind, sentence = UNBELIEVABLE[what]
    write_json(tmp_path / "sent.json", results(**changes))
    with pytest.raises(kind, match=sentence):
        import_results(tmp_path / "sent.json", tmp_path / "tables")


def test_a_table_that_does_not_predict_its_own_networks_is_refused(tmp_path: Path) -> None:
    noisy = made_table(validation=25, noise=0.6)
    write_json(tmp_path / "sent.json", results(tables=(table(networks=noisy.networks),)))
    with pytest.raises(UserError, match=r"predicts its own held-out networks with an error of [0-9.]+ %"):
        import_results(tmp_path / "sent.json", tmp_path / "tables")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["results", "none.json"], "results file none.json does not exist"),
        (["results", "none.json", "--space", "mobilenet_v3/small"], "A results file says its space"),
        (["ofa", "none"], "give --target and --space"),
        (["results", "none.json", "--target", "../x"], "'../x' is no name for a target"),
        (["csv", "none", "--target", "x", "--space", "mobilenet_v3/small"], "known are ofa, proxyless, results"),
    ],
)
def test_a_users_mistake_at_an_import_is_one_sentence(arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(app, ["tables", "import", *arguments])
    assert done.exit_code == 2 and sentence in " ".join(done.output.split())


PRETENDED = """#!{python}
import json, sys
arguments = dict(a.lstrip("-").split("=", 1) if "=" in a else (a.lstrip("-"), "") for a in sys.argv[1:])
open({log!r}, "a").write(json.dumps(arguments) + "\\n")
{failing}
times = [{{"computeMs": {ms} * f, "latencyMs": 2 * {ms}}} for f in (0.9, 1.0, 1.4)]
open(arguments["exportTimes"], "w").write(json.dumps(times))
"""


def pretended(directory: Path, ms: float = 1.0, failing: str = "") -> tuple[Path, Path]:
    """An executable that answers as trtexec does, and the log of what it was told."""
    program, log = directory / "trtexec", directory / "log"
    program.write_text(PRETENDED.format(python=sys.executable, log=str(log), ms=ms, failing=failing))
    program.chmod(0o755)
    return program, log


def test_ours_and_trtexec_measure_in_turns_with_the_same_knobs(tmp_path: Path) -> None:
    program, log = pretended(tmp_path, ms=2.0)
    knobs = TrtexecKnobs.like("trtexec-10", {"noDataTransfers": True, "duration": 1.5})
    turns = iter([2.0, 2.02, 9.0])
    found = cross_check("m", tmp_path / "m.engine", SHA256, lambda: next(turns), knobs, "trtexec-10", program)
    assert found.ours_ms == (2.0, 2.02, 9.0) and found.trtexec_ms == (2.0,) * 3
    assert found.difference == pytest.approx(0.01) and found.agrees
    told = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(told) == 3
    assert told[0]["loadEngine"] == str(tmp_path / "m.engine") and told[0]["duration"] == "1.5"
    assert "noDataTransfers" in told[0] and "useSpinWait" not in told[0]
    assert CrossCheck.model_validate_json(found.model_dump_json()) == found


def test_what_differs_by_more_than_two_per_cent_does_not_agree() -> None:
    assert check(1.0199).agrees and check(0.9801).agrees
    assert not check(1.0201).agrees and not check(0.979).agrees


def test_each_generation_is_told_what_it_does_not_do_by_itself() -> None:
    def flags(generation: str, **knobs: bool) -> set[str]:
        told = trtexec_command("trtexec", Path("e"), TrtexecKnobs.like(generation, knobs), generation)
        return {flag for flag in told if "=" not in flag} - {"trtexec"}

    assert flags("trtexec-10") == set()
    assert flags("trtexec-10", useCudaGraph=True) == {"--useCudaGraph"}
    assert flags("trtexec-11") == set()
    assert flags("trtexec-11", useCudaGraph=False) == {"--noCudaGraph"}
    assert flags("trtexec-11", noDataTransfers=False) == {"--includeDataTransfers"}


@pytest.mark.parametrize(
    ("failing", "sentence"),
    [
        ("sys.stderr.write('[E] bad engine'); sys.exit(1)", r"ended with 1 and without times: \[E\] bad engine"),
        ("sys.exit(0)", "ended with 0 and without times: it said nothing"),
        ("open(arguments['exportTimes'], 'w').write('[{}]'); sys.exit(0)", "without 'computeMs'"),
        ("open(arguments['exportTimes'], 'w').write('[]'); sys.exit(0)", "without 'computeMs'"),
        ("open(arguments['exportTimes'], 'w').write('[{\"computeMs\": 0}]'); sys.exit(0)", "positive, finite"),
    ],
)
def test_a_trtexec_that_tells_no_times_is_an_error(failing: str, sentence: str, tmp_path: Path) -> None:
    program, _ = pretended(tmp_path, failing=failing)
    with pytest.raises(DeviceError, match=sentence):
        trtexec_p50_ms([str(program)])


def test_a_missing_trtexec_is_an_error_that_says_how_to_mend_it() -> None:
    with pytest.raises(DeviceError, match=r"cannot be started .*--trtexec"):
        trtexec_p50_ms(["/nowhere/trtexec"])
