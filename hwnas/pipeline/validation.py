"""``hwnas tables validate``: how good a table is on the live device today."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from hwnas.errors import UserError
from hwnas.latency import LatencyModel
from hwnas.latency.base import TimingDevice
from hwnas.latency.crew import Clock
from hwnas.latency.revalidation import Revalidated, RevalidationOptions, revalidate
from hwnas.pipeline.proposals import propose
from hwnas.progress import Progress
from hwnas.spaces import Architecture

PROPOSED = 50
"""Networks that a search proposes beside those drawn at random."""


def validate_table(
    device: TimingDevice,
    path: Path,
    options: RevalidationOptions | None = None,
    proposed: int = PROPOSED,
    progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> Revalidated:
    """:func:`~hwnas.latency.revalidation.revalidate`, with networks that a search under the table's model proposes.

    ``proposed``: how many; 0: none, and those that stand in the table stay.

    Raises:
        UserError: a negative number is to be proposed.
    """
    options = options or RevalidationOptions()
    seed = options.seed
    if proposed < 0 or proposed == 1:
        raise UserError(f"Two networks or more are proposed, or none (0), not {proposed}.")

    def by_search(model: LatencyModel, without: Collection[str]) -> Sequence[Architecture]:
        return propose(device.target.name, model, proposed, seed, without, progress)

    return revalidate(device, path, by_search if proposed else None, options, progress, clock)
