"""Random changes of training images, on the whole batch at once (kornia), repeatable from a seed."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

import kornia.augmentation as kornia
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor, nn

from hwnas.errors import UserError

Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


def _rising(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError("the first bound is above the second")
    return bounds


AreaBounds = Annotated[tuple[Share, Share], AfterValidator(_rising)]
RatioBounds = Annotated[tuple[Positive, Positive], AfterValidator(_rising)]


class AugmentationConfig(BaseModel):
    """What is done to training images, in the order of the fields; zero or ``none`` leaves a step out.

    Attributes:
        crop: ``padded`` shifts the image by up to ``padding`` pixels (zeros come in at the border); ``resized``
            cuts a part out and scales it back to the image's size (Szegedy et al. 2015, section 6).
        padding: pixels of border on each side for ``padded``.
        resized_area, resized_ratio: least and greatest share of the area and width : height for ``resized``.
        horizontal_flip: probability of mirroring.
        brightness, contrast, saturation, hue: each factor is drawn from 1 ± value (hue: shift of ± value of a
            full turn, at most 0.5).
        erasing: probability that a rectangle is overwritten (Zhong et al. 2017, "Random Erasing").
        erasing_area: least and greatest share of the area that is overwritten.
        erasing_value: what is written, between 0 (black) and 1.
        strength: multiplies how far or how often each step changes an image, see :meth:`scaled`; mirroring, which
            has no degrees, is left as it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: Literal["none", "padded", "resized"] = "padded"
    padding: Annotated[int, Field(ge=0)] = 2
    resized_area: AreaBounds = (0.35, 1.0)
    resized_ratio: RatioBounds = (3 / 4, 4 / 3)
    horizontal_flip: Probability = 0.5
    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    erasing: Probability = 0.25
    erasing_area: AreaBounds = (0.02, 0.2)
    erasing_value: Annotated[float, Field(ge=0, le=1)] = 0.0
    strength: Annotated[float, Field(ge=0, le=10)] = 1.0

    def scaled(self) -> AugmentationConfig:
        """The same changes at strength 1, each within its own bounds.

        Pixels of padding (rounded), the factors of colours and the probability of erasing are multiplied; of
        ``resized``, the share of the area that may be lost and the logarithm of the ratio are.
        """
        strength = self.strength
        changes: dict[str, object] = {
            "padding": round(self.padding * strength),
            "resized_area": tuple(max(0.01, 1 - (1 - bound) * strength) for bound in self.resized_area),
            "resized_ratio": tuple(bound**strength for bound in self.resized_ratio),
            "brightness": min(1.0, self.brightness * strength),
            "contrast": min(1.0, self.contrast * strength),
            "saturation": min(1.0, self.saturation * strength),
            "hue": min(0.5, self.hue * strength),
            "erasing": min(1.0, self.erasing * strength),
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
        if channels == 1 and (self.config.saturation or self.config.hue):
            raise UserError("Grey images have no saturation and no hue to change; set both to 0 in the augmentation.")
        # kornia draws from torch's default CPU generator and takes no other.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for step in _steps(self.config, height, width):
                images = step(images)
        return images


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
    strengths = (config.brightness, config.contrast, config.saturation, config.hue)
    if any(strengths):
        steps.append(kornia.ColorJitter(*strengths))
    if config.erasing:
        erase = kornia.RandomErasing(scale=config.erasing_area, value=config.erasing_value, p=config.erasing)
        steps.append(erase)
    return tuple(steps)
