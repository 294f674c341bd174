"""The channels of a network, parted into sets that no layer tells apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hwnas.supernet.pruning.trace import Channels, Trace

Uses = tuple[int, ...]
"""The numbers of the maps that a channel is in."""


class Partition:
    """The coarsest in which each map that a layer writes or reads is whole sets in a row.

    Where the maps that are added up have parts, as behind concatenations, the borders between the parts of all of them
    divide each; so do those of maps that must be equally wide.

    Attributes:
        widths: channels of each set.
        kinds: of each set, a number that it shares with those that must always be as wide as it.
    """

    def __init__(self, trace: Trace) -> None:
        self._channel = _joined(trace.count, trace.ties)
        equal = (pair for maps in trace.widths.values() for pair in pairwise(maps))
        # A lane is of channels side by side in maps that must be equally wide: one goes from each, or from none.
        lanes = _joined(trace.count, [*trace.ties, *equal])
        uses = self._uses(trace)
        in_lane: defaultdict[int, set[Uses]] = defaultdict(set)
        for lane, channel in zip(lanes, self._channel, strict=True):
            in_lane[lane].add(uses[channel])
        kinds: dict[frozenset[Uses], int] = {}
        sets: dict[tuple[int, Uses], dict[int, None]] = {}
        for lane, channel in zip(lanes, self._channel, strict=True):
            kind = kinds.setdefault(frozenset(in_lane[lane]), len(kinds))
            sets.setdefault((kind, uses[channel]), {})[channel] = None
        self.kinds = [kind for kind, _ in sets]
        self.widths = [len(channels) for channels in sets.values()]
        self._begins = {next(iter(channels)): number for number, channels in enumerate(sets.values())}

    def parts(self, channels: Channels) -> tuple[int, ...]:
        """The sets that a map consists of, in a row."""
        return tuple(self._begins[channel] for channel in self._channel[channels] if channel in self._begins)

    def _uses(self, trace: Trace) -> dict[int, Uses]:
        found: defaultdict[int, list[int]] = defaultdict(list)
        for use, channels in enumerate(trace.maps):
            for channel in self._channel[channels]:
                found[channel].append(use)
        return {channel: tuple(uses) for channel, uses in found.items()}


def _joined(count: int, pairs: Iterable[tuple[Channels, Channels]]) -> Channels:
    """Of each of ``count`` numbers, one for all that pairs of maps join with it, directly or by others."""
    ends = np.concatenate([np.empty((2, 0), int), *(np.stack(pair) for pair in pairs)], axis=1)
    joined = coo_array((np.ones(ends.shape[1], bool), (ends[0], ends[1])), shape=(count, count))
    _, component = connected_components(joined, directed=False)
    return np.asarray(component)
