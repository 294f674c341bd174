"""An NNI trial, ``python -m hwnas.tuning.trial DIRECTORY``: trains one configuration to the end of one rung.

NNI's parameters say which.  The result is on disk before NNI is told of it, for its web page.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
from filelock import FileLock

from hwnas.errors import DivergedError, HwnasError
from hwnas.files import read_bytes
from hwnas.search.service.recipe import Recipe
from hwnas.search.service.trial import PARENT, restore_environment
from hwnas.tuning.trials import Result, Trainee, TrialFolder

RECIPE_FILE = "recipe.json"
TOLD_EVERY_S = 0.5
PATIENCE_S = 60.0


class _StepFile:
    """Progress that the tuning can read from the trial's folder."""

    def __init__(self, folder: TrialFolder) -> None:
        self._folder = folder
        self._step = 0.0
        self._told = -TOLD_EVERY_S

    def start(self, description: str, total: float, done: float = 0.0, unit: str = "") -> None:
        """Begin at step ``done``."""
        del description, total, unit
        self._step = done
        self.advance(0)

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Steps further."""
        del note
        self._step += amount
        if time.monotonic() - self._told >= TOLD_EVERY_S:
            self._told = time.monotonic()
            self._folder.step = int(self._step)

    def finish(self) -> None:
        """The result will tell."""


def main() -> None:
    """Do what NNI's parameters say."""
    parent = int(os.environ[PARENT])
    restore_environment()
    Thread(target=_end_with, args=(parent,), daemon=True).start()

    import nni

    directory, parameters = Path(sys.argv[1]), nni.get_next_parameter()
    folder = TrialFolder(directory, parameters["configuration"])
    folder.path.mkdir(parents=True, exist_ok=True)
    # A trial of a tuning that was killed may need a second to notice.
    with FileLock(folder.path / ".lock", timeout=PATIENCE_S):
        folder.error = None
        try:
            result = folder.results().get(parameters["rung"]) or _train(directory, folder, parameters)
        except HwnasError as error:
            folder.error = str(error)
            sys.exit(1)
        except Exception as error:
            folder.error = f"{type(error).__name__}: {error}"
            raise
    nni.report_final_result(result.accuracy)


def _train(directory: Path, folder: TrialFolder, parameters: dict[str, Any]) -> Result:
    """Train and measure; the result is on disk when this returns."""
    values = {name: value for name, value in parameters.items() if name not in ("configuration", "rung", "steps")}
    recipe = Recipe.read(read_bytes(directory / RECIPE_FILE, what="recipe of the trials").decode())
    trainee: Trainee = recipe.build()
    begun = time.monotonic()
    try:
        top1s = trainee.train(folder.training, values, parameters["steps"], _StepFile(folder))
    except DivergedError:
        top1s = []
    result = Result(
        configuration=parameters["configuration"],
        rung=parameters["rung"],
        step=parameters["steps"],
        accuracy=sum(top1s) / len(top1s) if top1s else 0.0,
        top1s=tuple(top1s),
        seconds=round(time.monotonic() - begun, 2),
    )
    folder.add(result)
    return result


def _end_with(parent: int) -> None:
    """End this process as soon as the tuning has ended, however that did."""
    try:
        process = psutil.Process(parent)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
    except psutil.Error:
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
