"""How runs follow each other."""

from __future__ import annotations

import pytest

from hwnas.devices import BACK_TO_BACK, Arrival
from hwnas.errors import UserError


def test_arrivals_say_what_they_are() -> None:
    assert [str(Arrival(fps)) for fps in (0.0, 30.0, 29.97)] == ["back-to-back", "30 fps", "29.97 fps"]
    assert Arrival() == BACK_TO_BACK


@pytest.mark.parametrize("fps", [-1.0, float("nan"), float("inf")])
def test_a_rate_that_no_frames_arrive_at_is_refused(fps: float) -> None:
    with pytest.raises(UserError, match="positive number a second"):
        Arrival(fps)
