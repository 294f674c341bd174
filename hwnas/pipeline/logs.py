"""The log of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class _QuietFileHandler(logging.FileHandler):
    """A full disk is told by the step that fails on it, not by the log as well."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """The record is lost."""

    def close(self) -> None:
        """Close the file, flushed or not."""
        with suppress(OSError):
            super().close()


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append what hwnas logs meanwhile to a file."""
    handler = _QuietFileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("hwnas")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    except BaseException as error:
        logger.exception("ended by %s", type(error).__name__)
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
