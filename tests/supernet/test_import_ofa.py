"""Once-for-all checkpoints, as the package ``ofa`` would write them, become supernets of ours."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import BadFileError
from hwnas.supernet import load_supernet
from hwnas.supernet.importing import import_once_for_all
from hwnas.supernet.importing.ofa import SPACES

pytest.importorskip("ofa", reason="needs the package ofa (pip install hwnas[dev])")

from scripts.once_for_all import activate, published

SMALLEST = "ofa_mbv3_d234_e346_k357_w1.0"


@torch.no_grad()
def as_trained(network: nn.Module) -> nn.Module:
    """Weights of which each matters to the outputs: norms with statistics of their own, transforms that mix."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if ".bn." in name and name.endswith(("weight", "bias")):
            tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=0.2)
        elif name.endswith("_matrix"):
            tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.05)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    network(torch.randn(4, 3, 64, 64, generator=generator))
    network.eval()
    (weight,) = (
        t for name, t in network.state_dict().items() if name.startswith("classifier") and name.endswith("weight")
    )
    weight.div_(network(torch.randn(8, 3, 64, 64, generator=generator)).std(0).mean())
    return network


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest of the published networks, as its file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("published") / SMALLEST
    torch.save({"state_dict": published(SMALLEST).state_dict()}, path)
    return path


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "resnet" in name else []) for name in SPACES]
)
def test_fifty_subnets_compute_what_theirs_do(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = as_trained(published(name))
    torch.save({"epoch": 1, "state_dict": theirs.state_dict()}, tmp_path / "checkpoint")
    record = import_once_for_all(tmp_path / "checkpoint", tmp_path / "out")
    supernet, read = load_supernet(tmp_path / "out")
    assert read == record and record.space == SPACES[name]
    assert (record.num_classes, record.training["imported"]) == (1000, name)
    space = supernet.space
    images = torch.randn(2, 3, 32, 32)  # the networks are fully convolutional, and small pictures are computed sooner
    outputs = []
    for architecture in space.decode(space.sample(np.random.default_rng(0), 50)):
        activate(theirs, space, architecture)
        with torch.no_grad():
            outputs.append(theirs(images))
            assert (supernet.extract(architecture)(images) - outputs[-1]).abs().max() < 1e-5
    differences = torch.pdist(torch.stack(outputs).flatten(1))
    assert differences.min() > 0.05 and (outputs[0][0] - outputs[0][1]).abs().max() > 1e-3


def test_names_of_older_files_are_known(smallest: Path, tmp_path: Path) -> None:
    import_once_for_all(smallest, tmp_path / "new")
    state = torch.load(smallest, weights_only=True)["state_dict"]
    older = {
        name.replace(".conv.", ".mobile_inverted_conv.", 1).replace(".bn.bn.", ".bn.") if "blocks" in name else name: t
        for name, t in state.items()
    }
    assert older.keys() != state.keys()
    torch.save(older, tmp_path / "older", _use_new_zipfile_serialization=False)
    import_once_for_all(tmp_path / "older", tmp_path / "old")
    weights = [(tmp_path / version / "weights.safetensors").read_bytes() for version in ("new", "old")]
    assert weights[0] == weights[1]


def test_names_of_classes_are_recorded_and_must_be_as_many(smallest: Path, tmp_path: Path) -> None:
    names = tuple(f"thing {number}" for number in range(1000))
    assert import_once_for_all(smallest, tmp_path / "out", names).dataset.class_names == names
    with pytest.raises(BadFileError, match="1000 classes apart, but 2 names"):
        import_once_for_all(smallest, tmp_path / "few", names[:2])
    assert not (tmp_path / "few").exists()


class Code:
    """What a hostile file would hold."""

    def __reduce__(self) -> Any:
        return (os.system, ("touch run",))


def changed(state: dict[str, Tensor]) -> dict[str, tuple[Any, str]]:
    """Bad contents of a checkpoint, and what is said of them."""
    bias = "classifier.linear.bias"
    stem = "first_conv.conv.weight"
    cases: dict[str, tuple[Any, str]] = {
        "code": ({"state_dict": Code()}, r"would call \S*system, and is not run"),
        "a list": ([1, 2], "holds no tensors by name"),
        "numbers": ({"a": 1.0}, "holds no tensors by name"),
        "no classifier": ({name: t for name, t in state.items() if name != bias}, f"it has no {bias}"),
        "a layer is missing": (
            {name: t for name, t in state.items() if name != stem},
            rf"none of the published.*w1.0, the nearest, {stem} is missing",
        ),
        "another width": (state | {stem: torch.zeros(24, 3, 3, 3)}, rf"{stem} has shape \[24, 3, 3, 3\], not \[16"),
        "one more": (state | {"blocks.99.conv.weight": torch.zeros(1)}, "blocks.99.conv.weight is in no block"),
        "no numbers": (state | {stem: torch.full((16, 3, 3, 3), torch.nan)}, f"{stem} has values that are no numbers"),
    }
    return cases


@pytest.mark.parametrize(
    "case",
    ["code", "a list", "numbers", "no classifier", "a layer is missing", "another width", "one more", "no numbers"],
)
def test_another_content_is_refused_in_a_sentence(
    case: str, smallest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, said = changed(torch.load(smallest, weights_only=True)["state_dict"])[case]
    torch.save(content, tmp_path / "bad")
    with pytest.raises(BadFileError, match=said) as refused:
        import_once_for_all(tmp_path / "bad", tmp_path / "out")
    assert "\n" not in str(refused.value) and str(tmp_path / "bad") in str(refused.value)
    assert not (tmp_path / "run").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"", "is damaged"),
        (b"<html>404</html>", "was not written by torch.save"),
        (pickle.dumps(Code(), protocol=2), "would call"),
    ],
    ids=["missing", "empty", "a web page", "a bare pickle with code"],
)
def test_another_file_is_refused_in_a_sentence(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "bad").write_bytes(content)
    with pytest.raises(BadFileError, match=said) as refused:
        import_once_for_all(tmp_path / "bad", tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists() and not (tmp_path / "out").exists()


def test_a_torn_file_is_refused(smallest: Path, tmp_path: Path) -> None:
    (tmp_path / "torn").write_bytes(smallest.read_bytes()[:100_000])
    with pytest.raises(BadFileError, match="is damaged"):
        import_once_for_all(tmp_path / "torn", tmp_path / "out")
