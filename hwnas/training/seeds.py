"""Seeds for torch's generators."""

from __future__ import annotations

import numpy as np


def torch_seed(*numbers: int) -> int:
    """A 63-bit seed that is a function of some numbers not below zero."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
