"""How well a detector detects, as plain data."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class DetectionScores(BaseModel):
    """COCO's figures (cocodataset.org, "Detection evaluation"); of some objects alone, None where none is counted.

    Attributes:
        images: that were looked at.
        map: mean average precision over overlaps 0.50, 0.55 … 0.95 and classes; ``map50`` and ``map75`` at one overlap.
        small, medium, large: the same for objects below 32² square pixels of the original picture, up to 96², above.
        recall: average recall with up to 100 detections a picture.
        classes: the mean average precision of each class by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    images: Annotated[int, Field(ge=1)]
    map: Share
    map50: Share
    map75: Share
    small: Share | None
    medium: Share | None
    large: Share | None
    recall: Share
    classes: dict[str, Share | None]
