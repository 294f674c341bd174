"""What is wanted of a target beside its defaults."""

from __future__ import annotations

import pytest

from hwnas.devices import CompileOptions, Fingerprint, RuntimeChoice, informed, load_target
from hwnas.devices.choice import boards_at
from hwnas.devices.target import Ssh
from hwnas.errors import UserError

CPU, GPU = load_target("host-cpu"), load_target("local-gpu")


def test_nothing_wanted_is_the_targets_default() -> None:
    assert RuntimeChoice().options(CPU) == CompileOptions("onnxruntime", "fp32", 1, "CPUExecutionProvider")


def test_another_runtime_has_its_own_first_provider_and_precision() -> None:
    assert RuntimeChoice("torch").options(CPU) == CompileOptions("torch", "fp32", 1, "cpu")
    assert RuntimeChoice("onnxruntime").options(GPU).provider == "CUDAExecutionProvider"


def test_what_is_named_is_taken() -> None:
    found = RuntimeChoice("torch", "cpucompile", "bf16", 2).options(CPU)
    assert found == CompileOptions("torch", "bf16", 2, "cpucompile")


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        (RuntimeChoice("abacus"), "'host-cpu' has no runtime called 'abacus'; it has onnxruntime, torch"),
        (RuntimeChoice(provider="cpu"), "no provider of onnxruntime called 'cpu'; it has CPUExecutionProvider"),
        (RuntimeChoice("torch", precision="int8"), "no precision of torch called 'int8'; it has fp32, bf16"),
    ],
)
def test_what_a_target_does_not_have_is_refused(choice: RuntimeChoice, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        choice.options(CPU)


@pytest.mark.parametrize(
    ("runtime", "version", "remainder"),
    [("tensorrt", "8.5.2.2", "fp32"), ("tensorrt", "10.3.0", "fp16"), ("onnxruntime", "8.0", "fp16")],
)
def test_int8_leaves_over_what_the_runtime_that_was_found_can_read(runtime: str, version: str, remainder: str) -> None:
    found = Fingerprint(identity={"runtime": {"name": runtime, "version": version}}, context={})
    options = CompileOptions(runtime, "int8", provider="gpu")
    assert informed(options, found).remainder == remainder
    assert informed(CompileOptions(precision="int8"), found).remainder == "fp32"


def test_boards_of_a_target_are_where_they_are_said_to_be_and_reached_as_the_target_says() -> None:
    settings = Ssh(kind="ssh", host="lab", user="me", port=2222, keys=["~/board"], jump=["gate"], python="/opt/python")
    target = CPU.model_copy(update={"connection": settings})
    boards = boards_at(target, ["a", "you@b:22", "[fe80::1]:23"])
    assert [board.address for board in boards] == ["me@a:2222", "you@b:22", "me@[fe80::1]:23"]
    assert {board.name for board in boards} == {target.name}
    told = [board.connection.model_dump(exclude={"host", "user", "port"}) for board in boards]
    assert told == 3 * [settings.model_dump(exclude={"host", "user", "port"})]
    assert boards_at(CPU, ["me@a"])[0].connection == Ssh(kind="ssh", host="a", user="me")
    with pytest.raises(UserError, match=r"\[user@\]host\[:port\], not 'a b'"):
        boards_at(CPU, ["a b"])
