"""``hwnas`` that knows a space of quick detectors besides: as a program, like the command."""

from __future__ import annotations

import sys

from hwnas.cli.main import main
from hwnas.spaces import registry
from tests.detectors import DETECTORS

if __name__ == "__main__":
    registry.DETECTORS[DETECTORS.name] = DETECTORS
    sys.argv[0] = "hwnas"
    main()
