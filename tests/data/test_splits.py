from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hwnas.data.splits import Selection, SplitConfig, SplitPlan, plan_splits, stratified_sample
from hwnas.errors import UserError

NAMES = tuple("abcdefgh")
label_arrays = st.lists(st.integers(3, 40), min_size=2, max_size=8).map(
    lambda counts: np.random.default_rng(sum(counts)).permutation(np.repeat(np.arange(len(counts)), counts))
)
configs = st.builds(
    SplitConfig,
    validation=st.floats(0.01, 0.5),
    test=st.floats(0.01, 0.49),
    recalibration=st.integers(1, 400),
    seed=st.integers(0, 2**32),
)


@settings(deadline=None, max_examples=50)
@given(label_arrays, configs)
def test_splits_are_disjoint_complete_stratified_and_repeatable(labels: np.ndarray, config: SplitConfig) -> None:
    plan = plan_splits({"train": labels}, NAMES, config, where="here")
    chosen = {name: plan.selections[name].indices for name in ("train", "validation", "test")}
    assert np.array_equal(np.sort(np.concatenate(list(chosen.values()))), np.arange(len(labels)))
    for name, indices in chosen.items():
        assert np.array_equal(indices, np.unique(indices))
        assert set(labels[indices]) == set(labels), f"{name} lacks a class"
    again = plan_splits({"train": labels}, NAMES, config, where="here")
    for name, indices in chosen.items():
        assert np.array_equal(again.selections[name].indices, indices)
    assert np.array_equal(again.recalibration, plan.recalibration)


@settings(deadline=None, max_examples=50)
@given(label_arrays, configs)
def test_recalibration_is_a_proportional_part_of_training(labels: np.ndarray, config: SplitConfig) -> None:
    plan = plan_splits({"train": labels}, NAMES, config, where="here")
    train = labels[plan.selections["train"].indices]
    chosen = train[plan.recalibration]
    assert len(chosen) == min(config.recalibration, len(train))
    shares = np.bincount(train) * len(chosen) / len(train)
    assert np.abs(np.bincount(chosen, minlength=len(shares)) - shares).max() < 1


def test_the_shares_are_those_asked_for() -> None:
    labels = np.repeat(np.arange(2), 100)
    plan = plan_splits({"train": labels}, NAMES, SplitConfig(validation=0.1, test=0.25), where="here")
    assert np.bincount(labels[plan.selections["validation"].indices]).tolist() == [10, 10]
    assert np.bincount(labels[plan.selections["test"].indices]).tolist() == [25, 25]


def test_splits_that_exist_are_kept() -> None:
    labels = {"train": np.repeat(np.arange(2), 50), "test": np.array([0, 1, 1])}
    plan = plan_splits(labels, NAMES, SplitConfig(), where="here")
    assert plan.selections["test"].part == "test"
    assert plan.selections["test"].indices.tolist() == [0, 1, 2]
    assert plan.selections["validation"].part == "train"
    assert len(plan.selections["train"].indices) == 90


def test_another_seed_withholds_other_images() -> None:
    labels = {"train": np.repeat(np.arange(2), 100)}
    one, other = (plan_splits(labels, NAMES, SplitConfig(seed=seed), where="here") for seed in (0, 1))
    assert not np.array_equal(one.selections["test"].indices, other.selections["test"].indices)


def test_a_class_too_small_to_share_out_is_named() -> None:
    with pytest.raises(UserError, match=r"here: class 'b' has 2 training image\(s\), but 3 are needed"):
        plan_splits({"train": np.array([0, 0, 0, 1, 1])}, NAMES, SplitConfig(), where="here")


def test_fractions_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValidationError, match="leave nothing to train on"):
        SplitConfig(validation=0.5, test=0.5)


def test_plans_that_share_images_cannot_be_made() -> None:
    train, test = Selection("train", np.array([0, 1, 2])), Selection("train", np.array([2, 3]))
    with pytest.raises(ValueError, match="train and test share"):
        SplitPlan({"train": train, "validation": Selection("validation", np.array([2])), "test": test}, np.array([0]))


def test_a_sample_larger_than_a_class_is_impossible() -> None:
    with pytest.raises(ValueError, match="larger sample"):
        stratified_sample(np.array([0, 1]), [2, 1], np.random.default_rng(0))
