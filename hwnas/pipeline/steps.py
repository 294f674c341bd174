"""Steps of a run: each reads files, writes files, and is skipped where it was done with the same inputs."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwnas.errors import BadFileError
from hwnas.files import Document, read_model, sha256_of, write_json

log = logging.getLogger(__name__)


class StepRecord(Document):
    """What a finished step was made from, what it wrote, and how long it took."""

    name: str
    inputs_sha256: str
    outputs: dict[str, str]
    """SHA-256 of each file, by its path below the run directory."""
    seconds: float
    """Of the attempt that finished the step; earlier attempts that were killed are not in it."""


class Steps:
    """The steps of the run in ``directory``; records lie in ``directory/steps``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.skipped: set[str] = set()

    def do(
        self,
        name: str,
        inputs: Mapping[str, Any],
        outputs: Callable[[], Sequence[Path]],
        action: Callable[[], object],
    ) -> None:
        """Run ``action`` unless it ran to its end before with the same ``inputs`` and its files are unchanged.

        Args:
            inputs: JSON values that decide the result; files by their hash.
            outputs: the files that the action has written, once it has.
        """
        digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        if self._is_done(name, digest):
            self.skipped.add(name)
            log.info("step %s: done before, skipped", name)
            return
        log.info("step %s: begun", name)
        begun = time.monotonic()
        action()
        seconds = time.monotonic() - begun
        written = {str(path.relative_to(self.directory)): sha256_of(path) for path in outputs()}
        record = StepRecord(name=name, inputs_sha256=digest, outputs=written, seconds=round(seconds, 3))
        write_json(self._path(name), record)
        log.info("step %s: done in %.1f s", name, seconds)

    def forget(self, name: str) -> None:
        """Have a step done again the next time."""
        self._path(name).unlink(missing_ok=True)

    def outputs(self, *, but: str) -> dict[str, dict[str, str]]:
        """The hashes of what every finished step has written, the step ``but`` left out."""
        paths = sorted((self.directory / "steps").rglob("*.json"))
        names = [path.relative_to(self.directory / "steps").with_suffix("").as_posix() for path in paths]
        return {name: self.record(name).outputs for name in names if name != but}

    def record(self, name: str) -> StepRecord:
        """The record of a finished step."""
        return read_model(self._path(name), StepRecord, what="step record")

    def output(self, name: str, suffix: str) -> Path:
        """The one file of a finished step whose name ends in ``suffix``."""
        return next(self.directory / path for path in self.record(name).outputs if path.endswith(suffix))

    def seconds(self) -> dict[str, float]:
        """What each finished step took, in the order they were finished; parts of steps (``export/…``) are left out."""
        records = sorted((self.directory / "steps").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return {path.stem: self.record(path.stem).seconds for path in records}

    def _path(self, name: str) -> Path:
        return self.directory / "steps" / f"{name}.json"

    def _is_done(self, name: str, digest: str) -> bool:
        if not self._path(name).exists():
            return False
        try:
            record = self.record(name)
        except BadFileError as error:
            log.warning("%s; the step is done again", error)
            return False
        if record.inputs_sha256 != digest:
            log.info("step %s: its inputs have changed", name)
            return False
        for path, sha256 in record.outputs.items():
            if not (self.directory / path).is_file() or sha256_of(self.directory / path) != sha256:
                log.warning("step %s: %s is missing or was changed, so it is done again", name, path)
                return False
        return True
