"""How the way to CUDA is found, and whether the real libraries have what is called: each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hwnas.agent.cuda import LIBRARIES, cudart_ctypes, open_cuda
from hwnas.agent.cuda.cudart_ctypes import _SIGNATURES, _Out, _version
from hwnas.agent.protocol import AgentError, ErrorKind
from tests.agent.cuda.stub import Stub, fake_cuda_python, install

_ROOT = Path(__file__).resolve().parents[3]
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hwnas-tests" / "cuda-bindings"
_CUDA_PYTHON = {
    "12.9.10": ["cuda-bindings==12.9.10", "cuda-pathfinder==1.9.1"],
    "13.5.0": ["cuda-bindings==13.5.0", "cuda-pathfinder==1.9.1"],
}
_TOOLKIT = Path("/usr/local/cuda/lib64")


@pytest.fixture
def stub(compiled_cuda_stub: Path) -> Stub:
    stub = Stub(compiled_cuda_stub)
    stub.clear()
    return stub


def apart(code: str, **environment: str) -> dict[str, Any]:
    """What ``code`` prints as JSON in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), **environment}
    finished = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    answer: dict[str, Any] = json.loads(finished.stdout)
    return answer


_OPEN = """
import json
from hwnas.agent.cuda import open_cuda
from hwnas.agent.protocol import AgentError
try:
    cuda = open_cuda({prefer!r})
    print(json.dumps({{"name": cuda.name, "gpu": cuda.device().name}}))
except AgentError as error:
    print(json.dumps({{"kind": error.kind, "message": error.message}}))
"""


class TestOpening:
    def test_the_order_is_pycuda_cuda_python_and_libcudart(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        install(stub, monkeypatch)
        assert open_cuda().name == "pycuda"
        monkeypatch.setitem(sys.modules, "pycuda.driver", None)
        assert open_cuda().name == "cuda-python"
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
        monkeypatch.setitem(sys.modules, "cuda.cudart", None)
        assert open_cuda().name == "cudart (ctypes)"

    def test_where_graphs_are_wanted_libraries_without_are_passed_over(
        self, stub: Stub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(stub, monkeypatch)
        assert open_cuda(graphs=True).name == "cuda-python"
        with pytest.raises(AgentError, match="pycuda has no CUDA graphs"):
            open_cuda("pycuda", graphs=True)

    def test_older_cuda_python_has_another_name(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
        monkeypatch.setitem(sys.modules, "cuda.cudart", fake_cuda_python(stub))
        assert open_cuda("cuda-python").device().name == "Stub GPU"

    def test_older_cuda_python_raises_without_a_driver(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing() -> None:
            raise RuntimeError("Failed to dlopen libcuda.so.1")

        install(stub, monkeypatch)
        monkeypatch.setattr(sys.modules["cuda.bindings.runtime"], "cudaGetDeviceCount", missing)
        with pytest.raises(AgentError, match="cuda-python: Failed to dlopen"):
            open_cuda("cuda-python")

    def test_an_unknown_library_is_refused(self) -> None:
        with pytest.raises(AgentError, match=r"cupy.*pycuda, cuda-python") as refused:
            open_cuda("cupy")
        assert refused.value.kind == ErrorKind.BAD_REQUEST

    @pytest.mark.parametrize("name", [name for name in LIBRARIES if name != "pycuda"])
    @pytest.mark.parametrize("code", [35, 100])
    def test_an_old_driver_and_no_gpu_are_told(
        self, stub: Stub, monkeypatch: pytest.MonkeyPatch, name: str, code: int
    ) -> None:
        install(stub, monkeypatch)
        monkeypatch.setattr(cudart_ctypes, "_PLACES", ())
        monkeypatch.setattr(cudart_ctypes, "_IN_SITE_PACKAGES", ())
        stub.fail("cudaGetDeviceCount", code)
        with pytest.raises(AgentError, match=r"InsufficientDriver|NoDevice") as refused:
            open_cuda(name)
        assert refused.value.kind == ErrorKind.NO_DEVICE
        assert stub.last_error == 0

    def test_pycuda_without_a_gpu_is_told(self, stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
        install(stub, monkeypatch)
        monkeypatch.setenv("STUB_DEVICES", "0")
        monkeypatch.setitem(sys.modules, "pycuda.autoprimaryctx", None)
        with pytest.raises(AgentError, match="pycuda is not installed"):
            open_cuda("pycuda")
        with pytest.raises(AgentError, match="CUDA sees no GPU"):
            open_cuda("cuda-python")

    def test_without_anything_each_way_says_what_it_lacks(self, tmp_path: Path) -> None:
        refused = apart(_OPEN.format(prefer=None), LD_LIBRARY_PATH=str(tmp_path))
        assert refused["kind"] == ErrorKind.NO_DEVICE
        for name in LIBRARIES:
            assert name in refused["message"]


class TestCtypes:
    def test_it_is_loaded_by_name(self, compiled_cuda_stub: Path) -> None:
        found = apart(_OPEN.format(prefer="cudart (ctypes)"), LD_LIBRARY_PATH=str(compiled_cuda_stub.parent))
        assert found == {"name": "cudart (ctypes)", "gpu": "Stub GPU"}

    def test_a_library_that_the_driver_is_too_old_for_gives_way_to_an_older_one(
        self, stub: Stub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cudart_ctypes, "_SONAMES", (str(stub.path), "libcudart.so.missing", str(stub.path)))
        stub.fail("cudaGetDeviceCount", 35)
        assert open_cuda("cudart (ctypes)").device().name == "Stub GPU"

    def test_a_libcudart_that_lacks_a_function_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        old = tmp_path / "libcudart.so.10"
        subprocess.run(["cc", "-shared", "-o", str(old), "-xc", "-"], input=b"int cudaGetDeviceCount;", check=True)
        monkeypatch.setattr(cudart_ctypes, "_candidates", lambda: iter([str(old)]))
        with pytest.raises(AgentError, match=r"older than that of CUDA 11.4"):
            open_cuda("cudart (ctypes)")

    def test_the_newest_version_comes_first(self) -> None:
        names = ["/a/libcudart.so.11.0", "/a/libcudart.so.12.6.77", "/a/libcudart.so.12.10.1"]
        assert sorted(names, key=_version, reverse=True) == names[::-1][:2] + names[:1]

    @pytest.mark.skipif(not _TOOLKIT.is_dir(), reason=f"needs a CUDA toolkit in {_TOOLKIT}")
    def test_the_real_library_has_every_function_and_refuses_cleanly(self) -> None:
        refused = apart(_OPEN.format(prefer="cudart (ctypes)"), LD_LIBRARY_PATH=str(_TOOLKIT))
        if "gpu" in refused:
            pytest.skip("there is a GPU here")
        assert refused["kind"] == ErrorKind.NO_DEVICE
        assert "cudaErrorInsufficientDriver" in refused["message"] or "NoDevice" in refused["message"]


_INSPECT = """
import json, sys
from cuda.bindings import runtime
names, enumerations = json.loads(sys.stdin.read())
print(json.dumps({
    "signatures": {name: getattr(runtime, name).__doc__.splitlines()[0] for name in names},
    "enumerations": {name: [member.name for member in getattr(runtime, name)] for name in enumerations},
    "values": {name: getattr(runtime, name) for name in
               ("cudaEventBlockingSync", "cudaStreamNonBlocking", "cudaDeviceScheduleSpin",
                "cudaDeviceScheduleBlockingSync", "cudaHostAllocDefault")},
    "outcome": [list(map(str, runtime.cudaGetDeviceCount()))],
}))
"""


def cuda_python(version: str) -> Path:
    """NVIDIA's bindings, installed once into a directory of their own; skips the test where that cannot be done."""
    home = _CACHE / f"{version}-py{sys.version_info.major}{sys.version_info.minor}"
    if not home.is_dir():
        part = home.with_suffix(f".{os.getpid()}.part")
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(part)]
        if subprocess.run([*command, *_CUDA_PYTHON[version]], capture_output=True, check=False).returncode:
            pytest.skip(f"cuda-bindings {version} cannot be downloaded here")
        part.replace(home)
    return home


@pytest.mark.parametrize("version", _CUDA_PYTHON)
class TestRealCudaPython:
    def test_it_has_every_function_with_the_parameters_of_the_fake(self, version: str, stub: Stub) -> None:
        fake = fake_cuda_python(stub)
        enumerations = ["cudaError_t", "cudaDeviceAttr", "cudaMemcpyKind", "cudaStreamCaptureMode"]
        environment = {**os.environ, "PYTHONPATH": str(cuda_python(version))}
        finished = subprocess.run(
            [sys.executable, "-c", _INSPECT],
            input=json.dumps([list(_SIGNATURES), enumerations]),
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        real = json.loads(finished.stdout)
        for name, text in real["signatures"].items():
            function = getattr(fake, name)
            assert parameters(text) == list(function.__code__.co_varnames[: function.__code__.co_argcount]), text
            assert len(parameters(text)) == sum(not isinstance(kind, _Out) for kind in _SIGNATURES[name])
        for name in enumerations:
            assert {member.name for member in getattr(fake, name)} <= set(real["enumerations"][name])
        assert real["values"] == {
            "cudaEventBlockingSync": 1,
            "cudaStreamNonBlocking": 1,
            "cudaDeviceScheduleSpin": 1,
            "cudaDeviceScheduleBlockingSync": 4,
            "cudaHostAllocDefault": 0,
        }

    def test_without_a_driver_it_refuses_cleanly(self, version: str) -> None:
        path = os.pathsep.join([str(cuda_python(version)), str(_ROOT)])
        refused = apart(_OPEN.format(prefer="cuda-python"), PYTHONPATH=path)
        if "gpu" in refused:
            pytest.skip("there is a GPU here")
        assert refused["kind"] == ErrorKind.NO_DEVICE
        assert refused["message"].startswith("no way to a GPU here: cuda-python: CUDA's cudaGetDeviceCount failed with")


def parameters(signature: str) -> list[str]:
    """Of ``cudaMemcpyAsync(dst, src, size_t count, kind: cudaMemcpyKind, stream)``: dst, src, count, kind, stream."""
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    return [part.split(":")[0].split()[-1] for part in inside.split(",") if part.strip()]
