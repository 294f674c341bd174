"""An accuracy that a worker makes in no time and that writes down what it does; as a program, a search with workers:

python service_fakes.py DIRECTORY SECONDS_PER_EVALUATION MACHINES_AS_JSON
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from pathlib import Path

from hwnas.files import append_json_line, read_json_lines
from hwnas.spaces import Architecture

HERE = Path(__file__).parent
LOG = "evaluated.jsonl"


class HashedAccuracy:
    """Between 0.5 and 1, by the architecture's hash; tells before and after an evaluation in which process it was."""

    identity = "hashed"

    def __init__(self, log: str | None = None, seconds: float = 0.0, deadly: int | None = None) -> None:
        self.log = None if log is None else Path(log)
        self.seconds = seconds
        self.deadly = deadly

    def __call__(self, architecture: Architecture) -> float:
        self._note(architecture, "begun")
        if self.deadly is not None and architecture.resolution == self.deadly:
            os._exit(9)
        time.sleep(self.seconds)
        self._note(architecture, "done")
        return 0.5 + zlib.crc32(architecture.id.encode()) / 2**33

    def _note(self, architecture: Architecture, what: str) -> None:
        if self.log is not None:
            append_json_line(self.log, {"id": architecture.id, "pid": os.getpid(), "what": what})


def evaluated(directory: Path, what: str) -> list[str]:
    """The ids that workers have noted."""
    return [line["id"] for line in read_json_lines(directory / LOG) if line["what"] == what]


def main(directory: Path, seconds: float, machines: list[dict[str, object]], **settings: object) -> None:
    sys.path.insert(0, str(HERE))
    from fakes import SMALL, AdditiveLatency, budget_at

    from hwnas.search import SearchOptions, run_search
    from hwnas.search.service import Machine, Recipe, Service

    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    settings = {"log": str(directory / LOG), "seconds": seconds, **settings}
    recipe = Recipe(maker="service_fakes:HashedAccuracy", settings=settings, identity=HashedAccuracy.identity)
    service = Service(tuple(Machine.model_validate(machine) for machine in machines), recipe) if machines else None
    options = SearchOptions(evaluations=24, initial=8, batch=4, seed=3)
    latency = AdditiveLatency()
    run_search(SMALL, latency, budget_at(30, latency), HashedAccuracy(), directory, options, service=service)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3]), **json.loads((sys.argv[4:] or ["{}"])[0]))
