"""Small latency tables made up from a rule, without any profile."""

from __future__ import annotations

import datetime

import numpy as np

from hwnas.devices import Fingerprint
from hwnas.latency import BlockEntry, LatencyTable, NetworkEntry
from hwnas.spaces import BlockSpec, Space, get_space


def statistics(ms: float) -> dict[str, object]:
    return {
        "n": 64,
        "median_ms": ms,
        "p90_ms": ms * 1.05,
        "p99_ms": None,
        "mad_ms": ms * 0.01,
        "builds": 1,
        "build_medians_ms": (ms,),
        "ungated_n": 80,
        "ungated_median_ms": ms * 1.2,
    }


def block_ms(block: BlockSpec) -> float:
    return 0.002 + block.macs * 2e-8 + block.out_channels * block.out_height * block.out_width * 1e-7


def made_table(
    *,
    networks: int = 30,
    validation: int = 10,
    share_of_blocks: float = 1.0,
    cpu: str = "made",
    noise: float = 0.003,
    overhead_ms: float = 0.005,
    scale: float = 0.9,
    of: Space | None = None,
) -> LatencyTable:
    """Blocks by :func:`block_ms`; networks are ``scale`` times their sum and ``overhead_ms``."""
    space = of or get_space("mobilenet_v3/small")
    rng = np.random.default_rng(3)
    blocks = space.distinct_blocks
    kept = sorted(rng.permutation(len(blocks))[: int(share_of_blocks * len(blocks))])
    genomes = space.sample(rng, networks + validation)
    times = overhead_ms + scale * space.block_sum(genomes, np.array([block_ms(block) for block in blocks]))
    times *= np.exp(noise * rng.standard_normal(len(times)))
    return LatencyTable(
        target="host-cpu",
        space=space.name,
        num_classes=space.num_classes,
        runtime="onnxruntime",
        mode="cpu",
        precision="fp32",
        batch=1,
        threads=1,
        fingerprint=Fingerprint(identity={"cpu": cpu}, context={}),
        protocol={"blocks": {}, "networks": {}},
        fast_states_ms={"small": 0.1},
        created=datetime.date(2026, 1, 2),
        profile_seconds=12.5,
        resolutions=space.resolutions,
        seed=0,
        blocks=tuple(BlockEntry.model_validate(statistics(block_ms(blocks[i])) | {"block": blocks[i]}) for i in kept),
        networks=tuple(
            NetworkEntry.model_validate(
                statistics(ms) | {"architecture": architecture, "role": "calibration" if i < networks else "validation"}
            )
            for i, (architecture, ms) in enumerate(zip(space.decode(genomes), times.tolist(), strict=True))
        ),
    )
