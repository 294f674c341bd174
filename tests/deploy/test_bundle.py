from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hwnas.deploy.archive import gzipped, write_tar
from hwnas.deploy.bundle import Bundle, archive_path, next_version, write_bundle
from hwnas.deploy.canonical import canonical
from hwnas.deploy.content import BundledModel
from hwnas.deploy.errors import BadBundleError, UntrustedError
from hwnas.deploy.golden import Expected, accuracy, least_accuracy, tolerated_share
from hwnas.deploy.manifest import MANIFEST_FILE, Manifest, Preprocessing
from hwnas.deploy.signing import BUNDLE_TYPE, CHANNEL_TYPE, sign
from hwnas.deploy.verification import verify_bundle
from hwnas.errors import BadFileError, UserError
from tests.deploy import bundles
from tests.deploy.commands import hwnas, told
from tests.deploy.made_bundles import KEY, OTHER_KEY, TRUSTED, content, model, written

Files = dict[str, bytes]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return written(tmp_path / "bundles", model("m0", 0.9, engine="tensorrt"), model("m1", 0.8))


def files_of(bundle: Bundle) -> Files:
    """All files of a bundle's directory, in the order of its archive."""
    names = (MANIFEST_FILE, *sorted(bundle.manifest.files))
    return {name: (bundle.path / name).read_bytes() for name in names}


def as_directory(files: Files, directory: Path) -> Path:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def as_archive(files: Files, path: Path) -> Path:
    buffer = io.BytesIO()
    write_tar(files.items(), buffer)
    path.write_bytes(gzipped(buffer.getvalue()))
    return path


def both(files: Files, tmp_path: Path) -> tuple[Path, Path]:
    return as_directory(files, tmp_path / "d"), as_archive(files, tmp_path / "a.tar.gz")


# --- the same inputs, the same bytes ---------------------------------------------------------------------------


def test_directory_and_archive_hold_the_same_and_are_verified(bundle: Bundle, tmp_path: Path) -> None:
    archive = archive_path(bundle.path)
    for path in (bundle.path, archive):
        found = verify_bundle(path, TRUSTED)
        assert (found.manifest, found.digest) == (bundle.manifest, bundle.digest)
    verify_bundle(archive, TRUSTED, unpack_to=tmp_path / "unpacked")
    assert files_of(verify_bundle(tmp_path / "unpacked", TRUSTED)) == files_of(bundle)
    with tarfile.open(archive) as opened:
        entries = opened.getmembers()
    assert entries[0].name == MANIFEST_FILE
    assert [entry.name for entry in entries[1:]] == sorted(bundle.manifest.files)
    assert {(entry.mode, entry.uid, entry.gid, entry.mtime, entry.uname) for entry in entries} == {(0o644, 0, 0, 0, "")}
    assert archive.read_bytes()[4:10] == bytes(5) + b"\xff", "neither time nor name nor system"


def test_the_most_accurate_model_comes_first(bundle: Bundle) -> None:
    assert [each.id for each in bundle.manifest.models] == ["m0", "m1"]
    turned = content(model("m0", 0.7), model("m1", 0.8)).manifest(1)
    assert [each.id for each in turned.models] == ["m1", "m0"]


WRITER = """
import os, sys
os.umask(int(sys.argv[2], 8))
from pathlib import Path
from tests.deploy.made_bundles import model, written
written(Path(sys.argv[1]), model("m1", 0.8), model("m0", 0.9, engine="tensorrt"), version=3)
"""


def test_two_processes_of_other_time_zone_umask_and_language_write_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for number, (zone, umask, language) in enumerate(
        [("UTC", "022", "C"), ("Asia/Kathmandu", "077", "tr_TR.UTF-8"), ("America/St_Johns", "000", "C.UTF-8")]
    ):
        directory = tmp_path / str(number)
        env = os.environ | {"TZ": zone, "LC_ALL": language, "PYTHONHASHSEED": str(number)}
        subprocess.run([sys.executable, "-c", WRITER, directory, umask], env=env, check=True)
        path = directory / "cameras-v3"
        modes = {oct(each.stat().st_mode & 0o777) for each in path.rglob("*")}
        files = {each.relative_to(path).as_posix(): each.read_bytes() for each in path.rglob("*") if each.is_file()}
        found.append((archive_path(path).read_bytes(), files, modes))
    assert found[0] == found[1] == found[2]
    assert found[0][2] == {"0o644", "0o755"}


@given(names=st.sets(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), min_size=1, max_size=4), data=st.data())
@settings(max_examples=15, deadline=None)
def test_the_order_in_which_models_are_given_is_of_no_account(
    names: set[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    models = [model(name, 0.5) for name in sorted(names)]
    shuffled = data.draw(st.permutations(models))
    first, second = (
        write_bundle(content(*each), 1, tmp_path_factory.mktemp("b"), [KEY]) for each in (models, shuffled)
    )
    assert first.envelope == second.envelope
    assert archive_path(first.path).read_bytes() == archive_path(second.path).read_bytes()


def test_versions_grow_and_never_change(tmp_path: Path) -> None:
    assert next_version(tmp_path / "none", "cameras") == 1
    assert write_bundle(content(), None, tmp_path, [KEY]).manifest.version == 1
    first = archive_path(tmp_path / "cameras-v1").read_bytes()
    write_bundle(content(), 1, tmp_path, [KEY])
    assert archive_path(tmp_path / "cameras-v1").read_bytes() == first
    with pytest.raises(
        UserError, match=r"cameras-v1 is there already, and its manifest.* is another; .*give a new one"
    ):
        write_bundle(content(model(accuracy=0.1)), 1, tmp_path, [KEY])
    (tmp_path / "cameras-v1" / "labels.json").write_bytes(b"{}")
    with pytest.raises(UserError, match=r"its labels.json is another"):
        write_bundle(content(), 1, tmp_path, [KEY])
    (tmp_path / "cameras-v12.tar.gz").touch()
    (tmp_path / "cameras-v99x").mkdir()
    (tmp_path / "other-v50").mkdir()
    assert next_version(tmp_path, "cameras") == 13
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_bundle_that_cannot_be_written_whole_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(UserError, match="is full"):
        write_bundle(replace(content(), unit=bytes(100_000)), 1, small_disk, [KEY])
    assert list(small_disk.iterdir()) == []


# --- nothing but what was signed -------------------------------------------------------------------------------


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


CHANGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "one bit": (flipped, "changed"),
    "cut short": (lambda data: data[:-1], "bytes instead of"),
    "longer": (lambda data: data + b"\0", "bytes instead of"),
    "emptied": (lambda data: b"", "bytes instead of"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_file_that_is_not_as_it_was_signed_is_named(bundle: Bundle, change: str, tmp_path: Path) -> None:
    alter, complaint = CHANGES[change]
    files = files_of(bundle)
    for number, name in enumerate(bundle.manifest.files):
        for path in both(files | {name: alter(files[name])}, tmp_path / str(number)):
            with pytest.raises(BadBundleError) as caught:
                verify_bundle(path, TRUSTED)
            (fault,) = caught.value.faults
            assert fault.startswith(f"{name}: ") and complaint in fault
    changed = files | {MANIFEST_FILE: alter(files[MANIFEST_FILE])}
    for path in both(changed, tmp_path / "manifest"):
        with pytest.raises(UntrustedError):
            verify_bundle(path, TRUSTED)


def test_files_that_changed_places_are_both_named(bundle: Bundle, tmp_path: Path) -> None:
    files = files_of(bundle)
    one, other = "models/m0/golden-inputs.npy", "models/m1/golden-inputs.npy"
    assert len(files[one]) == len(files[other])
    swap = {one: flipped(files[other]), other: files[one] + b"x"}
    for path in both(files | swap, tmp_path):
        with pytest.raises(BadBundleError) as caught:
            verify_bundle(path, TRUSTED)
        assert [fault.partition(":")[0] for fault in caught.value.faults] == [one, other]


def test_missing_and_surplus_files_are_named(bundle: Bundle, tmp_path: Path) -> None:
    files = files_of(bundle)
    without = {name: data for name, data in files.items() if name != "labels.json"}
    for path in both(without | {"models/m0/more.onnx": b""}, tmp_path):
        with pytest.raises(BadBundleError) as caught:
            verify_bundle(path, TRUSTED)
        assert set(caught.value.faults) == {"labels.json: missing", "models/m0/more.onnx: not in the manifest"}


def test_links_and_special_files_are_no_files(bundle: Bundle, tmp_path: Path) -> None:
    path = shutil.copytree(bundle.path, tmp_path / "linked")
    secret = tmp_path / "secret"
    shutil.move(path / "labels.json", secret)
    (path / "labels.json").symlink_to(secret)
    (path / "samples").rename(tmp_path / "elsewhere")
    (path / "samples").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(path / "pipe")
    with pytest.raises(BadBundleError) as caught:
        verify_bundle(path, TRUSTED)
    assert {
        "labels.json: a symbolic link, not a file",
        "samples: not in the manifest",
        "samples/images.npy: missing",
        "pipe: not in the manifest",
    } <= set(caught.value.faults)


def packed(*members: bytes) -> bytes:
    return bundles.compressed(b"".join(members) + bytes(1024))


def test_archives_that_mean_harm_are_refused_and_nothing_leaves_the_directory(bundle: Bundle, tmp_path: Path) -> None:
    first = bundles.member(MANIFEST_FILE, bundle.envelope)
    rest = [bundles.member(name, data) for name, data in files_of(bundle).items() if name != MANIFEST_FILE]
    labels = bundles.member("labels.json", (bundle.path / "labels.json").read_bytes())
    cases = {
        "../escaped: not in the manifest": [first, bundles.member("../escaped", b"x"), *rest],
        "/tmp/escaped: not in the manifest": [first, bundles.member("/tmp/escaped", b"x"), *rest],
        "labels.json: stands there twice": [first, *rest, labels],
        "a symbolic link": [first, bundles.member("labels.json", b"", b"2", "/etc/passwd"), *rest],
        "a hard link": [first, bundles.member("labels.json", b"", b"1", MANIFEST_FILE), *rest],
        "a special file": [first, bundles.member("labels.json", b"", b"6"), *rest],
        "header of type b'x'": [first, bundles.member("pax", b"17 path=/etc/pass\n", b"x"), *rest],
        "header of type b'L'": [first, bundles.member("long", b"/etc/passwd", b"L"), *rest],
        "more than the manifest announces": [first, bundles.header("bomb", 8 << 30), bytes(1 << 20)],
    }
    for number, (complaint, members) in enumerate(cases.items()):
        path, unpacked = tmp_path / f"{number}.tar.gz", tmp_path / str(number)
        path.write_bytes(packed(*members))
        unpacked.mkdir()
        with pytest.raises(BadBundleError, match=complaint.replace("(", "\\(")):
            verify_bundle(path, TRUSTED, unpack_to=unpacked)
        assert not (tmp_path / "escaped").exists() and not Path("/tmp/escaped").exists()
        outside = {each.resolve() for each in unpacked.rglob("*")}
        assert all(each.is_relative_to(unpacked) for each in outside)


def test_a_stream_without_end_is_not_read_to_it(bundle: Bundle, tmp_path: Path) -> None:
    surplus = b"".join(bundles.member(f"more{number}", bytes(300_000)) for number in range(100))
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(packed(bundles.member(MANIFEST_FILE, bundle.envelope), surplus))
    with pytest.raises(BadBundleError, match="not read any further") as caught:
        verify_bundle(path, TRUSTED)
    assert len(caught.value.faults) < 10


def test_an_archive_cut_off_anywhere_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    whole = archive_path(bundle.path).read_bytes()
    path = tmp_path / "cut.tar.gz"
    for size in [*range(0, len(whole), 97), len(whole) - 8, len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises((BadBundleError, UntrustedError)):
            verify_bundle(path, TRUSTED)


def test_what_follows_the_archive_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    tar = gzip.decompress(archive_path(bundle.path).read_bytes())
    path = tmp_path / "longer.tar.gz"
    for more in (tar + b"more", tar + bytes(3 * tarfile.RECORDSIZE)):
        path.write_bytes(gzipped(more))
        with pytest.raises(BadBundleError, match="something follows"):
            verify_bundle(path, TRUSTED)


def test_a_bundle_of_a_stranger_or_of_another_type_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    files = files_of(bundle)
    for number, (envelope, complaint) in enumerate(
        [
            (sign(bundle.payload, BUNDLE_TYPE, [OTHER_KEY]), "of whom none is trusted"),
            (sign(bundle.payload, CHANNEL_TYPE, [KEY]), "was signed as"),
        ]
    ):
        for path in both(files | {MANIFEST_FILE: envelope}, tmp_path / str(number)):
            with pytest.raises(UntrustedError, match=complaint):
                verify_bundle(path, TRUSTED)
    del files[MANIFEST_FILE]
    for path in both(files, tmp_path / "unsigned"):
        with pytest.raises(UntrustedError, match=r"does not begin with manifest.dsse.json, so nothing in it is signed"):
            verify_bundle(path, TRUSTED)
    with pytest.raises(BadFileError, match="does not exist"):
        verify_bundle(tmp_path / "nowhere", TRUSTED)


def test_the_command_shows_a_bundle_or_names_every_fault(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_KEYS", str(tmp_path / "keys"))
    told("keys", "new", "mine")
    assert "of whom none is trusted" in hwnas("bundle", "verify", bundle.path, status=2)
    record = {"schema": 1, "public": TRUSTED[0].public, "created": "2026-11-26T12:00:00Z"}
    (tmp_path / "keys" / "theirs.json").write_text(json.dumps(record))
    shown = hwnas("bundle", "verify", archive_path(bundle.path))
    for part in (bundle.digest, "m0", "90.00 %", "p99 at most 5 ms, memory at most 64 MiB", "Checked for host-cpu"):
        assert part in shown
    assert told("bundle", "verify", bundle.path)["digest"] == bundle.digest
    assert "of whom none is trusted" in hwnas("bundle", "verify", bundle.path, "--key", "mine", status=2)
    (bundle.path / "labels.json").unlink()
    (bundle.path / "models" / "m0" / "model.onnx").write_bytes(b"other onnx")
    faults = "models/m0/model.onnx: changed: its SHA-256 is another; labels.json: missing"
    assert faults in hwnas("bundle", "verify", bundle.path, "--key", "theirs", status=2)


def test_nothing_is_believed_before_the_signature_fits(bundle: Bundle, tmp_path: Path) -> None:
    signed_nonsense = sign(canonical({"schema": 1, "kind": "bundle"}), BUNDLE_TYPE, [KEY])
    for path in both({MANIFEST_FILE: signed_nonsense}, tmp_path):
        with pytest.raises(BadBundleError, match="manifest: field 'name'"):
            verify_bundle(path, TRUSTED)


def test_the_boards_code_reads_what_is_written_here(bundle: Bundle) -> None:
    from hwnas.agent.slots.manifest import read_manifest

    read = read_manifest(bundle.payload)
    assert (read.name, read.version, read.digest) == ("cameras", 1, bundle.digest)
    assert set(read.files) == set(bundle.manifest.files)


# --- manifests that make no sense ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "../up"}, "name"),
        ({"name": "Cameras"}, "name"),
        ({"version": 0}, "version"),
        ({"version": 2**53}, "version"),
        ({"version": True}, "version"),
        ({"version": "7"}, "version"),
        ({"labels": "other.json"}, "is named and not among the files"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": "0" * 64}}}, "files"),
        ({"files": {"a/../b": {"bytes": 1, "sha256": "0" * 64}}}, "files"),
        ({"models": []}, "models"),
        ({"more": 1}, "more"),
        ({"schema": 2}, "schema"),
        ({"kind": "channel"}, "kind"),
    ],
)
def test_a_manifest_is_refused_with_the_field(bundle: Bundle, changes: dict[str, object], complaint: str) -> None:
    record = bundle.manifest.model_dump(mode="json") | changes
    with pytest.raises(ValueError, match=complaint):
        Manifest.model_validate_json(canonical(record))


def detecting(name: str = "m0") -> BundledModel:
    """A model of two outputs."""
    one = model(name)
    (output,) = one.outputs
    (logits,) = one.golden.outputs
    return replace(
        one,
        outputs=(output, output.model_copy(update={"name": "more"})),
        golden=replace(one.golden, outputs=(logits, replace(logits, relative=0.5))),
    )


def test_the_oldest_schema_is_written_that_says_all() -> None:
    """So that agents and programs of before read what they always could."""
    classifiers, detectors = (json.loads(canonical(content(one).manifest(1))) for one in (model(), detecting()))
    assert (classifiers["schema"], detectors["schema"]) == (1, 2)
    assert set(classifiers["models"][0]["golden"]) == {"inputs", "outputs", "absolute", "relative"}
    for output in detectors["models"][0]["golden"]["outputs"]:
        assert set(output) == {"values", "absolute", "relative"}
    assert "metric" not in classifiers["provenance"]
    of_detectors = replace(content(detecting()), provenance=content().provenance.model_copy(update={"metric": "mAP"}))
    assert json.loads(canonical(of_detectors.manifest(1)))["provenance"]["metric"] == "mAP"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda record: record.update(schema=1), "golden answers of model m0 are not as in schema 1"),
        (lambda record: record["models"][0]["golden"]["outputs"].pop(), "2 outputs have golden answers of 1"),
    ],
)
def test_golden_answers_are_those_of_the_schema(change: Callable[[dict[str, Any]], object], complaint: str) -> None:
    record = json.loads(canonical(content(detecting()).manifest(1)))
    assert Manifest.model_validate(record).models[0].golden.tolerances
    change(record)
    with pytest.raises(ValueError, match=complaint):
        Manifest.model_validate(record)


def test_only_what_keeps_its_shape_is_of_the_second_schema_of_preprocessing() -> None:
    letterboxed = {"height": 4, "width": 4, "fit": "letterbox", "fill": 128}
    said = {"schema": 2, "mean": None, "std": None, "resize": letterboxed}
    assert json.loads(canonical(Preprocessing.model_validate(said)))["resize"].items() >= letterboxed.items()
    for other in ({"schema": 1}, {"resize": {"height": 4, "width": 4}}, {"resize": None}):
        with pytest.raises(ValueError, match="resize is not as in schema"):
            Preprocessing.model_validate({**said, **other})


def test_probabilities_may_also_be_off_by_a_share_of_their_own() -> None:
    values = np.array([[0.6, 0.0, 0.0, 0.0]])
    plain = Expected.of(values, 0.02)
    assert (plain.absolute, plain.relative) == (0.006, 0.0)
    assert Expected.of(values, 0.02, probabilities=True).relative == 0.02


def test_models_that_cannot_stand_in_for_each_other_make_no_bundle() -> None:
    other = model("m1", 0.8)
    wider = replace(other, input=other.input.model_copy(update={"shape": (1, 3, 8, 8)}))
    with pytest.raises(UserError, match="models m0 and m1 have other inputs or outputs"):
        content(model("m0"), wider).manifest(1)
    with pytest.raises(UserError, match="model m0 stands there twice"):
        content(model("m0"), model("m0")).manifest(1)


# --- golden answers --------------------------------------------------------------------------------------------


def test_tolerances_follow_what_computes() -> None:
    assert tolerated_share("onnxruntime", "fp32") < tolerated_share("onnxruntime", "fp16")
    for in_tf32 in ("tensorrt", "tensorrt_rtx"):
        assert tolerated_share(in_tf32, "fp32") == tolerated_share("onnxruntime", "fp16")
    shares = [tolerated_share("tensorrt", precision) for precision in ("fp16", "bf16", "int8")]
    assert shares == sorted(set(shares))
    for runtime, larger in (("onnxruntime", 1), ("tensorrt", 2)):
        assert tolerated_share(runtime, "fp32", detector=True) == larger * tolerated_share(runtime, "fp32")


@given(
    outputs=arrays.arrays(np.float32, (7, 4), elements=st.floats(-100, 100, width=32)).filter(np.any),
    share=st.floats(1e-3, 1),
    noise=st.floats(-0.5, 0.5),
    data=st.data(),
)
@settings(deadline=None)
def test_engines_that_differ_by_half_the_tolerance_keep_the_least_accuracy(
    outputs: np.ndarray, share: float, noise: float, data: st.DataObject
) -> None:
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=7, max_size=7)))
    expected = Expected.of(outputs, share)
    least = least_accuracy(expected, labels)
    assert least <= accuracy(outputs, labels)
    signs = np.array(data.draw(st.lists(st.sampled_from([-1, 1]), min_size=28, max_size=28))).reshape(7, 4)
    moved = outputs.astype(np.float64) + signs * noise * expected.absolute * (1 - 1e-6)
    assert accuracy(moved, labels) >= least


@pytest.mark.parametrize("outputs", [np.zeros((2, 3)), np.array([[np.nan, 1.0]]), np.array([[np.inf, 1.0]])])
def test_outputs_from_which_nothing_can_be_told_are_refused(outputs: np.ndarray) -> None:
    with pytest.raises(UserError, match="not finite, or all 0"):
        Expected.of(outputs, 0.1)
