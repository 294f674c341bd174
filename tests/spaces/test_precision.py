"""Precision as a choice of a space."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import UserError
from hwnas.spaces import bytes_per_weight, get_space, precision_of, precisions_of, with_precisions, without_precision

SMALL = get_space("mobilenet_v3/small")
BOTH = with_precisions(SMALL, ("fp32", "int8"))


@given(st.integers(0, 2**32 - 1))
def test_an_architecture_with_a_precision_is_the_one_without_it_and_that_precision(seed: int) -> None:
    genomes = BOTH.sample(np.random.default_rng(seed), 8)
    architectures = BOTH.decode(genomes)
    plain = [without_precision(architecture) for architecture in architectures]
    np.testing.assert_array_equal(SMALL.encode(plain), genomes[:, :-1])
    assert [precision_of(a) for a in architectures] == [("int8", "fp32")[gene] for gene in genomes[:, -1]]
    assert all(precision_of(a) is None and without_precision(a) == a for a in plain)
    assert not {a.id for a in architectures} & {a.id for a in plain}
    assert [BOTH.blocks(a) for a in architectures] == [SMALL.blocks(a) for a in plain]


def test_the_cheapest_precision_comes_first_whatever_the_order_asked_for() -> None:
    assert precisions_of(BOTH) == ("int8", "fp32")
    assert precisions_of(with_precisions(SMALL, ("fp16", "fp32", "int8"))) == ("int8", "fp16", "fp32")
    assert precisions_of(SMALL) == ()
    assert precision_of(BOTH.largest) == "fp32"
    assert precision_of(BOTH.smallest) == "int8"
    assert BOTH.count == 2 * SMALL.count


def test_weights_take_as_many_bytes_as_the_precision_says() -> None:
    genomes = BOTH.sample(np.random.default_rng(0), 50)
    np.testing.assert_array_equal(bytes_per_weight(BOTH, genomes), np.where(genomes[:, -1] == 0, 1.0, 4.0))
    np.testing.assert_array_equal(bytes_per_weight(SMALL, genomes[:, :-1]), 4.0)


@pytest.mark.parametrize("names", [("fp32",), (), ("int8", "int8"), ("fp8", "fp32")])
def test_one_precision_or_one_that_cannot_be_searched_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"cannot be searched|at least two different ones"):
        with_precisions(SMALL, names)
