"""``hwnas`` that knows a space of quick detectors besides: as a program, like the command."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from hwnas.cli.main import main
from hwnas.spaces import registry
from tests.detectors import thin_detectors

THIN = {"thin-bifpn": SimpleNamespace(presets=("thin",), space=lambda _, classes: thin_detectors(classes or 2))}
"""What is added to the registry of detectors."""

if __name__ == "__main__":
    registry.DETECTORS.update(THIN)
    sys.argv[0] = "hwnas"
    main()
