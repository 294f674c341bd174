"""The one form in which signed JSON is written, so that equal values are equal bytes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel


def canonical(value: Any) -> bytes:
    """JSON in ASCII with sorted names and no white space; a pydantic model by its own rules.

    Raises:
        ValueError: a number is not finite.
    """
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
