"""What the data of reports are made of."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue


def _finite(value: JsonValue) -> JsonValue:
    """Refuse NaN and infinity anywhere inside a JSON value."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _finite(inner)
    return value


# From a nanosecond to eleven days: outside, the unit was mistaken.
Milliseconds = Annotated[float, Field(ge=1e-6, le=1e9)]
Spread = Annotated[float, Field(ge=0, le=1e9)]
SignedMilliseconds = Annotated[float, Field(ge=-1e9, le=1e9)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
Interval = tuple[Share, Share]
Correlation = Annotated[float, Field(ge=-1, le=1)]
Count = Annotated[int, Field(ge=0)]
Facts = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
LARGEST_SIZE = 1_000_000


class Part(BaseModel):
    """Base of the parts of a report: frozen, no unknown fields, no NaN and no infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
