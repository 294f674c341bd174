"""Bundles that are not what somebody trusted has signed: each refused and named, nothing loaded, nothing left."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent.protocol import AgentError, ErrorKind
from hwnas.agent.slots.dsse import read_envelope
from hwnas.agent.slots.slots import Slots
from tests.deploy.bundles import (
    BUNDLE_TYPE,
    CHANNEL_TYPE,
    ENVELOPE,
    TinyBundle,
    canonical,
    compressed,
    header,
    make_key,
    member,
    packed,
    signed,
    tiny_bundle,
    tiny_detector,
)
from tests.deploy.fakes import board, deliver, send

GOOD = tiny_bundle(version=2, real=False)
FILES = sorted(GOOD.files)


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    """A board on which something good is installed."""
    slots = board(tmp_path / "root")
    deliver(slots, tiny_bundle(version=1, real=False))
    return slots


def refusal(slots: Slots, archive: bytes, kind: str = ErrorKind.BAD_BUNDLE) -> str:
    """Offer an archive; gives why it was refused, and fails if it was not, or if anything of it is left."""
    before, current = tree(slots.root), slots.current()
    sha256 = hashlib.sha256(archive).hexdigest()
    send(slots, archive, sha256)
    with pytest.raises(AgentError) as refused:
        slots.verify(sha256)
    assert refused.value.kind == kind, refused.value.message
    assert tree(slots.root) == before
    assert slots.current() == current
    assert slots.audit()[-1]["event"] == "refused"
    assert slots.audit()[-1]["reason"] == refused.value.message
    return refused.value.message


def tree(root: Path) -> set[str]:
    """All that lies below the root, what always does but what is in it."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_the_good_one_is_taken(slots: Slots) -> None:
    assert deliver(slots, GOOD).outcome == "confirmed"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["flipped", "cut", "grown", "swapped", "missing"])
def test_every_file_is_the_very_one_that_was_signed(slots: Slots, name: str, harm: str) -> None:
    files: dict[str, bytes] = dict(GOOD.files)
    content = files[name]
    other = next(path for path in FILES if path != name and files[path] != content)
    if harm == "flipped":
        files[name] = (
            content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
        )
    elif harm == "swapped":
        files[name], files[other] = files[other], content
    elif harm == "missing":
        del files[name]
    else:
        files[name] = content[:-1] if harm == "cut" else content + b"\0"
    assert re.search(f"'({name}|{other})'", refusal(slots, packed([(ENVELOPE, GOOD.envelope), *files.items()])))


def test_every_byte_of_the_envelope_counts(slots: Slots) -> None:
    """Flipped one after the other: none of them may pass."""
    trusted = slots.trusted()
    for place in range(0, len(GOOD.envelope), 7):
        envelope = bytearray(GOOD.envelope)
        envelope[place] ^= 1
        with pytest.raises(AgentError) as refused:
            trusted.require_signer(read_envelope(bytes(envelope), "it", BUNDLE_TYPE), "it")
        assert refused.value.kind in (ErrorKind.BAD_BUNDLE, ErrorKind.UNTRUSTED), place


def test_an_archive_cut_anywhere_is_refused(slots: Slots) -> None:
    for length in range(0, len(GOOD.archive), 97):
        sha256 = hashlib.sha256(GOOD.archive[:length]).hexdigest()
        slots.receive(sha256, length)
        slots.put(sha256, 0, length, GOOD.archive[:length])
        with pytest.raises(AgentError) as refused:
            slots.verify(sha256)
        assert refused.value.kind == ErrorKind.BAD_BUNDLE


@pytest.mark.parametrize("place", [*range(0, 40, 3), -1, -5])
def test_a_byte_of_the_compressed_archive(slots: Slots, place: int) -> None:
    """Some bytes of gzip's header say nothing (its time, its system); all others are refused."""
    archive = bytearray(GOOD.archive)
    archive[place] ^= 0x10
    sha256 = hashlib.sha256(archive).hexdigest()
    send(slots, bytes(archive), sha256)
    if place % len(archive) in (4, 5, 6, 7, 8, 9):
        assert slots.verify(sha256) == GOOD.digest
    else:
        with pytest.raises(AgentError) as refused:
            slots.verify(sha256)
        assert refused.value.kind in (ErrorKind.BAD_BUNDLE, ErrorKind.UNTRUSTED)


def test_a_key_that_nobody_trusts(slots: Slots) -> None:
    stranger = make_key(99)
    said = refusal(slots, GOOD.signed_by(stranger).archive, ErrorKind.UNTRUSTED)
    assert "the board trusts key 6cdd00f21c7d1291" in said


def test_a_signature_under_another_s_name(slots: Slots) -> None:
    envelope = json.loads(GOOD.signed_by(make_key(99)).envelope)
    envelope["signatures"][0]["keyid"] = json.loads(GOOD.envelope)["signatures"][0]["keyid"]
    archive = packed([(ENVELOPE, json.dumps(envelope).encode()), *GOOD.files.items()])
    assert "its signature by key 6cdd00f21c7d1291 is wrong" in refusal(slots, archive, ErrorKind.UNTRUSTED)


def test_no_signature_at_all(slots: Slots) -> None:
    archive = packed([(ENVELOPE, signed(GOOD.payload, [])), *GOOD.files.items()])
    assert "signed by nobody" in refusal(slots, archive, ErrorKind.UNTRUSTED)


def test_a_revoked_key(slots: Slots) -> None:
    other = make_key(5)
    slots.trust(other.public_key().public_bytes_raw().hex(), "another", confirmed=True)
    slots.revoke(json.loads(GOOD.envelope)["signatures"][0]["keyid"], "it was lost")
    assert "was revoked (it was lost)" in refusal(slots, GOOD.archive, ErrorKind.UNTRUSTED)
    assert deliver(slots, GOOD.signed_by(make_key(), other)).outcome == "confirmed", "another key has signed, too"


def test_one_good_signature_among_others_is_enough(slots: Slots) -> None:
    assert deliver(slots, GOOD.signed_by(make_key(98), make_key(), make_key(99))).outcome == "confirmed"


def test_an_envelope_of_something_else(slots: Slots) -> None:
    archive = packed([(ENVELOPE, signed(GOOD.payload, GOOD.keys, CHANNEL_TYPE)), *GOOD.files.items()])
    assert CHANNEL_TYPE in refusal(slots, archive)


def test_an_older_bundle_is_not_taken_again(slots: Slots) -> None:
    deliver(slots, tiny_bundle(version=3, real=False))
    assert "the board has had version 3" in refusal(slots, GOOD.archive, ErrorKind.TOO_OLD)
    twin = tiny_bundle(version=3, real=False, extra={"more.txt": b"more"})
    assert "another bundle was version 3" in refusal(slots, twin.archive, ErrorKind.TOO_OLD)


def crafted(*more: bytes, first: bytes | None = None, end: bytes = bytes(1024)) -> bytes:
    """An archive of raw members."""
    files = b"".join(member(name, content) for name, content in GOOD.files.items())
    return compressed((member(ENVELOPE, GOOD.envelope) if first is None else first) + b"".join(more) + files + end)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "models/../../evil", "models//evil", "./labels.json", "a\\b", ""]
)
def test_a_path_that_leads_elsewhere(slots: Slots, name: str) -> None:
    assert f"'{name}' is not a file of its manifest" in refusal(slots, crafted(member(name, b"evil")))
    assert not (slots.root.parent / "evil").exists()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (b"1", "a hard link"),
        (b"2", "a symlink"),
        (b"3", "a character device"),
        (b"4", "a block device"),
        (b"5", "a directory"),
        (b"6", "a FIFO"),
        (b"7", "of type b'7'"),
        (b"x", "of type b'x'"),
        (b"g", "of type b'g'"),
        (b"L", "of type b'L'"),
        (b"S", "of type b'S'"),
        (b"\0", "of type"),
    ],
)
def test_what_is_not_a_regular_file(slots: Slots, kind: bytes, told: str) -> None:
    assert told in refusal(slots, crafted(member("labels.json", b"", kind, "/etc/passwd")))
    assert told in refusal(slots, crafted(first=member(ENVELOPE, b"", kind, "/etc/passwd"))), "nor in the first place"


def test_a_symlink_named_like_a_directory_of_a_file(slots: Slots) -> None:
    link = member("models", b"", b"2", str(slots.root.parent))
    assert "'models' is a symlink" in refusal(slots, crafted(link))


def test_a_file_that_comes_twice(slots: Slots) -> None:
    twice = member("labels.json", GOOD.files["labels.json"])
    assert "'labels.json' is there twice" in refusal(slots, crafted(twice))


def test_the_envelope_comes_first_and_once(slots: Slots) -> None:
    assert "its first member is 'labels.json'" in refusal(slots, crafted(first=b""))
    again = member(ENVELOPE, GOOD.envelope)
    assert f"'{ENVELOPE}' is not a file of its manifest" in refusal(slots, crafted(again))
    assert "its first member is nothing" in refusal(slots, compressed(bytes(1024)))


@pytest.mark.parametrize("end", [b"", bytes(1024) + b"x" * 512, bytes(20480)], ids=["none", "more", "long"])
def test_an_end_that_is_none(slots: Slots, end: bytes) -> None:
    assert re.search("truncated|lies behind its last member", refusal(slots, crafted(end=end)))


@pytest.mark.parametrize("behind", [b"x", GOOD.archive, bytes(1)], ids=["a byte", "another gzip", "a zero"])
def test_something_behind_the_archive(slots: Slots, behind: bytes) -> None:
    assert "something lies behind its last member" in refusal(slots, GOOD.archive + behind)


def test_something_in_the_padding_of_a_member(slots: Slots) -> None:
    first = bytearray(member(ENVELOPE, GOOD.envelope))
    first[-1] = 1
    assert f"something lies behind '{ENVELOPE}'" in refusal(slots, crafted(first=bytes(first)))


@pytest.mark.parametrize(
    "field", [(257, b"ustar  \0"), (124, b"99999999999\0"), (124, b"\x80" + bytes(11)), (148, b"0000000\0")]
)
def test_a_header_that_is_not_one(slots: Slots, field: tuple[int, bytes]) -> None:
    first = bytearray(member(ENVELOPE, GOOD.envelope))
    first[field[0] : field[0] + len(field[1])] = field[1]
    assert re.search("damaged|not USTAR", refusal(slots, crafted(first=bytes(first))))


def test_what_is_not_gzip(slots: Slots) -> None:
    plain = gzip.decompress(GOOD.archive)
    assert "not what gzip made" in refusal(slots, plain)


@pytest.mark.parametrize("where", ["envelope", "header", "member", "end"])
def test_a_zip_bomb_takes_neither_memory_nor_disk(slots: Slots, where: str) -> None:
    zeros = bytes(64 << 20)
    name = "models/m0/model.onnx"
    archive = {
        "envelope": lambda: compressed(member(ENVELOPE, zeros)),
        "header": lambda: compressed(header(ENVELOPE, 8**11 - 1) + zeros),
        "member": lambda: crafted(member(name, zeros)),
        "end": lambda: crafted(end=zeros),
    }[where]()
    assert len(archive) < 200_000
    tracemalloc.start()
    said = refusal(slots, archive)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert re.search("at most 1048576 are taken|bytes, not|behind its last member", said)
    assert peak < 8 << 20


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        record: Any = manifest
        for name in parents:
            record = record[int(name)] if isinstance(record, list) else record[name]
        if value is None:
            del record[last]
        else:
            record[last] = value

    return change


ENTRY = {"bytes": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("schema", 3, "schema and kind must be 1 or 2 and 'bundle'; a newer agent may know others"),
        ("schema", 2, "'absolute' of 'manifest.models[0].golden' is unknown"),
        ("schema", True, "schema"),
        ("kind", "channel", "kind"),
        ("name", "../x", "name"),
        ("name", None, "name"),
        ("version", 0, "version"),
        ("version", 2**53, "version"),
        ("version", 1.5, "version"),
        ("version", "1", "version"),
        ("surprise", 1, "surprise"),
        ("models", [], "models"),
        ("models", {}, "models"),
        ("models/0/id", "a/b", "id"),
        ("models/0/onnx", "../../x", "onnx"),
        ("models/0/surprise", 1, "surprise"),
        ("models/0/input/shape", [1, -3], "shape"),
        ("models/0/input/shape", [True], "shape"),
        ("models/0/outputs", [], "output"),
        ("models/0/golden/absolute", -1, "absolute"),
        ("models/0/golden/absolute", "0", "absolute"),
        ("models/0/budget/statistic", "p90", "statistic"),
        ("models/0/engines", [{"file": "labels.json"}], "is missing"),
        ("samples/images", "none.npy", "images"),
        ("labels", "none.json", "labels"),
        ("runtime", {"runtime": "shell"}, "runtime"),
        ("runtime/threads", 0, "threads"),
        ("files/labels.json/sha256", "A" * 64, "sha256"),
        ("files/labels.json/bytes", -1, "bytes"),
        ("files/models", ENTRY, "cannot be a file and a directory"),
        ("files/manifest.dsse.json", ENTRY, "no name for a file"),
        ("files/.hidden", ENTRY, "no name for a file"),
        ("files/" + "a" * 201, ENTRY, "no name for a file"),
    ],
)
def test_a_manifest_that_says_something_else_than_it_may(slots: Slots, path: str, value: object, told: str) -> None:
    """Signed all the same: the one who signs may err."""
    assert_refused(slots, GOOD, path, value, told)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("schema", 1, "field 'absolute' of 'manifest.models[0].golden' is missing"),
        ("models/0/golden/outputs", [], "a model of 2 outputs has golden ones of 0"),
        ("models/0/golden/outputs", "x", "'outputs' must be a list"),
        ("models/0/golden/outputs/0/values", "none.npy", "'values' must be a file of the bundle"),
        ("models/0/golden/outputs/1/relative", -1, "relative"),
        ("models/0/golden/outputs/1/surprise", 1, "surprise"),
    ],
)
def test_golden_answers_are_of_every_output(slots: Slots, path: str, value: object, told: str) -> None:
    assert_refused(slots, tiny_detector(version=2), path, value, told)


def assert_refused(slots: Slots, bundle: TinyBundle, path: str, value: object, told: str) -> None:
    """The bundle is, if its manifest says ``value`` at ``path``."""
    manifest = json.loads(bundle.payload)
    _set(path, value)(manifest)
    said = refusal(slots, TinyBundle(manifest, bundle.files, bundle.keys).archive)
    assert "the manifest: " in said
    assert told in said


@pytest.mark.parametrize("path", ["built/m0/engine", "../x", "a/../b", "a//b", "/a", "ä", "a\n"])
def test_a_file_s_name_in_a_manifest(slots: Slots, path: str) -> None:
    manifest = json.loads(GOOD.payload)
    manifest["files"][path] = ENTRY
    payload = json.dumps(manifest).encode("ascii")
    archive = packed([(ENVELOPE, signed(payload, GOOD.keys)), *GOOD.files.items()])
    assert "is no name for a file of a bundle" in refusal(slots, archive)


@pytest.mark.parametrize("payload", [b"[]", b"{", b"\xff", b"[" * 100_000, b'{"schema": NaN}'])
def test_a_payload_that_is_no_manifest(slots: Slots, payload: bytes) -> None:
    assert "the manifest" in refusal(slots, packed([(ENVELOPE, signed(payload, GOOD.keys))]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"payload": 1, "payloadType": "x", "signatures": []}',
        b'{"payload": "", "payloadType": "x"}',
        b'{"payload": "", "payloadType": "x", "signatures": [1]}',
        b'{"payload": "", "payloadType": "x", "signatures": [{"keyid": 1, "sig": ""}]}',
    ],
)
def test_an_envelope_that_is_none(slots: Slots, content: bytes) -> None:
    assert "envelope" in refusal(slots, packed([(ENVELOPE, content)]))


def test_nothing_rides_along_in_an_envelope(slots: Slots) -> None:
    envelope = json.loads(GOOD.envelope)
    for changed in (
        {**envelope, "note": "unsigned"},
        {**envelope, "signatures": [{**envelope["signatures"][0], "note": "unsigned"}]},
    ):
        archive = packed([(ENVELOPE, json.dumps(changed).encode()), *GOOD.files.items()])
        assert "nobody signed" in refusal(slots, archive)


def test_base64_has_one_spelling(slots: Slots) -> None:
    envelope = json.loads(GOOD.envelope)
    signature = envelope["signatures"][0]["sig"]
    assert signature.endswith("==")
    other = signature[:-3] + chr(ord(signature[-3]) + 1) + "=="
    assert base64.b64decode(other) == base64.b64decode(signature)
    envelope["signatures"][0]["sig"] = other
    archive = packed([(ENVELOPE, json.dumps(envelope).encode()), *GOOD.files.items()])
    assert "bits that say nothing" in refusal(slots, archive)


def test_canonical_form_is_the_signer_s_business(slots: Slots) -> None:
    """The board hashes and verifies the bytes as they are."""
    payload = json.dumps(json.loads(GOOD.payload), indent=2).encode()
    assert payload != canonical(json.loads(payload))
    archive = packed([(ENVELOPE, signed(payload, GOOD.keys)), *GOOD.files.items()])
    send(slots, archive, hashlib.sha256(archive).hexdigest())
    assert slots.verify(hashlib.sha256(archive).hexdigest()) == hashlib.sha256(payload).hexdigest()
