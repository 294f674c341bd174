"""A time for every block of a space: measured, or interpolated between those that were."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence

import numpy as np

from hwnas.errors import UserError
from hwnas.latency.base import BlockTimes, Floats
from hwnas.latency.table import LatencyTable
from hwnas.spaces import BlockSpec, Space
from hwnas.spaces.nodes import macs_of
from hwnas.spaces.operations import OPERATIONS

FEW = 8
"""Fewest measured blocks between which others are interpolated."""
_LENGTH_SCALES = 400
"""Most blocks on which the process's length scales are fitted; all enter the interpolation itself."""
_OPERATIONS_APART = 4.0
"""As if by so many doublings of a size: what one operation costs says little of another."""


def block_times(table: LatencyTable, space: Space) -> BlockTimes:
    """The measured times of a table, and interpolated ones for all other blocks of the space.

    Blocks that an imported table lacks for every architecture cost 0 ms, and the times are relative.

    Raises:
        UserError: the table has too few blocks to interpolate between, or an imported one lacks a choice's blocks.
    """
    _refuse_unknown_choices(table, space)
    absent = dict.fromkeys(absent_blocks(table, space), 0.0)
    known = {entry.block: entry.median_ms for entry in table.blocks}
    blocks = space.distinct_blocks
    measured = np.array([block in known for block in blocks])
    ms = np.array([known.get(block, absent.get(block, np.nan)) for block in blocks])
    std = np.zeros(len(blocks))
    if np.isnan(ms).any():
        if measured.sum() < FEW:
            raise UserError(
                f"{measured.sum()} blocks of {table.space} are measured on {table.target}, too few to interpolate the "
                f"other {np.isnan(ms).sum()}; profile again with more minutes, which goes on from there."
            )
        unknown = np.isnan(ms)
        given = [block for block, there in zip(blocks, measured, strict=True) if there]
        wanted = [block for block, missing in zip(blocks, unknown, strict=True) if missing]
        ms[unknown], std[unknown] = interpolate(given, ms[measured], wanted)
    return BlockTimes(ms, std, measured, relative=table.relative)


def absent_blocks(table: LatencyTable, space: Space) -> frozenset[BlockSpec]:
    """The blocks that an imported table lacks for every architecture: those of its absent slots, and of no others.

    Raises:
        UserError: a slot that the table names is not of the space, or has a choice.
    """
    names = table.hygiene.absent if table.hygiene else ()
    fixed = {slot.label: slot for slot in space.slots if slot.choices == ("resolution",)}
    wrong = [name for name in names if name not in fixed]
    if wrong:
        raise UserError(
            f"The latency table says that '{wrong[0]}' is absent, no fixed block of {space.name}; reimport."
        )
    return frozenset(
        block
        for name in names
        for block in (fixed[name].build(resolution) for resolution in space.resolutions)
        if block is not None and all(block != entry.block for entry in table.blocks)
    )


def _refuse_unknown_choices(table: LatencyTable, space: Space) -> None:
    """What no row is about cannot be interpolated: other slots' blocks say nothing of it."""
    if table.kind != "imported":
        return
    known = {entry.block for entry in table.blocks}
    unknown = [
        slot.label
        for slot in space.slots
        if slot.choices != ("resolution",)
        and known.isdisjoint(
            itertools.starmap(
                slot.build, itertools.product(*(space.choices[space.position(label)].values for label in slot.choices))
            )
        )
    ]
    if unknown:
        raise UserError(
            f"The imported latency table of {table.target} has no block of {len(unknown)} of the {len(space.slots)} "
            f"places of {table.space} (such as {unknown[0]}), so it cannot predict networks; profile the target."
        )


def interpolate(measured: Sequence[BlockSpec], ms: Floats, wanted: Sequence[BlockSpec]) -> tuple[Floats, Floats]:
    """Times of unmeasured blocks and their standard deviations in ms.

    A roofline first: non-negative costs of a block, of its multiply-accumulates by kind and of the elements that it
    moves, fitted to the measured times.  What that leaves, in logarithms, is a Gaussian process over the blocks'
    sizes (Rasmussen and Williams 2006, Sec. 2.7), which follows what a runtime does at particular sizes.
    """
    from scipy.optimize import nnls
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    work, work_wanted = _work(measured), _work(wanted)
    cost, _ = nnls(work / ms[:, None], np.ones(len(ms)))
    roofline, roofline_wanted = work @ cost, work_wanted @ cost
    floor = ms.min() / 2  # a block of a kind that was never measured may cost nothing by the fit
    residual = np.log(ms / np.maximum(roofline, floor))
    sizes, sizes_wanted = _sizes(measured), _sizes(wanted)
    kernel = ConstantKernel(0.1**2, (1e-6, 1.0)) * Matern(
        np.full(sizes.shape[1], 2.0), (0.1, 100.0), nu=2.5
    ) + WhiteKernel(1e-4, (1e-8, 1e-1))
    subset = np.random.default_rng(0).permutation(len(ms))[:_LENGTH_SCALES]
    with warnings.catch_warnings():
        # A coordinate on which the residual does not depend drives its length scale to the bound.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = GaussianProcessRegressor(kernel).fit(sizes[subset], residual[subset]).kernel_
    process = GaussianProcessRegressor(fitted, optimizer=None).fit(sizes, residual)
    mean, std = process.predict(sizes_wanted, return_std=True)
    predicted = np.maximum(roofline_wanted, floor) * np.exp(mean)
    return predicted, predicted * std


def _work(blocks: Sequence[BlockSpec]) -> Floats:
    """What a block makes a runtime do, [n, kinds of work], in units that bring all columns near 1."""
    return np.array([work_of(block) for block in blocks], np.float64)


def work_of(block: BlockSpec) -> list[float]:
    """Work of one block, [kinds of work]; see :func:`_work`.  A squeeze-and-excite is a kind of its own."""
    layers = [node for node in block.nodes if "weight" in node["parameters"] and ".se." not in node["name"]]
    depthwise = [node for node in layers if node["attributes"].get("group", 1) != 1]
    taken, given = (
        channels * height * width
        for channels, height, width in (
            (block.in_channels, block.in_height, block.in_width),
            (block.out_channels, block.out_height, block.out_width),
        )
    )
    inner = 0 if block.classifies else sum(math.prod(node["shape"]) for node in layers[:-1])
    return [
        1,
        sum(macs_of(node) for node in layers if node not in depthwise) / 1e6,
        sum(map(macs_of, depthwise)) / 1e6,
        sum(map(macs_of, depthwise)) / block.kernel / 1e6,
        inner / 1e5,
        (taken + given) / 1e4,
        block.classifies,
        block.se * (1 + block.mid_channels * block.se_channels / 1e4),
    ]


def _mean_kernel(block: BlockSpec) -> float:
    """Side of the filters of a block, in pixels; of a fire, which has two, their mean over the output's channels."""
    share = block.spatial_channels / block.out_channels if block.spatial_channels else 1.0
    return share * block.kernel + (1 - share)


def _sizes(blocks: Sequence[BlockSpec]) -> Floats:
    """Coordinates of the process: logarithms (base 2) of sizes, and the kinds as numbers, [n, coordinates]."""
    number = {op: position for position, op in enumerate(OPERATIONS)}
    return np.array(
        [
            [
                np.log2(block.in_height * block.in_width),
                np.log2(block.in_channels),
                np.log2(block.out_channels),
                np.log2(block.mid_channels or block.out_channels),
                _mean_kernel(block),
                block.stride,
                block.se + 2.0 * (block.activation == "h_swish"),
                _OPERATIONS_APART * number[block.op],
            ]
            for block in blocks
        ]
    )
