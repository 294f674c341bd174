"""What somebody measured on a device that we do not have: the file that acceptance scripts write and send."""

from __future__ import annotations

import datetime
from typing import Any, Literal

from pydantic import Field

from hwnas.files import Document
from hwnas.latency.crosscheck import CrossCheck
from hwnas.latency.table import LatencyTable


class AcceptanceResults(Document):
    """Tables with the evidence for them."""

    kind: Literal["acceptance"] = "acceptance"
    hwnas: str
    """Version of hwnas."""
    script: str
    """Which one wrote it."""
    dry_run: str | None = None
    """Why this is no measurement of the device that it is about; ``None``: it is one."""
    target: str
    created: datetime.date
    tables: tuple[LatencyTable, ...] = ()
    cross_checks: tuple[CrossCheck, ...] = ()
    stages: dict[str, Any] = Field(default_factory=dict)
    """What else was found, stage by stage."""
