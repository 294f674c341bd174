"""Confidence intervals of percentiles of timed runs, which are neither independent nor all of one build.

Runs that follow each other are alike, so blocks of consecutive batches are drawn instead of single runs (the moving
block bootstrap: H. R. Künsch, Annals of Statistics 17, 1989), around the end to the start again so that all count alike
(D. N. Politis and J. P. Romano in *Exploring the Limits of Bootstrap*, 1992).  The length of the blocks is what the
lag-1 correlation asks for (D. W. K. Andrews, Econometrica 59, 1991, for the Bartlett weights that blocks amount to).
Builds differ by more than their runs do, so builds are drawn first, and then blocks within each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Batches = Sequence[Sequence[float]]
"""The samples of one build, batch by batch, in order."""

LEVEL = 0.95
REPLICATES = 1000
_CHUNK = 1 << 22
"""Resampled values held at once."""
_MOST_CORRELATION = 0.97


def percentile_interval(
    builds: Sequence[Batches], p: float, *, level: float = LEVEL, replicates: int = REPLICATES, seed: int = 0
) -> tuple[float, float] | None:
    """The interval that holds the p-percentile, 0 < p ≤ 1, of all builds' samples together with probability ``level``.

    With few builds, of which no method can know the spread well, it holds it somewhat less often.

    Returns:
        Its ends in the samples' unit; ``None`` where there are no samples.
    """
    arrays = _apart([padded for batches in builds if len(padded := _padded(batches))])
    if not arrays:
        return None
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // (len(arrays) * max(array.size for array in arrays)))
    sizes = [min(chunk, replicates - start) for start in range(0, replicates, chunk)]
    found = np.concatenate([_order_statistics(_resampled(rng, arrays, size), p) for size in sizes])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def block_length(series: Floats) -> int:
    """How many consecutive values of [n] belong together: 1 where they are independent, at most n / 4."""
    n, centred = len(series), series - series.mean()
    power = float(centred @ centred)
    correlation = float(centred[1:] @ centred[:-1]) / power if power > 0 else 0.0
    correlation = min(max(correlation, 0.0), _MOST_CORRELATION)
    alpha = (2 * correlation / (1 - correlation**2)) ** 2
    return max(1, min(math.ceil(1.1447 * math.cbrt(alpha * n)), n // 4))


def _padded(batches: Batches) -> Floats:
    """The batches that hold samples as [n, longest], NaN where a batch is shorter."""
    filled = [batch for batch in batches if len(batch)]
    array = np.full((len(filled), max(map(len, filled), default=0)), np.nan)
    for row, batch in zip(array, filled, strict=True):
        row[: len(batch)] = batch
    return array


def _apart(arrays: list[Floats]) -> list[Floats]:
    """The builds drawn apart, so that n of them, resampled, vary as builds do: a sample's variance lacks 1/n of it."""
    if len(arrays) < 2:
        return arrays
    medians = np.log([np.nanmedian(array) for array in arrays])
    stretch = (math.sqrt(len(arrays) / (len(arrays) - 1)) - 1) * (medians - medians.mean())
    return [array * factor for array, factor in zip(arrays, np.exp(stretch), strict=True)]


def _resampled(rng: np.random.Generator, arrays: list[Floats], replicates: int) -> Floats:
    """Samples [replicates, ·] of as many builds as there are, drawn with blocks of batches in each; NaN pads."""
    width = max(array.size for array in arrays)
    drawn = rng.integers(len(arrays), size=(replicates, len(arrays)))
    values = np.full((replicates, len(arrays) * width), np.nan)
    for number, array in enumerate(arrays):
        length = block_length(np.nanmedian(array, axis=1))
        for place in range(len(arrays)):
            rows = np.flatnonzero(drawn[:, place] == number)
            batches = _blocks(rng, len(rows), len(array), length)
            values[rows, place * width : place * width + array.size] = array[batches].reshape(len(rows), array.size)
    return values


def _blocks(rng: np.random.Generator, replicates: int, n: int, length: int) -> npt.NDArray[np.intp]:
    """Indices [replicates, n] below n, in runs of ``length`` consecutive ones from random starts."""
    runs = math.ceil(n / length)
    starts = rng.integers(n, size=(replicates, runs, 1))
    return ((starts + np.arange(length)) % n).reshape(replicates, runs * length)[:, :n]


def _order_statistics(values: Floats, p: float) -> Floats:
    """The ceil(p·n)-th smallest of the n values of each row that are not NaN."""
    counts = np.count_nonzero(~np.isnan(values), axis=1)
    ranks = np.maximum(np.ceil(p * counts - 1e-9).astype(int), 1)
    ordered: Floats = np.sort(values, axis=1)
    return np.asarray(ordered[np.arange(len(values)), ranks - 1])
