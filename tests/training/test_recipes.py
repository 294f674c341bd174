from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional

from hwnas.errors import UserError
from hwnas.files import sha256_of
from hwnas.spaces import get_space
from hwnas.supernet import ElasticNetwork
from hwnas.training import TrainingConfig
from hwnas.training.drop_connect import DropConnect
from hwnas.training.losses import alpha_divergence, classification_loss
from hwnas.training.optimization import average_share, make_optimizer, phase_rate
from hwnas.training.recipes import phases, subnets
from tests.forked import finished, killed_when

sys.path.insert(0, str(Path(__file__).parent))
import toy

RECIPES: dict[str, dict[str, Any]] = {
    "sandwich": {"epochs": 6},
    "alpha": {"epochs": 6, "divergence": "alpha"},
    "single-stage": {"recipe": "single-stage", "full_epochs": 0, "epochs": 8, "distillation": 0.8},
    "progressive": {"recipe": "progressive", "full_epochs": 3, "epochs": 20, "learning_rate": 0.5, "distillation": 0.5},
}
ALL_AT_ONCE = {
    "drop_connect": 0.2,
    "layer_decay": 0.9,
    "resolution": "step",
    "learning_rate_floor": 0.05,
    "augmentation": {"crop": "none", "randaugment": 2, "erasing": 0.1, "mixup": 0.4, "cutmix": 0.4},
}


MIXED = {"crop": "none", "horizontal_flip": 0, "mixup": 0.2, "cutmix": 0.2}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_learns(tmp_path: Path, name: str) -> None:
    record = toy.thin(tmp_path, **RECIPES[name]).run()
    assert record.metrics["validation_top1_largest"] > 0.9
    assert record.metrics["validation_top1_smallest"] > 0.9


def test_it_learns_with_everything_that_regularises(tmp_path: Path) -> None:
    record = toy.thin(tmp_path, **(ALL_AT_ONCE | {"epochs": 10, "augmentation": MIXED})).run()
    assert record.metrics["validation_top1_largest"] > 0.8


@pytest.mark.parametrize("name", ["progressive", "single-stage"])
def test_a_killed_run_of_any_recipe_ends_with_the_same_bits(tmp_path: Path, name: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    changes = RECIPES[name] | ALL_AT_ONCE | {"epochs": 5, "checkpoint_steps": 1000}
    finished(toy.thin_main, whole, **changes)
    for last_step in (18, 23):  # of 30; where the full network teaches, it does so from the step 18 on
        killed_when(toy.saved_anew(broken), toy.thin_main, broken, stuck_after=last_step, **changes)
    finished(toy.thin_main, broken, **changes)
    assert sha256_of(broken / "weights.safetensors") == sha256_of(whole / "weights.safetensors")


def test_a_supernet_teaches_another_and_only_of_the_same_classes(tmp_path: Path) -> None:
    toy.trainer(tmp_path / "teacher", epochs=2).run()
    taught = {"teacher": str(tmp_path / "teacher"), "recipe": "single-stage", "full_epochs": 0, "epochs": 8}
    record = toy.thin(tmp_path / "taught", **taught).run()
    assert record.metrics["validation_top1_largest"] > 0.9
    own = toy.thin(tmp_path / "own", **(taught | {"teacher": None})).run()
    assert own.weights_sha256 != record.weights_sha256
    shipped = get_space("mobilenet_v3/small").name.replace("/", "-")
    weights = Path(sys.modules["hwnas"].__file__ or "").parent / "supernet" / "weights" / f"{shipped}.fashion-mnist"
    with pytest.raises(UserError, match="knows 10 classes of fashion-mnist, not the 3 of toy"):
        toy.thin(tmp_path / "wrong", **(taught | {"teacher": str(weights)}))


def test_another_teacher_in_the_same_place_is_noticed(tmp_path: Path) -> None:
    taught = {"teacher": str(tmp_path / "teacher"), "recipe": "single-stage", "full_epochs": 0}
    toy.trainer(tmp_path / "teacher", epochs=0.2, full_epochs=0).run()
    toy.thin(tmp_path / "taught", **taught).run_until(1)
    for file in (tmp_path / "teacher").iterdir():
        file.unlink()
    toy.trainer(tmp_path / "teacher", epochs=0.2, full_epochs=0, seed=1).run()
    with pytest.raises(UserError, match="another teacher sha256"):
        toy.thin(tmp_path / "taught", **taught).run()


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(list(RECIPES)), st.integers(2, 500), st.integers(0, 500))
def test_phases_cover_the_run_without_gaps(name: str, total: int, full: int) -> None:
    config, full = toy.config(**RECIPES[name]), min(full, total)
    found = phases(toy.thin_space(), config, full, total)
    assert [phase.first for phase in found] == [0, *(phase.end for phase in found[:-1])]
    assert found[-1].end == total
    for phase in found:
        rates = [phase_rate(config, phase, step, 6) for step in range(phase.first, phase.end)]
        assert all(0 <= rate <= config.learning_rate for rate in rates)


def test_progressive_shrinking_frees_kernels_then_depths_then_widths() -> None:
    space = toy.thin_space()
    config = toy.config(**(RECIPES["progressive"] | {"random_subnets": 50}))
    found = phases(space, config, 100, 1000)
    assert [p.name for p in found] == ["full", "kernel", "depth, 1 smaller", "depth", "width, 1 smaller", "width"]
    lengths = [phase.end - phase.first for phase in found]
    assert lengths[1:] == pytest.approx([264.7, 52.9, 264.7, 52.9, 264.7], abs=1)
    values: dict[str, dict[str, set[int]]] = {}
    for phase in found:
        drawn = subnets(space, phase, config, phase.first)
        assert drawn == subnets(space, phase, config, phase.first)
        for architecture in drawn:
            for label, value in architecture.choices:
                values.setdefault(phase.name, {}).setdefault(label.rpartition(".")[2], set()).add(value)
    full, free = {"depth": {3}, "kernel": {5}, "expansion": {4}}, {"depth": {1, 2, 3}, "kernel": {3, 5}}
    assert values["full"] == {"resolution": {24}} | full
    assert values["kernel"] == {"resolution": {16, 20, 24}} | full | {"kernel": {3, 5}}
    assert values["depth, 1 smaller"] == values["kernel"] | {"depth": {2, 3}}
    assert values["depth"] == values["kernel"] | free
    assert values["width, 1 smaller"] == values["depth"] | {"expansion": {3, 4}}
    assert values["width"] == values["depth"] | {"expansion": {2, 3, 4}}


def test_random_subnets_of_some_steps_come_from_a_pool_of_their_own() -> None:
    space, config = toy.thin_space(), toy.config(random_subnets=2, subnet_pool=3, pool_steps=20)
    (phase,) = phases(space, config, 0, 40)
    drawn = [subnets(space, phase, config, step) for step in range(40)]
    assert drawn[7] == subnets(space, phase, config, 7)
    assert all(step[0] == space.largest and step[-1] == space.smallest and len(step) == 4 for step in drawn)
    first, second = ({one for step in part for one in step[1:-1]} for part in (drawn[:20], drawn[20:]))
    assert len(first) == len(second) == 3
    assert first != second
    assert all(step[1] != step[2] for step in drawn)


def test_one_resolution_a_step_is_that_of_all_its_subnets() -> None:
    space, config = toy.thin_space(), toy.config(resolution="step")
    (phase,) = phases(space, config, 0, 40)
    sizes = [{architecture.resolution for architecture in subnets(space, phase, config, step)} for step in range(40)]
    assert all(len(size) == 1 for size in sizes)
    assert set.union(*sizes) == {16, 20, 24}


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"recipe": "single-stage", "full_epochs": 1}, "set full_epochs to 0"),
        ({"recipe": "progressive", "full_epochs": 0}, "set full_epochs between 0 and epochs"),
        ({"random_subnets": 3, "subnet_pool": 2}, "a pool of 2 has no 3 random subnets"),
        ({"resolution": "step", "subnet_pool": 4}, "set resolution to subnet, or no pool"),
        ({"recipe": "progressive", "random_subnets": 0}, "set random_subnets to 1 or more"),
        ({"recipe": "other"}, "sandwich"),
        ({"alpha_min": 0.5}, "alpha_min"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        TrainingConfig.model_validate(wrong)


def test_each_recipe_has_its_own_length_of_the_full_phase() -> None:
    lengths = [
        TrainingConfig.model_validate({"recipe": name, "epochs": 60}).full_epochs for name in RECIPES if name != "alpha"
    ]
    assert lengths == [2, 0, 18]


# --- losses ---------------------------------------------------------------------------------------------------


def logits(seed: int, rows: int = 6) -> torch.Tensor:
    return torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(student: torch.Tensor, teacher: torch.Tensor, alphas: tuple[float, float], clip: float) -> torch.Tensor:
    student = student.clone().requires_grad_()
    (found,) = torch.autograd.grad(alpha_divergence(student, teacher, alphas, clip), student)
    return found


def test_with_alpha_one_it_is_the_kullback_leibler_divergence() -> None:
    student, teacher = logits(0), logits(1)
    found = alpha_divergence(student, teacher, (1.0, 1.0), 5.0)
    expected = functional.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    assert found.item() == pytest.approx(expected.item())
    own = student.clone().requires_grad_()
    functional.kl_div(own.log_softmax(1), teacher.softmax(1), reduction="batchmean").backward()
    assert torch.allclose(gradient(student, teacher, (1.0, 1.0), 5.0), own.grad)


@pytest.mark.parametrize("alpha", [-1e-9, 1e-9, -9e-4, 9e-4])
def test_near_zero_it_is_the_reverse_kullback_leibler_divergence(alpha: float) -> None:
    student, teacher = logits(0).float(), logits(1).float()
    found = alpha_divergence(student, teacher, (alpha, alpha), 5.0)
    own = student.clone().requires_grad_()
    expected = functional.kl_div(teacher.log_softmax(1), own.softmax(1), reduction="batchmean")
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(gradient(student, teacher, (alpha, alpha), 5.0), own.grad, atol=1e-6)
    beside = gradient(student.double(), teacher.double(), (2 * alpha if abs(alpha) > 5e-4 else 2e-3, 2e-3), 5.0)
    assert torch.allclose(beside.float(), own.grad, atol=1e-3), "nothing jumps there"


@pytest.mark.parametrize("alpha", [-1.0, 0.5, 2.0])
def test_without_clipping_its_gradient_is_that_of_its_value(alpha: float) -> None:
    student, teacher = logits(2), logits(3)
    found = gradient(student, teacher, (alpha, alpha), 1e9)
    for i, j in [(0, 0), (2, 3), (5, 4)]:
        step = torch.zeros_like(student)
        step[i, j] = 1e-5
        above, below = (alpha_divergence(student + sign * step, teacher, (alpha, alpha), 1e9) for sign in (1, -1))
        assert found[i, j].item() == pytest.approx(((above - below) / 2e-5).item(), rel=1e-4)


def test_of_both_alphas_the_larger_divergence_counts_and_the_ratio_is_bounded() -> None:
    student, teacher = logits(4), logits(5)
    each = [
        [alpha_divergence(s[None], t[None], (a, a), 5.0) for s, t in zip(student, teacher, strict=True)]
        for a in (-1.0, 1.0)
    ]
    larger = torch.stack([torch.stack(values) for values in each]).amax(0).mean()
    assert alpha_divergence(student, teacher, (-1.0, 1.0), 5.0).item() == pytest.approx(larger.item())
    far = torch.tensor([[40.0, 0, 0, 0, 0]], dtype=torch.float64)
    assert gradient(-far, far, (-1.0, -1.0), 5.0).abs().max() <= 5


@pytest.mark.parametrize("distillation", [0.0, 0.3, 1.0])
def test_labels_are_smoothed_wherever_a_loss_has_labels(distillation: float) -> None:
    student, teacher, labels = logits(6), logits(7), torch.tensor([0, 1, 2, 3, 4, 0])
    config = toy.config(label_smoothing=0.2, distillation=distillation)
    smooth = torch.full((6, 5), 0.2 / 5, dtype=torch.float64)
    smooth[torch.arange(6), labels] += 0.8
    probabilities = student.exp() / student.exp().sum(1, keepdim=True)
    hard = -(smooth * probabilities.log()).sum(1).mean()
    soft = -(teacher.exp() / teacher.exp().sum(1, keepdim=True) * probabilities.log()).sum(1).mean()
    taught = distillation * soft + (1 - distillation) * hard
    assert classification_loss(student, labels, None, config).item() == pytest.approx(hard.item())
    assert classification_loss(student, labels, teacher, config).item() == pytest.approx(taught.item())


# --- the moving average ---------------------------------------------------------------------------------------


def test_the_average_forgets_slowly_once_it_is_old() -> None:
    assert [average_share(0.9995, step) for step in (0, 1, 10)] == pytest.approx([9 / 10, 9 / 11, 9 / 20])
    assert average_share(0.9995, 10**6) == pytest.approx(0.0005)
    assert average_share(0.8, 100) == pytest.approx(0.2)
    assert average_share(0.0, 0) == average_share(0.0, 1000) == 1


@pytest.mark.parametrize("decay", [0.5, 0.0])
def test_what_is_saved_is_the_moving_average_since_the_channels_were_sorted(tmp_path: Path, decay: float) -> None:
    changes = {"ema_decay": decay, "epochs": 1, "full_epochs": 0.34}  # sorted before the third of six steps
    run = toy.thin(tmp_path, **changes)
    run.run_until(3)
    name, weight = next(iter(run.model.named_parameters()))
    average = run.state.average[name].clone()
    for step in (4, 5, 6):
        run = toy.thin(tmp_path, **changes)
        run.run_until(step)
        weight = dict(run.model.named_parameters())[name].detach()
        share = 1 - min(decay, (step - 2) / (step + 7))
        average += share * (weight - average)
        assert torch.allclose(run.state.average[name], average, atol=1e-7)
    assert torch.equal(run.state.average[name], weight) == (decay == 0)


# --- regularisation -------------------------------------------------------------------------------------------


def test_drop_connect_leaves_residuals_out_for_some_images_and_keeps_their_mean() -> None:
    torch.manual_seed(0)
    space = toy.thin_space()
    model = ElasticNetwork(space).eval()
    images = torch.randn(1, 3, 24, 24).expand(64, -1, -1, -1)
    drop = DropConnect(model, 0.5)
    with torch.no_grad():
        plain = model(images, space.largest)
        with drop((0, 1), 64, slice(0, 64)):
            first = model(images, space.largest)
        with drop((0, 1), 64, slice(32, 64)):
            share = model(images[32:], space.largest)
        assert torch.equal(model(images, space.largest), plain)
    assert len(first.unique(dim=0)) > 8
    assert torch.allclose(share, first[32:], atol=1e-6)


def test_layer_decay_falls_from_the_head_to_the_stem() -> None:
    model = ElasticNetwork(toy.thin_space())
    optimizer = make_optimizer(model, toy.config(layer_decay=0.5))
    scales = {id(p): group["scale"] for group in optimizer.param_groups for p in group["params"]}
    blocks = [[scales[id(p)] for p in block.parameters()] for block in model.blocks.values()]
    assert [set(block) for block in blocks] == [{0.5**i} for i in reversed(range(len(blocks)))]
    assert len(scales) == len(list(model.parameters()))


def test_draws_of_a_step_do_not_depend_on_the_steps_before() -> None:
    space, config = toy.thin_space(), toy.config()
    phase = phases(space, config, 0, 100)[0]
    assert subnets(space, phase, config, 50) == subnets(space, phase, config, 50) != subnets(space, phase, config, 51)
