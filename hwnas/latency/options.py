"""What somebody wants of a profile, and what follows from it for a space: the plan, and how units are measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hwnas.agent.judging import LEAST_SAMPLES
from hwnas.devices import CompileOptions, MeasureOptions
from hwnas.errors import UserError
from hwnas.latency.agenda import Knobs
from hwnas.latency.fewshot import FEWEST
from hwnas.latency.plan import (
    Plan,
    calibration_networks,
    make_networks_plan,
    make_plan,
    network_builds,
    network_protocol,
    validation_networks,
)
from hwnas.spaces import Space

_BLOCKS = MeasureOptions(max_seconds=1.0)


@dataclass(frozen=True)
class ProfileOptions:
    """What is profiled, and for how long."""

    minutes: float | None = None
    """Time for measuring, all sittings together; ``None``: as long as the whole plan takes."""
    resolutions: tuple[int, ...] | None = None
    """Input sizes in pixels whose blocks are measured; ``None``: :func:`~hwnas.latency.plan.default_resolutions`."""
    calibration_networks: int | None = None
    """Whole networks on which the latency model is fitted; ``None``: 200, or 100 of a large space."""
    good_enough_percent: float | None = None
    """No further network is measured for the fit once those measured are predicted from each other with this mean
    absolute error; ``None``: all :attr:`calibration_networks` are."""
    validation_networks: int | None = None
    """Whole networks on which it is judged and which never enter a fit; ``None``: 200, or 110 of a large space."""
    builds: int = 3
    """How often each unit is built and measured, at different times: builds differ, and a disturbance passes."""
    networks_only: int | None = None
    """Measure no blocks, but so many whole networks, and half as many that are held out (at least 20): for a device
    where blocks cannot be built one by one, or nobody has the time."""
    network_builds: int | None = None
    """How often each whole network is; ``None``: :func:`~hwnas.latency.plan.network_builds` of the space."""
    batch: int = 1
    """Images at once."""
    statistic: Literal["p50", "p99"] = "p50"
    """What budgets will limit; a p99 takes 662 samples of each network."""
    fps: float = 0.0
    """Frames a second in whose rhythm whole networks run; 0: back to back."""
    compile: CompileOptions | None = None
    """``None``: the target's defaults."""
    seed: int = 0
    """Of the order of measuring and of the networks drawn."""
    fresh: bool = False
    """Forget what earlier profiles of this device measured."""
    block_protocol: MeasureOptions = _BLOCKS
    network_protocol: MeasureOptions | None = None
    """``None``: :func:`~hwnas.latency.plan.network_protocol` of the space."""

    def __post_init__(self) -> None:
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise UserError(f"A profile takes a positive number of minutes, not {self.minutes:g}.")
        if not 0 <= self.fps < float("inf"):
            raise UserError(f"Frames arrive at a positive number a second, or back to back (0), not {self.fps:g}.")
        if (
            min(self.calibration_networks or 0, self.validation_networks or 0) < 0
            or min(self.builds, self.network_builds or 1, self.batch) < 1
        ):
            raise UserError("A profile takes numbers of networks from 0, and of builds and images a batch from 1.")
        if self.networks_only is not None and self.networks_only < FEWEST:
            raise UserError(
                f"A profile without blocks takes at least {FEWEST} whole networks, and better a hundred, not "
                f"{self.networks_only}."
            )


def profile_plan(space: Space, resolutions: Sequence[int], options: ProfileOptions) -> Plan:
    """The options, completed by what suits the space."""
    held_out = options.validation_networks
    if options.networks_only is not None:
        held_out = max(20, options.networks_only // 2) if held_out is None else held_out
        return make_networks_plan(space, options.seed, options.networks_only, held_out)
    calibration = options.calibration_networks
    return make_plan(
        space,
        resolutions,
        options.seed,
        calibration_networks(space) if calibration is None else calibration,
        validation_networks(space) if held_out is None else held_out,
    )


def profile_knobs(space: Space, options: ProfileOptions, compiling: CompileOptions, limit_c: float | None) -> Knobs:
    """How its units are measured, on a device that may become as hot as ``limit_c``."""
    builds = options.network_builds
    if builds is None:
        builds = network_builds(space, options.builds)
    samples = 64 if options.statistic == "p50" else math.ceil(LEAST_SAMPLES[0.99] / builds)
    networks = options.network_protocol or network_protocol(space, options.fps, samples)
    return Knobs(
        minutes=options.minutes,
        block_builds=options.builds,
        network_builds=builds,
        batch=options.batch,
        compile=compiling,
        blocks=replace(options.block_protocol, temperature_limit_c=limit_c or 0.0),
        networks=replace(networks, temperature_limit_c=limit_c or 0.0),
    )
