from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.cli.main import main
from tests.forked import begun

PROGRAM = [sys.executable, "-c", "from hwnas.cli.main import main; main()"]


def hwnas(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=cwd)


def test_help_and_version_import_nothing_heavy() -> None:
    heavy = ("torch", "nni", "onnx", "onnxruntime", "numpy", "scipy", "sklearn", "kornia", "pyarrow")
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        program = f"import sys; sys.argv = ['hwnas', *{arguments}]\nfrom hwnas.cli.main import main\ntry: main()\n"
        program += f"except SystemExit: print([m for m in {heavy} if m in sys.modules])"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def test_listing_targets_imports_no_framework() -> None:
    program = "import sys; sys.argv = ['hwnas', 'targets', '--json']\nfrom hwnas.cli.main import main\ntry: main()\n"
    program += "except SystemExit: print([m for m in ('torch', 'nni', 'onnx', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    listed, heavy = done.stdout.splitlines()
    assert "host-cpu" in [target["name"] for target in json.loads(listed)]
    assert heavy == "[]"


def test_a_target_is_shown_with_its_live_fingerprint() -> None:
    shown = json.loads(hwnas("targets", "show", "host-cpu", "--live", "--json").stdout)
    assert shown["target"]["name"] == "host-cpu"
    assert shown["identity"]["runtime"]["name"] == "onnxruntime"
    assert len(shown["identity8"]) == 8


def run_program(arguments: list[str], place: Path, told: Path) -> None:
    """hwnas in a directory, in a process of its own that need not import it; its stderr goes to a file."""
    os.chdir(place)
    with told.open("wb") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.argv = ["hwnas", *arguments]
    main()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--name", "x", "--budget", "0"], "--budget takes a positive number of milliseconds, not 0."),
        (["run", "--name", "x", "--budget", "nan"], "--budget takes a positive number of milliseconds, not nan."),
        (["run", "--name", "x", "--confidence", "1"], "--confidence is at least 0.5 and less than 1, not 1."),
        (["run", "--name", "../x"], "'../x' cannot name a run"),
        (["run", "--name", "x", "--target", "host-cpx"], "there is no target 'host-cpx'"),
        (["run", "--name", "x", "--space", "mobilenet_v3/smal"], "did you mean mobilenet_v3/small?"),
        (["run", "--name", "x", "--data", "/nowhere/at/all"], "neither a data set nor a path '/nowhere/at/all'"),
        (["run", "--name", "x", "--strategy", "tpo"], "did you mean tpe?"),
        (["run", "--name", "x", "--table", "none.json"], "latency table none.json does not exist"),
        (["run", "--name", "x", "--supernet", "none"], "supernet record none/record.json does not exist"),
        (["profile", "--space", "mobilenet_v3/huge"], "There is no space 'mobilenet_v3/huge'"),
        (["profile", "--resolutions", "24;44"], "--resolutions takes pixels with commas between, not '24;44'"),
        (["profile", "--resolutions", "25"], "25"),
        (["profile", "--runtime", "abacus"], "has no runtime called 'abacus'; it has onnxruntime, torch."),
        (["profile", "--runtime", "torch", "--provider", "cuda"], "no provider of torch called 'cuda'; it has cpu,"),
        (["profile", "--precision", "fp16"], "no precision of onnxruntime called 'fp16'; it has fp32, int8."),
        (["search", "--budget", "-1", "--out", "s"], "--budget takes a positive number of milliseconds, not -1."),
        (["search", "--budget", "1", "--out", "s"], "make it with `hwnas profile"),
        (["search", "--budget", "1", "--out", "s", "--tables", "t", "--target", "tx3"], "there is no target 'tx3'"),
        (["export", "nobody.json", "--out", "m.onnx"], "architecture nobody.json does not exist"),
        (["export", "largest", "--out", "m.onnx", "--supernet", "none"], "none/record.json does not exist"),
        (["bench", "none.onnx"], "model none.onnx does not exist"),
        (["report", "runs/none"], "report data of a finished run runs/none/report.json does not exist"),
        (["tables", "show", "none.json"], "latency table none.json does not exist"),
        (["train", "--out", "t", "--data", "/nowhere"], "neither a data set nor a path '/nowhere'"),
        (["run", "--name", "x", "--evaluations", "0"], "at least one candidate, not 0"),
        (["train", "--out", "t", "--seed", "-1"], "field 'seed'"),
        (["export", "largest", "--out", "/dev/null/m.onnx"], "/dev/null/m.onnx cannot be written"),
        (["train", "--out", "t", "--config", "none.json"], "training settings none.json does not exist"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_nothing_is_left_behind(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    place, told = tmp_path / "place", tmp_path / "stderr"
    place.mkdir()
    process = begun(run_program, arguments, place, told)
    process.join()
    message = " ".join(told.read_text().split())
    assert process.exitcode == 2, message
    assert sentence in message
    assert "Traceback" not in message
    assert [path for path in place.rglob("*") if path.is_file()] == []


def test_the_module_is_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "hwnas", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hwnas ")


def test_settings_that_are_no_object_are_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("[1]")
    done = hwnas("train", "--out", "t", "--config", "settings.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "are not a JSON object" in " ".join(done.stderr.split())


def test_an_unknown_training_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"epoch": 3}')
    done = hwnas("train", "--out", "t", "--config", "settings.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "training settings in settings.json: field 'epoch'" in " ".join(done.stderr.split())


def test_an_exported_model_is_benchmarked(tmp_path: Path) -> None:
    exported = json.loads(hwnas("export", "smallest", "--out", tmp_path / "model.onnx", "--json").stdout)
    assert exported["parity"] < 1e-4
    assert exported["input_shape"] == [1, 3, 24, 24]
    measured = json.loads(hwnas("bench", tmp_path / "model.onnx", "--json").stdout.splitlines()[-1])
    assert measured["ungated"]["p50_ms"] > 0
    assert measured["top1_missing"] == "no data set was given"


def test_a_model_that_takes_no_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model at all")
    done = hwnas("bench", tmp_path / "model.onnx")
    assert done.returncode == 2
    assert "is not ONNX" in done.stderr


def test_no_tables_is_no_error(tmp_path: Path) -> None:
    done = hwnas("tables", "list", cwd=tmp_path)
    assert done.returncode == 0
    assert "There are no latency tables" in done.stdout
