"""Search at scale: NNI's training service keeps workers alive on this and other machines, which share the evaluations.

What runs where:

- The search itself (strategy, record) stays in the process of the user's command, see ``experiment.py``.
- NNI's server, a child of it, launches one trial a worker and launches it anew when it ends too early; its web page
  shows them.  See ``server.py``.
- A trial (``trial.py``) starts a worker (``worker.py``) on this machine or, over SSH, on another one, and carries lines
  between the worker and the search (``pool.py``), whose Unix socket it connects to.  It stays alive from candidate to
  candidate, since NNI takes seconds to launch a trial and a worker seconds to begin.

When the search's process dies, by whatever, its sockets close: trials and workers end, and NNI's server ends itself.
Nothing listens on any outside interface, on no machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.search.service.machines import Machine, machines_from, read_machines
from hwnas.search.service.recipe import Recipe, subnet_recipe

if TYPE_CHECKING:
    from hwnas.search.evaluator import SubnetEvaluator

__all__ = ["Machine", "Recipe", "Service", "machines_from", "read_machines", "subnet_service"]


@dataclass(frozen=True)
class Service:
    """Where a search evaluates its candidates.

    Attributes:
        machines: each with its number of workers.
        recipe: of the evaluator that each worker makes for itself.
    """

    machines: tuple[Machine, ...]
    recipe: Recipe


def subnet_service(
    workers: int, machines: Path | None, supernet: Path, data: str, data_root: Path | None, evaluator: SubnetEvaluator
) -> Service | None:
    """What evaluates subnets as ``evaluator`` does: workers here, those of a list of machines, or None for neither.

    Raises:
        UserError: both are given.
        BadFileError: the list is missing or wrong.
    """
    found = machines_from(workers, machines)
    return Service(found, subnet_recipe(supernet, data, data_root, evaluator)) if found else None
