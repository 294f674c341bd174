"""All that evaluates candidates for one search under NNI's training service."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from hwnas.search.service import Service
from hwnas.search.service.arrivals import Arrivals
from hwnas.search.service.pool import Pool
from hwnas.search.service.server import Server, end_leftover
from hwnas.spaces import Architecture

DIRECTORY = "service"


class Workers:
    """NNI's server, not started yet, and the pool of workers that it will launch.

    Args:
        directory: of the search, which this process has locked.

    Raises:
        BadFileError: what workers have answered before is damaged.
    """

    def __init__(self, service: Service, directory: Path) -> None:
        end_leftover(directory / DIRECTORY)
        arrivals = Arrivals(directory)
        self.server = Server(directory / DIRECTORY, f"service-{secrets.token_hex(4)}")
        self.pool = Pool(self.server.socket, service.machines, service.recipe, arrivals)

    def begin(self, architectures: Sequence[Architecture]) -> None:
        """Have architectures evaluated, in this order as far as workers are free."""
        self.pool.begin(architectures)

    def evaluate(self, architecture: Architecture) -> tuple[float, float]:
        """Top-1 of an architecture, and the seconds that its evaluation took a worker.

        Raises:
            HwnasError: the evaluation failed, no worker is left, or NNI's server has ended.
        """
        arrival = self.pool.answer(architecture, self.server.check)
        return arrival.top1, arrival.seconds
