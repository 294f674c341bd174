"""Every name of TensorRT that hwnas uses, against NVIDIA's own bindings of five versions and of TensorRT-RTX."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent.trt import names
from tests.agent.nvidia_bindings import BINDINGS, bindings

REPORT = Path(__file__).with_name("bindings_report.py")
RTX = "rtx"


def bare(name: str) -> str:
    return name.partition("/")[0]


def report(module: str, environment: dict[str, str]) -> dict[str, Any]:
    """What the bindings have, told by a process of their own."""
    wanted = {kind: [bare(name) for name in found] for kind, found in names.NAMES.items()}
    finished = subprocess.run(
        [sys.executable, str(REPORT), module],
        input=json.dumps(wanted),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    told: dict[str, Any] = json.loads(finished.stdout)
    return told


@pytest.fixture(scope="module", params=[*BINDINGS, RTX])
def told(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param != RTX:
        return {**report("tensorrt_bindings", bindings(request.param).environment()), "rtx": False}
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("needs TensorRT-RTX (pip install hwnas[rtx])")
    return {**report("tensorrt_rtx", dict(os.environ)), "rtx": True}


def expected(told: dict[str, Any], kind: str, name: str) -> bool:
    # TensorRT-RTX numbers itself; its API is that of the last TensorRT.
    version = (98, 0) if told["rtx"] else tuple(int(part) for part in told["version"].split(".")[:2])
    return names.has(version, told["rtx"], kind, name)


def test_a_version_has_just_the_names_that_the_list_says(told: dict[str, Any]) -> None:
    wrong = []
    for kind, listed in names.NAMES.items():
        there = told["classes"][kind] or {}
        wrong += [(kind, name) for name in map(bare, listed) if (name in there) != expected(told, kind, name)]
    assert not wrong


def test_every_method_takes_as_many_arguments_as_it_is_given(told: dict[str, Any]) -> None:
    wrong = []
    for kind, listed in names.NAMES.items():
        for name, _, count in (entry.partition("/") for entry in listed):
            signatures = (told["classes"][kind] or {}).get(name)
            if signatures is None:
                continue
            if bool(signatures) != bool(count):
                wrong.append((kind, name, "is or is not a method"))
            elif count and not any(least <= int(count) <= most for least, most in signatures):
                wrong.append((kind, name, signatures))
    assert not wrong


def test_without_the_libraries_nothing_is_built() -> None:
    """The stubs make the bindings importable, and nothing else: they cannot make a test of building pass."""
    environment = bindings("10.3.0").environment()
    code = "import tensorrt_bindings as trt; trt.Builder(trt.Logger())"
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 1
    assert "factory function returned nullptr" in finished.stderr


def test_ranges_and_rtx_names_are_of_listed_names() -> None:
    listed = {f"{kind}.{bare(name)}" for kind, found in names.NAMES.items() for name in found} | set(names.NAMES)
    assert set(names.VERSIONS) <= listed
    assert set(names.ONLY_RTX) <= listed
