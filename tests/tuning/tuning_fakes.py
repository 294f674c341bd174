"""A training that takes no time and writes down each step that it does; as a program, a tuning of it:

python tuning_fakes.py DIRECTORY SECONDS_PER_STEP
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from hwnas.errors import DivergedError
from hwnas.files import append_json_line, read_json_lines
from hwnas.progress import Progress

HERE = Path(__file__).parent
LOG = "steps.jsonl"
STEPS = 8


class CountedSteps:
    """Its accuracy is better the lower the learning rate is; above 0.8 it diverges.  Its state is its log."""

    identity = "counted"

    def __init__(self, log: str, seconds: float) -> None:
        self.log, self.seconds = Path(log), seconds

    def train(self, directory: Path, values: Mapping[str, float], until: int, progress: Progress) -> list[float]:
        state = directory / "state.jsonl"
        progress.start("training", until, len(read_json_lines(state)), "step")
        while (step := len(read_json_lines(state))) < until:
            time.sleep(self.seconds)
            line = {"rate": values["learning_rate"], "step": step, "pid": os.getpid()}
            append_json_line(self.log, line)
            append_json_line(state, line)
            progress.advance()
        if values["learning_rate"] > 0.8:
            raise DivergedError("too fast")
        return [(1 - values["learning_rate"]) * until / STEPS, 0.5]


def header(**changes: object) -> object:
    from hwnas.training import TrainingConfig
    from hwnas.tuning.record import TuningHeader

    ranges = {"learning_rate": {"_type": "uniform", "_value": [0.1, 1.0]}}
    given: dict[str, object] = {"space": "toy", "num_classes": 3, "dataset": "toy", "dataset_fingerprint": "toy"}
    given |= {"config": TrainingConfig(learning_rate=0.9), "ranges": ranges, "configurations": 4, "eta": 2, "rungs": 2}
    given |= {"baseline": True, "subnets": 0, "images": 1, "seed": 5, "threads": 1}
    return TuningHeader.model_validate(given | changes)


def main(directory: Path, seconds: float, **changes: object) -> None:
    from hwnas.search.service.recipe import Recipe
    from hwnas.tuning.record import TuningHeader
    from hwnas.tuning.rungs import Rungs
    from hwnas.tuning.tuning import try_configurations

    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    asked = header(**changes)
    assert isinstance(asked, TuningHeader)
    from hwnas.progress import Silent

    recipe = Recipe(
        maker="tuning_fakes:CountedSteps",
        settings={"log": str(directory / LOG), "seconds": seconds},
        identity=CountedSteps.identity,
    )
    rungs = Rungs(asked.configurations, asked.eta, asked.rungs, STEPS)
    try_configurations(directory, asked, rungs, recipe, 2, Silent())


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
