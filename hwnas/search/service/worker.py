"""A worker: makes the evaluator that the first line describes, then gives the top-1 of one architecture a line.

``python -m hwnas.search.service.worker`` speaks JSON lines over stdin and stdout and ends with its stdin::

    → a recipe, see recipe.py           ← {"ready": identity}
    → an architecture                   ← {"id": …, "top1": …, "seconds": …}

Instead of any answer there may be ``{"error": sentence}``, after which the worker ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import IO, Any

from hwnas.errors import HwnasError
from hwnas.search.service.recipe import Recipe
from hwnas.spaces import Architecture


def serve(requests: IO[str], answers: IO[str]) -> int:
    """Answer until the requests end; returns the exit status."""
    try:
        first = requests.readline()
        if not first:
            return 0
        evaluate = Recipe.read(first).make()
        _answer(answers, {"ready": evaluate.identity})
        for line in requests:
            architecture = Architecture.from_json(json.loads(line))
            begun = time.monotonic()
            top1 = float(evaluate(architecture))
            seconds = round(time.monotonic() - begun, 3)
            _answer(answers, {"id": architecture.id, "top1": top1, "seconds": seconds})
    except BrokenPipeError:
        return 0
    except HwnasError as error:
        _answer(answers, {"error": str(error)})
        return 1
    except Exception as error:
        _answer(answers, {"error": f"{type(error).__name__}: {error}"})
        raise
    return 0


def _answer(answers: IO[str], value: dict[str, Any]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def main() -> None:
    """Serve stdin and stdout; what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.exit(serve(sys.stdin, answers))


if __name__ == "__main__":
    main()
