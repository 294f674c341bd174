"""Random changes of training images, on the whole batch at once (kornia), repeatable from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Annotated, Literal, cast

import kornia.augmentation as kornia
import torch
from kornia.augmentation.auto import RandAugment
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from hwnas.errors import UserError

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
WIDEST = 20.0
"""Width : height of a part that is cut out."""
Ratio = Annotated[float, Field(ge=1 / WIDEST, le=WIDEST)]


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the first bound is above the second")
    return bounds


AreaBounds = Annotated[tuple[Share, Share], AfterValidator(_rising)]
RatioBounds = Annotated[tuple[Ratio, Ratio], AfterValidator(_rising)]


class AugmentationConfig(BaseModel):
    """What is done to training images, in the order of the fields; zero or ``none`` leaves a step out.

    Attributes:
        crop: ``padded`` shifts the image by up to ``padding`` pixels (zeros come in at the border); ``resized``
            cuts a part out and scales it back to the image's size (Szegedy et al. 2015, section 6).
        padding: pixels of border on each side for ``padded``.
        resized_area, resized_ratio: least and greatest share of the area and width : height for ``resized``.
        horizontal_flip: probability of mirroring.
        randaugment, randaugment_magnitude: so many operations, drawn anew for every call, each of this magnitude out
            of 30 (Cubuk et al. 2020, "RandAugment").
        brightness, contrast, saturation, hue: each factor is drawn from 1 ± value (hue: shift of ± value of a
            full turn, at most 0.5).
        erasing: probability that a rectangle is overwritten (Zhong et al. 2017, "Random Erasing").
        erasing_area: least and greatest share of the area that is overwritten.
        erasing_value: what is written, between 0 (black) and 1.
        mixup, cutmix: probability that the images of a call are each blended with another one (Zhang et al. 2018,
            "mixup", their weights uniform) or get a rectangle of another one (Yun et al. 2019, "CutMix", its share of
            the area uniform); at most 1 together. Labels are mixed in the same shares, see :class:`Mixing`.
        strength: multiplies how far or how often each step changes an image, see :meth:`scaled`; mirroring, which
            has no degrees, is left as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: Literal["none", "padded", "resized"] = "padded"
    padding: Annotated[int, Field(ge=0)] = 2
    resized_area: AreaBounds = (0.35, 1.0)
    resized_ratio: RatioBounds = (3 / 4, 4 / 3)
    horizontal_flip: Probability = 0.5
    randaugment: Annotated[int, Field(ge=0, le=15)] = 0
    randaugment_magnitude: Annotated[int, Field(ge=1, le=29)] = 9
    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    erasing: Probability = 0.25
    erasing_area: AreaBounds = (0.02, 0.2)
    erasing_value: Annotated[float, Field(ge=0, le=1)] = 0.0
    mixup: Probability = 0.0
    cutmix: Probability = 0.0
    strength: Annotated[float, Field(ge=0, le=10)] = 1.0

    @model_validator(mode="after")
    def _mix_once(self) -> AugmentationConfig:
        if self.mixup + self.cutmix > 1:
            raise ValueError(f"mixup {self.mixup} and cutmix {self.cutmix} are more than 1 together")
        return self

    def scaled(self) -> AugmentationConfig:
        """The same changes at strength 1, each within its own bounds.

        Pixels of padding and RandAugment's magnitude (both rounded), the factors of colours and the probabilities of
        erasing and mixing are multiplied; of ``resized``, the share of the area that may be lost and the logarithm of
        the ratio are.
        """
        strength = self.strength
        mixing = min(strength, 1 / (self.mixup + self.cutmix)) if self.mixup + self.cutmix else 0.0
        mixup, cutmix = self.mixup * mixing, self.cutmix * mixing
        if mixup + cutmix > 1:  # by rounding
            cutmix = 1 - mixup
        changes: dict[str, object] = {
            "padding": round(self.padding * strength),
            "resized_area": tuple(max(0.01, 1 - (1 - bound) * strength) for bound in self.resized_area),
            "resized_ratio": tuple(max(1 / WIDEST, min(WIDEST, bound**strength)) for bound in self.resized_ratio),
            "brightness": min(1.0, self.brightness * strength),
            "contrast": min(1.0, self.contrast * strength),
            "saturation": min(1.0, self.saturation * strength),
            "hue": min(0.5, self.hue * strength),
            "erasing": min(1.0, self.erasing * strength),
            "randaugment": self.randaugment if strength else 0,
            "randaugment_magnitude": max(1, min(29, round(self.randaugment_magnitude * strength))),
            "mixup": mixup,
            "cutmix": cutmix,
            "strength": 1.0,
        }
        return self.model_copy(update=changes)


class Augmentation:
    """Applies an :class:`AugmentationConfig`."""

    def __init__(self, config: AugmentationConfig) -> None:
        self.config = config.scaled()

    @torch.no_grad()
    def __call__(self, images: Tensor, seed: int) -> Tensor:
        """Change each image at random.

        Args:
            images: floating point [B, C, H, W] between 0 and 1, C = 1 or 3; left as they are.
            seed: equal seeds change equal batches equally, whatever the state of the global generators, which
                are found afterwards as they were.

        Returns:
            Images of the same shape, type and range.

        Raises:
            UserError: saturation or hue is to be changed in grey images.
        """
        _, channels, height, width = images.shape
        self.require_colours(channels)
        with _seeded(seed):
            for step in _steps(self.config, height, width):
                images = step(images)
        return images

    def require_colours(self, channels: int) -> None:
        """Refuse images of so many channels if they have no colours and those are to be changed.

        Raises:
            UserError: it is so.
        """
        if channels == 1 and (self.config.saturation or self.config.hue):
            raise UserError("Grey images have no saturation and no hue to change; set both to 0 in the augmentation.")


class Mixing:
    """Blends images, and their labels in the same shares, as :class:`AugmentationConfig` says."""

    def __init__(self, config: AugmentationConfig, num_classes: int) -> None:
        self.config, self.num_classes = config.scaled(), num_classes

    @property
    def mixes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.config.mixup or self.config.cutmix)

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Mix every image with another one of the batch, or none.

        Args:
            images: [B, C, H, W], left as they are.
            labels: [B].
            seed: as for :class:`Augmentation`.

        Returns:
            Images of the same shape, and the probability of each class [B, classes].
        """
        target = functional.one_hot(labels, self.num_classes).to(images.dtype)
        with _seeded(seed):
            drawn = float(torch.rand(()))
            if drawn < self.config.mixup:
                images, mixed = _MIXUP(images, labels)
                _, partner, share = mixed.unbind(-1)
            elif drawn < self.config.mixup + self.config.cutmix:
                images, mixed = _CUTMIX(images, labels)
                _, partner, own = mixed[0].unbind(-1)
                share = 1 - own
            else:
                return images, target
        other = functional.one_hot(partner.long(), self.num_classes).to(images.dtype)
        return images, torch.lerp(target, other, share.to(images.dtype)[:, None])


_MIXUP = kornia.RandomMixUpV2(p=1.0, data_keys=["input", "class"])
_CUTMIX = kornia.RandomCutMixV2(p=1.0, beta=1.0, data_keys=["input", "class"], use_correct_lambda=True)


class _RandAugment(nn.Module):
    """Kornia's RandAugment; grey images, whose colours it wants as well, are grey thereafter."""

    def __init__(self, operations: int, magnitude: int) -> None:
        super().__init__()
        self.changes = RandAugment(operations, magnitude)

    def forward(self, images: Tensor) -> Tensor:
        """[B, C, H, W] between 0 and 1, to the same."""
        channels = images.shape[1]
        changed = self.changes(images.expand(-1, 3, -1, -1).contiguous())
        return cast(Tensor, changed[:, :channels].clamp(0, 1))


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Kornia draws from torch's default CPU generator and takes no other."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@cache
def _steps(config: AugmentationConfig, height: int, width: int) -> tuple[nn.Module, ...]:
    """The kornia modules for images of one size."""
    size = (height, width)
    steps: list[nn.Module] = []
    if config.crop == "padded" and config.padding:
        steps.append(kornia.RandomCrop(size, padding=config.padding))
    if config.crop == "resized":
        area, ratio = config.resized_area, config.resized_ratio
        steps.append(kornia.RandomResizedCrop(size, scale=area, ratio=ratio, cropping_mode="resample"))
    if config.horizontal_flip:
        steps.append(kornia.RandomHorizontalFlip(p=config.horizontal_flip))
    if config.randaugment:
        steps.append(_RandAugment(config.randaugment, config.randaugment_magnitude))
    strengths = (config.brightness, config.contrast, config.saturation, config.hue)
    if any(strengths):
        steps.append(kornia.ColorJitter(*strengths))
    if config.erasing:
        erase = kornia.RandomErasing(scale=config.erasing_area, value=config.erasing_value, p=config.erasing)
        steps.append(erase)
    return tuple(steps)
