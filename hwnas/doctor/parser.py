"""What NVIDIA's own parser says of a model, where TensorRT-RTX is installed: it parses without a GPU.

It is another product than the TensorRT of a board, and takes what older versions refuse: its yes is no promise.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import onnx
from pydantic import BaseModel, ConfigDict

from hwnas.agent.processes import claim_stdout, module_command, module_environment

_MODULE = "tensorrt_rtx"
_TIMEOUT_S = 300.0


class ParserVerdict(BaseModel):
    """What a parser says.

    Attributes:
        parser: the library and its version.
        accepted: None where it did not come to an end.
        refusals: its reasons and our hints, a sentence for each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parser: str
    accepted: bool | None
    refusals: tuple[str, ...] = ()


def ask_parser(path: Path) -> ParserVerdict | None:
    """The verdict of TensorRT-RTX's parser; None where it is not installed.

    It parses in a process of its own, since native code that meets a broken model may end it.
    """
    if importlib.util.find_spec(_MODULE) is None:
        return None
    command = module_command(__name__, str(path))
    try:
        finished = subprocess.run(
            command, capture_output=True, env=module_environment(), timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return ParserVerdict(parser="TensorRT-RTX", accepted=None, refusals=(f"no answer in {_TIMEOUT_S:g} s",))
    try:
        return ParserVerdict.model_validate_json(finished.stdout)
    except ValueError:
        words = finished.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["without a word"]
        reason = f"its process ended with {finished.returncode}: {words[0]}"
        return ParserVerdict(parser="TensorRT-RTX", accepted=None, refusals=(reason,))


def _main() -> None:
    """Child process: path in the arguments, verdict on stdout."""
    from hwnas.agent.trt.library import open_library
    from hwnas.agent.trt.parsing import ParsedModel

    replies = claim_stdout()
    library = open_library(_MODULE)
    content = onnx.load(sys.argv[1]).SerializeToString()
    refusals = [refusal.sentence() for refusal in ParsedModel(library, content).refusals]
    verdict = {"parser": f"TensorRT-RTX {library.version}", "accepted": not refusals, "refusals": refusals}
    replies.write(json.dumps(verdict).encode())
    replies.close()


if __name__ == "__main__":
    _main()
