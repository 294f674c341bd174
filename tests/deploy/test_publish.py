from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hwnas.deploy.bundle import archive_path
from hwnas.deploy.canonical import canonical
from hwnas.deploy.errors import BadBundleError, UntrustedError
from hwnas.deploy.keys import KeyStore
from hwnas.deploy.publish import CHANNEL_FILE, Channel, publish, read_channel
from hwnas.deploy.signing import BUNDLE_TYPE, CHANNEL_TYPE, sign
from hwnas.devices.zipapp import agent_zipapp
from hwnas.errors import BadFileError, UserError
from hwnas.files import sha256_of
from tests.deploy.bundles import tiny_bundle
from tests.deploy.commands import hwnas, told
from tests.deploy.made_bundles import KEY, OTHER_KEY, TRUSTED, model, written

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    """Four versions of a bundle."""
    made = [written(tmp_path / "bundles", model(accuracy=0.5 + 0.1 * n), version=n) for n in (1, 2, 3, 4)]
    return [bundle.path for bundle in made]


def put(directory: Path, bundle: Path | None, at: datetime = NOON, days: float = 30) -> Channel:
    return publish(directory, bundle, [KEY], TRUSTED, days, at)


def archives(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.tar.gz"))


def test_what_is_published_says_all_that_a_board_checks(bundles: list[Path], tmp_path: Path) -> None:
    www = tmp_path / "www"
    channel = put(www, bundles[0])
    assert channel == read_channel(www, TRUSTED)
    assert (channel.name, channel.version) == ("cameras", 1)
    assert (channel.published, channel.expires) == ("2026-11-26T12:00:00Z", "2026-12-26T12:00:00Z")
    archive = www / channel.bundle.file
    assert (channel.bundle.bytes, channel.bundle.sha256) == (archive.stat().st_size, sha256_of(archive))
    assert archive.read_bytes() == archive_path(bundles[0]).read_bytes()
    envelope = json.loads((www / CHANNEL_FILE).read_bytes())
    assert envelope["payloadType"] == CHANNEL_TYPE


def test_a_directory_and_an_archive_publish_the_same_bytes(bundles: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    put(first, bundles[0])
    put(second, archive_path(bundles[0]))
    assert (first / CHANNEL_FILE).read_bytes() == (second / CHANNEL_FILE).read_bytes()


def test_the_version_grows_with_every_publication_and_the_last_two_archives_stay(
    bundles: list[Path], tmp_path: Path
) -> None:
    www = tmp_path / "www"
    for bundle in bundles:
        put(www, bundle)
    renewed = put(www, None, at=NOON + timedelta(days=20))
    assert (renewed.version, renewed.bundle.version) == (5, 4)
    assert renewed.expires == "2027-01-15T12:00:00Z"
    assert archives(www) == ["cameras-v3.tar.gz", "cameras-v4.tar.gz"]


def test_what_boards_would_refuse_is_not_published(bundles: list[Path], tmp_path: Path) -> None:
    www = tmp_path / "www"
    with pytest.raises(UserError, match="holds no channel yet; name the bundle"):
        put(www, None)
    put(www, bundles[1])
    before = (www / CHANNEL_FILE).read_bytes()
    with pytest.raises(UserError, match="has version 2 of 'cameras' and boards refuse version 1"):
        put(www, bundles[0])
    other = written(tmp_path / "others", model(accuracy=0.1), version=2).path
    with pytest.raises(UserError, match="has another version 2"):
        put(www, other)
    with pytest.raises(UserError, match="which is to come; set the clock"):
        put(www, None, at=NOON - timedelta(days=1))
    for days in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="expires after more than 0 and at most 3650 days"):
            put(www, None, days=days)
    assert (www / CHANNEL_FILE).read_bytes() == before
    assert archives(www) == ["cameras-v2.tar.gz"]


def test_nothing_untrusted_or_changed_is_published_or_prolonged(bundles: list[Path], tmp_path: Path) -> None:
    www = tmp_path / "www"
    stranger = written(tmp_path / "strangers", key=OTHER_KEY).path
    with pytest.raises(UntrustedError, match="none is trusted"):
        put(www, stranger)
    (bundles[0] / "labels.json").write_bytes(b"{}")
    with pytest.raises(BadBundleError, match=r"labels.json"):
        put(www, bundles[0])
    assert archives(www) == []
    put(www, bundles[1])
    (www / "cameras-v2.tar.gz").write_bytes(b"other")
    with pytest.raises(BadFileError, match="is missing or was changed; publish the bundle again"):
        put(www, None)
    put(www, bundles[1])
    channel = read_channel(www, TRUSTED)
    (www / CHANNEL_FILE).write_bytes(sign(canonical(channel), CHANNEL_TYPE, [OTHER_KEY]))
    with pytest.raises(UntrustedError, match="none is trusted"):
        put(www, None)


def test_a_bundles_envelope_is_no_channel_and_the_reverse(bundles: list[Path], tmp_path: Path) -> None:
    www = tmp_path / "www"
    channel = put(www, bundles[0])
    shutil.copy(bundles[0] / "manifest.dsse.json", www / CHANNEL_FILE)
    with pytest.raises(UntrustedError, match="was signed as"):
        read_channel(www, TRUSTED)
    (www / CHANNEL_FILE).write_bytes(sign(canonical(channel), BUNDLE_TYPE, [KEY]))
    with pytest.raises(UntrustedError, match="was signed as"):
        read_channel(www, TRUSTED)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("published", "yesterday"),
        ("expires", "2026-12-26 12:00:00"),
        ("name", "../x"),
        ("more", 1),
        *(("bundle.file", name) for name in ("../up.tar.gz", "http://x/y.tar.gz", "a/b.tar.gz", ".hidden.tar.gz", "x")),
    ],
)
def test_a_channel_that_makes_no_sense_is_refused(
    field: str, value: object, bundles: list[Path], tmp_path: Path
) -> None:
    record = put(tmp_path, bundles[0]).model_dump(mode="json")
    outer, _, inner = field.partition(".")
    record[outer] = record[outer] | {inner: value} if inner else value
    (tmp_path / CHANNEL_FILE).write_bytes(sign(canonical(record), CHANNEL_TYPE, [KEY]))
    with pytest.raises(BadFileError, match=f"field '{field}'"):
        read_channel(tmp_path, TRUSTED)


def test_a_board_installs_what_was_published_and_refuses_what_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an ONNX file to a confirmed slot, by the commands of both sides."""
    monkeypatch.setenv("HWNAS_KEYS", str(tmp_path / "keys"))
    model_file, www, root = tmp_path / "net.onnx", tmp_path / "www", tmp_path / "slots"
    model_file.write_bytes(tiny_bundle().files["models/m0/model.onnx"])
    program = tmp_path / "hwnas-agent.pyz"
    program.write_bytes(agent_zipapp())

    def on_board(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-E", program, *map(str, arguments), "--root", root]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    key = told("keys", "new", "ops")
    made = told("bundle", model_file, "--target", "host-cpu", "--name", "cameras", "--out", tmp_path / "bundles")
    told("publish", www, made["archive"])
    assert "untrusted" in on_board("pull", www).stderr
    root.mkdir(mode=0o700, exist_ok=True)
    hwnas("keys", "trust", "ops", "--target", "host-cpu", "--root", root, "--yes")
    assert on_board("pull", www).stdout == f"{made['digest']} confirmed\n"
    told("publish", www)
    assert on_board("pull", www).stdout == f"{made['digest']} unchanged\n"
    private = KeyStore().unlocked()
    long_ago = datetime.now(UTC) - timedelta(days=60)
    (www / CHANNEL_FILE).unlink()
    publish(www, Path(made["path"]), private, KeyStore().trusted(), 30, long_ago)
    assert "too-old" in on_board("pull", www).stderr
    assert json.loads(on_board("slots", "status").stdout)["trusted"][0]["keyid"] == key["keyid"]
