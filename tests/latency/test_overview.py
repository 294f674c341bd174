"""A table as a map of its blocks, and how much its samples scatter."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from hwnas.latency import LatencyTable
from hwnas.latency.hygiene import Hygiene
from hwnas.latency.overview import BlockMap, block_maps, known_times, scatter
from hwnas.spaces import get_space

sys.path.insert(0, str(Path(__file__).parent))
from tables import block_ms, made_table

SPACE = get_space("mobilenet_v3/small")


def maps(table: LatencyTable) -> tuple[BlockMap, ...]:
    return block_maps(SPACE, known_times(table, SPACE))


def test_every_block_stands_where_its_choices_put_it() -> None:
    elastic, fixed = maps(made_table())
    assert elastic.choices == ("kernel", "expansion") and fixed.choices == ()
    assert elastic.labels[:2] == ("stage1.block1", "stage1.block2–4") and len(elastic.labels) == 6
    assert fixed.labels == ("stem", "first", "final", "head")
    assert elastic.ms.shape == (6, 9, 11) and fixed.ms.shape == (4, 1, 11)
    assert elastic.measured.all() and (elastic.std_ms == 0).all()
    architecture = SPACE.architecture(
        resolution=48, stage2_block3_kernel=5, stage2_block3_expansion=2, stage1_block1_kernel=3
    )
    blocks = dict(zip([slot.label for slot in SPACE.slots], SPACE.blocks(architecture), strict=True))
    at = elastic.resolutions.index(48)
    assert elastic.ms[3, elastic.columns.index((5, 2)), at] == block_ms(blocks["stage2.block3"])
    assert elastic.ms[0, elastic.columns.index((3, 4)), at] == block_ms(blocks["stage1.block1"])
    assert fixed.ms[3, 0, at] == block_ms(blocks["head"])


def test_interpolated_blocks_are_marked_with_a_spread() -> None:
    elastic, _ = maps(made_table(share_of_blocks=0.5))
    assert 0.2 < elastic.measured.mean() < 0.8
    assert (elastic.std_ms[~elastic.measured] > 0).all() and (elastic.std_ms[elastic.measured] == 0).all()
    assert not np.isnan(elastic.ms).any()


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    table = made_table()
    few, _ = maps(table.model_copy(update={"blocks": table.blocks[-60:-55]}))
    assert few.measured.any() and np.array_equal(np.isnan(few.ms), ~few.measured)
    stems = {slot.build(r) for slot in SPACE.slots if slot.label == "stem" for r in SPACE.resolutions}
    relative = table.model_copy(
        update={
            "kind": "imported",
            "blocks": tuple(entry for entry in table.blocks if entry.block not in stems),
            "hygiene": Hygiene(rows=5, absent=("stem",), relative=True),
        }
    )
    fixed = maps(relative)[1]
    assert np.isnan(fixed.ms[0]).all() and not np.isnan(fixed.ms[1:]).any()


def test_scatter_of_a_case_done_by_hand() -> None:
    entry = made_table().blocks[0]
    first = entry.model_copy(
        update={"median_ms": 1.0, "mad_ms": 0.02, "builds": 2, "build_medians_ms": (0.9, 1.1), "ungated_median_ms": 1.5}
    )
    second = entry.model_copy(
        update={
            "median_ms": 2.0,
            "mad_ms": 0.02,
            "builds": 2,
            "build_medians_ms": (2.0, 2.0),
            "ungated_median_ms": 2.2,
            "outliers": 3,
        }
    )
    found = scatter([first, second])
    assert (found.entries, found.samples, found.builds, found.outliers) == (2, 128, 2, 3)
    assert found.between_builds == pytest.approx(0.1 * 2**0.5 / 2)
    assert found.between_builds_p95 == pytest.approx(0.1 * 2**0.5)
    assert found.within == pytest.approx(0.015) and found.ungated == pytest.approx(0.3)
    assert scatter([entry]).between_builds is None
