"""``hwnas run``: from a device and a data set to a network whose latency budget holds when measured.

Every step leaves its results in the run directory and is skipped if it was done with the same inputs, so a run
that was killed goes on where it stopped when the same command is given again.
"""

from hwnas.pipeline.run.execution import execute
from hwnas.pipeline.run.run import Run

__all__ = ["Run", "execute"]
