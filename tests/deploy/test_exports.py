from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import stat
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format

from hwnas.deploy.bundle import Bundle, archive_path, write_bundle
from hwnas.deploy.exports import update_module, write_mender, write_rauc, write_triton
from hwnas.deploy.verification import verify_bundle
from hwnas.errors import UserError
from tests.deploy.commands import hwnas, told
from tests.deploy.made_bundles import KEY, TRUSTED, content, model, written
from tests.deploy.triton_schema import model_config


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return written(tmp_path / "bundles", model("m0", 0.9, engine="tensorrt"), version=7, runtime="tensorrt")


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")


def members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]


# --- Mender ----------------------------------------------------------------------------------------------------


def test_a_mender_artifact_has_the_parts_of_its_format_in_their_order(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "cameras.mender"
    write_mender(bundle, path, ["jetson-orin-nano", "raspberrypi5"])
    outer = members(path.read_bytes())
    assert list(outer) == ["version", "manifest", "header.tar.gz", "data/0000.tar.gz"]
    assert json.loads(outer["version"]) == {"format": "mender", "version": 3}
    header = members(gzip.decompress(outer["header.tar.gz"]))
    assert list(header) == ["header-info", "headers/0000/type-info", "headers/0000/meta-data"]
    info = json.loads(header["header-info"])
    assert info["payloads"] == [{"type": "hwnas"}]
    assert info["artifact_depends"] == {"device_type": ["jetson-orin-nano", "raspberrypi5"]}
    payload = members(gzip.decompress(outer["data/0000.tar.gz"]))
    assert list(payload) == ["cameras-v7.tar.gz"]
    carried = tmp_path / "carried.tar.gz"
    carried.write_bytes(payload["cameras-v7.tar.gz"])
    assert verify_bundle(carried, TRUSTED).digest == bundle.digest
    again = tmp_path / "again.mender"
    write_mender(verify_bundle(bundle.path, TRUSTED), again, ["jetson-orin-nano", "raspberrypi5"])
    assert again.read_bytes() == path.read_bytes()
    with pytest.raises(UserError, match="give --device-type"):
        write_mender(bundle, path, [])


def test_mender_artifact_reads_it(bundle: Bundle, tmp_path: Path) -> None:
    needs("mender-artifact")
    path = tmp_path / "cameras.mender"
    write_mender(bundle, path, ["board"])
    subprocess.run(["mender-artifact", "validate", path], check=True, capture_output=True)
    changed = path.read_bytes().replace(b"data/0000.tar.gz", b"data/0001.tar.gz")
    path.write_bytes(changed)
    assert subprocess.run(["mender-artifact", "validate", path], check=False, capture_output=True).returncode != 0


AGENT = """
import os, pathlib, sys
root = pathlib.Path(sys.argv[sys.argv.index("--root") + 1])
with (root / "calls").open("a") as calls: calls.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[2] == "install":
    if b"bad" in pathlib.Path(sys.argv[3]).read_bytes(): sys.exit("refused")
    (root / "new").symlink_to("slots/new"); (root / "new").rename(root / "current")
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slots with one current, and a stand-in for the agent that writes down how it was called."""
    root = tmp_path / "slots root"
    root.mkdir()
    (root / "current").symlink_to("slots/old")
    (root / "agent.py").write_text(AGENT)
    monkeypatch.setenv("HWNAS_SLOTS", str(root))
    monkeypatch.setenv("HWNAS_AGENT", str(root / "agent.py"))
    return root


def calls(board: Path) -> list[str]:
    log = board / "calls"
    return [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def mender(board: Path, tmp_path: Path) -> Path:
    """The directory that Mender gives to its update modules, and beside it the module."""
    directory = tmp_path / "payload 0000"
    (directory / "tmp").mkdir(parents=True)
    (directory / "files").mkdir()
    module = tmp_path / "hwnas"
    module.write_bytes(update_module())
    module.chmod(0o755)
    return directory


def call(directory: Path, state: str) -> subprocess.CompletedProcess[str]:
    module = directory.parent / "hwnas"
    return subprocess.run([module, state, directory], cwd=directory, capture_output=True, text=True, check=False)


def test_the_update_module_answers_menders_questions_and_ignores_unknown_states(mender: Path, board: Path) -> None:
    assert call(mender, "NeedsArtifactReboot").stdout == "No\n"
    assert call(mender, "SupportsRollback").stdout == "Yes\n"
    for state in ("Download", "ArtifactCommit", "Cleanup", "ArtifactFailure", "SomethingNew"):
        done = call(mender, state)
        assert (done.returncode, done.stdout) == (0, "")
    assert calls(board) == []


def test_the_update_module_goes_back_from_what_it_installed_alone(mender: Path, board: Path) -> None:
    archive = mender / "files" / "cameras-v7.tar.gz"
    archive.write_bytes(b"bad")
    assert call(mender, "ArtifactInstall").returncode != 0
    assert call(mender, "ArtifactRollback").returncode == 0
    assert calls(board) == ["install"]
    archive.write_bytes(b"good")
    assert call(mender, "ArtifactInstall").returncode == 0
    assert call(mender, "ArtifactRollback").returncode == 0
    assert calls(board) == ["install", "install", "rollback"]


# --- RAUC ------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


def test_a_rauc_bundle_carries_the_bundle_and_its_handler(
    bundle: Bundle, certificate: tuple[Path, Path], board: Path, tmp_path: Path
) -> None:
    needs("rauc")
    needs("unsquashfs")
    path, unpacked = tmp_path / "cameras.raucb", tmp_path / "unpacked"
    # RAUC's format wants more than one block of 4096 bytes.
    bundle = write_bundle(replace(content(), unit=random.Random(0).randbytes(20_000)), 7, tmp_path / "large", [KEY])
    write_rauc(bundle, path, "acme-camera", *certificate)
    info = ["rauc", "info", "--keyring", certificate[0], "--output-format=json", path]
    told_of = json.loads(subprocess.run(info, check=True, capture_output=True, text=True).stdout)
    assert (told_of["compatible"], told_of["version"]) == ("acme-camera", "7")
    subprocess.run(["unsquashfs", "-d", unpacked, path], check=True, capture_output=True)
    assert verify_bundle(unpacked / "cameras-v7.tar.gz", TRUSTED).digest == bundle.digest
    subprocess.run([unpacked / "install.sh"], check=True, cwd="/")
    assert calls(board) == ["install"]
    with pytest.raises(UserError, match="rauc made no bundle"):
        write_rauc(bundle, path, "acme-camera", certificate[0], tmp_path / "none.pem")


def test_without_rauc_it_is_said_what_is_missing(
    bundle: Bundle, certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cameras.raucb"
    with pytest.raises(UserError, match="give --compatible, --cert and --cert-key"):
        write_rauc(bundle, path, None, *certificate)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="made by the programs rauc and mksquashfs, which are not here"):
        write_rauc(bundle, path, "acme-camera", *certificate)
    assert not path.exists()


# --- Triton ----------------------------------------------------------------------------------------------------


def test_triton_finds_the_model_and_what_its_outputs_stand_for(bundle: Bundle, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (directory,) = write_triton(bundle, repository)
    assert sorted(path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()) == [
        "cameras/7/model.onnx",
        "cameras/config.pbtxt",
        "cameras/labels.txt",
    ]
    assert (directory / "7" / "model.onnx").read_bytes() == b"onnx of m0"
    assert (directory / "labels.txt").read_text(encoding="utf-8").splitlines() == ["shirt", "bag", "Rösti"]
    config = (directory / "config.pbtxt").read_text()
    for line in ('name: "cameras"', 'platform: "onnxruntime_onnx"', "max_batch_size: 0", "KIND_GPU", '"tensorrt"'):
        assert line in config
    assert 'name: "input" data_type: TYPE_FP32 dims: [1, 3, 4, 4]' in config
    with pytest.raises(UserError, match="7 is there already"):
        write_triton(bundle, repository)


def test_triton_may_have_the_prebuilt_engine(bundle: Bundle, tmp_path: Path) -> None:
    (directory,) = write_triton(bundle, tmp_path / "repository", engine=0)
    assert (directory / "7" / "model.plan").read_bytes() == b"engine"
    assert 'platform: "tensorrt_plan"' in (directory / "config.pbtxt").read_text()
    with pytest.raises(UserError, match="model m0 has no prebuilt TensorRT engine number 1"):
        write_triton(bundle, tmp_path / "other", engine=1)
    assert not (tmp_path / "other").exists()


def test_several_models_are_several_to_triton_on_the_kind_of_processor_that_they_are_for(tmp_path: Path) -> None:
    bundle = written(tmp_path / "bundles", model("m0", 0.9), model("m1", 0.8))
    first, second = write_triton(bundle, tmp_path / "repository")
    assert (first.name, second.name) == ("cameras-m0", "cameras-m1")
    config = (first / "config.pbtxt").read_text()
    assert 'name: "cameras-m0"' in config and "KIND_CPU" in config and '"tensorrt"' not in config


@pytest.mark.parametrize("engine", [None, 0])
def test_tritons_schema_takes_the_configuration(bundle: Bundle, engine: int | None, tmp_path: Path) -> None:
    (directory,) = write_triton(bundle, tmp_path, engine)
    read = text_format.Parse((directory / "config.pbtxt").read_text(), model_config())
    assert (read.name, list(read.input[0].dims), list(read.output[0].dims)) == ("cameras", [1, 3, 4, 4], [1, 10])
    assert read.output[0].label_filename == "labels.txt"
    assert read.version_policy.latest.num_versions == 1


# --- the command -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "option", "of"),
    [
        ("rauc", ("--device-type", "x"), "mender"),
        ("triton", ("--module", "module"), "mender"),
        ("mender", ("--compatible", "x"), "rauc"),
        ("triton", ("--cert", "cert.pem"), "rauc"),
        ("mender", ("--cert-key", "key.pem"), "rauc"),
        ("mender", ("--engine", "0"), "triton"),
    ],
)
def test_what_is_for_another_form_is_refused(
    form: str, option: tuple[str, str], of: str, bundle: Bundle, tmp_path: Path
) -> None:
    said = hwnas("bundle", "export", bundle.path, "--for", form, "--out", tmp_path / "out", *option, status=2)
    assert f"{option[0]} is for {of}, not for {form}; leave it out." in said
    assert not (tmp_path / "out").exists()


def test_the_command_exports_only_what_somebody_known_has_signed(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_KEYS", str(tmp_path / "keys"))
    out, module = tmp_path / "cameras.mender", tmp_path / "module"
    arguments = ["bundle", "export", archive_path(bundle.path), "--for", "mender", "--out", out, "--device-type", "x"]
    assert "none is trusted" in hwnas(*arguments, status=2)
    assert not out.exists()
    (tmp_path / "keys").mkdir()
    record = {"schema": 1, "public": TRUSTED[0].public, "created": "2026-11-26T12:00:00Z"}
    (tmp_path / "keys" / "ops.json").write_text(json.dumps(record))
    assert told(*arguments, "--module", module)["written"] == [str(out), str(module)]
    assert module.stat().st_mode & stat.S_IXUSR
    assert hwnas("bundle", "export", bundle.path, "--for", "triton", "--out", tmp_path / "repository")
    assert (tmp_path / "repository" / "cameras" / "7" / "model.onnx").exists()
