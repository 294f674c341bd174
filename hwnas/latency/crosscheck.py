"""Our time of a TensorRT engine against that of NVIDIA's own ``trtexec --loadEngine`` on the same file."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hwnas.agent.trtexec import TrtexecKnobs
from hwnas.errors import DeviceError
from hwnas.files import read_json

LIMIT = 0.02
"""Relative difference of both p50 within which they agree."""
ROUNDS = 3
_TIMEOUT_S = 300.0
_FLAGS: dict[str, dict[str, tuple[str | None, str | None]]] = {
    "trtexec-10": {
        "noDataTransfers": ("--noDataTransfers", None),
        "useSpinWait": ("--useSpinWait", None),
        "useCudaGraph": ("--useCudaGraph", None),
    },
    "trtexec-11": {
        "noDataTransfers": (None, "--includeDataTransfers"),
        "useSpinWait": (None, "--noSpinWait"),
        "useCudaGraph": (None, "--noCudaGraph"),
    },
}
"""By generation, what turns each knob on and what turns it off; ``None``: it is so by default."""


def _milliseconds(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError("input should be a positive, finite number")
    return value


Milliseconds = Annotated[float, AfterValidator(_milliseconds)]


class CrossCheck(BaseModel):
    """The p50 of one engine's compute time by both, round by round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    engine_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    knobs: dict[str, Any]
    """By trtexec's names, as both were told."""
    command: tuple[str, ...]
    ours_ms: tuple[Milliseconds, ...] = Field(min_length=1)
    trtexec_ms: tuple[Milliseconds, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_rounds(self) -> Self:
        if len(self.ours_ms) != len(self.trtexec_ms):
            raise ValueError("ours_ms and trtexec_ms must have as many rounds")
        return self

    @property
    def difference(self) -> float:
        """Our median round over trtexec's, less 1."""
        return statistics.median(self.ours_ms) / statistics.median(self.trtexec_ms) - 1

    @property
    def agrees(self) -> bool:
        """Whether both are within :data:`LIMIT`."""
        return abs(self.difference) <= LIMIT


def cross_check(
    model: str,
    engine: Path,
    sha256: str,
    ours: Callable[[], float],
    knobs: TrtexecKnobs,
    generation: str,
    trtexec: Path | str = "trtexec",
    rounds: int = ROUNDS,
) -> CrossCheck:
    """Measure by both in turns, so that clocks and neighbours move for both alike.

    Args:
        model: what the engine is called.
        engine: its file.
        sha256: of the file.
        ours: measures once with the same knobs; gives the p50 of the compute time in ms.
        knobs: as both are told.
        generation: ``trtexec-10`` or ``trtexec-11``, which differ in their flags.
        trtexec: name or path of the program.
        rounds: of each.

    Raises:
        DeviceError: trtexec is missing, fails, takes too long or tells no times.
    """
    command = trtexec_command(trtexec, engine, knobs, generation)
    mine, theirs = [], []
    for _ in range(rounds):
        mine.append(ours())
        theirs.append(trtexec_p50_ms(command))
    return CrossCheck(
        model=model,
        engine_sha256=sha256,
        knobs=json.loads(json.dumps(knobs.as_record())),
        command=tuple(command),
        ours_ms=tuple(mine),
        trtexec_ms=tuple(theirs),
    )


def trtexec_command(trtexec: Path | str, engine: Path, knobs: TrtexecKnobs, generation: str) -> list[str]:
    """The program with every knob that a time depends on stated, whatever its defaults are."""
    command = [
        str(trtexec),
        f"--loadEngine={engine}",
        f"--warmUp={knobs.warmUp:g}",
        f"--duration={knobs.duration:g}",
        f"--iterations={knobs.iterations}",
        f"--idleTime={knobs.idleTime:g}",
    ]
    wanted = (flags[0 if getattr(knobs, name) else 1] for name, flags in _FLAGS[generation].items())
    command += [flag for flag in wanted if flag is not None]
    return [*command, "--exposeDMA"] if knobs.exposeDMA else command


def trtexec_p50_ms(command: Sequence[str]) -> float:
    """Run trtexec once; the p50 of the compute times that it exports.

    Raises:
        DeviceError: see :func:`cross_check`.
    """
    with tempfile.TemporaryDirectory(prefix="hwnas-trtexec-") as directory:
        times = Path(directory) / "times.json"
        try:
            done = subprocess.run(
                [*command, f"--exportTimes={times}"],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except OSError as error:
            raise DeviceError(
                f"{command[0]} cannot be started ({error.strerror}); give its path by --trtexec."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"{command[0]} took more than {_TIMEOUT_S:g} s on {command[1]}.") from error
        if done.returncode != 0 or not times.exists():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
            raise DeviceError(f"{command[0]} ended with {done.returncode} and without times: {last[0][:200]}")
        found = read_json(times, what="trtexec's times")
    try:
        compute = [float(query["computeMs"]) for query in found]
        return _milliseconds(statistics.median(compute))
    except (TypeError, KeyError, ValueError, statistics.StatisticsError) as error:
        raise DeviceError(f"{command[0]} exported times without 'computeMs' ({error}).") from error
