#!/usr/bin/env python
"""Whether the supernet that begins as EfficientNet-Lite0 is it: logits and top-1 on real pictures beside the original.

python scripts/check_lite0.py pictures.parquet
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from efficientnet_lite0 import MEAN, RESOLUTION, STD, network, pictures

from hwnas.data import to_input
from hwnas.spaces import get_space
from hwnas.supernet import ElasticNetwork
from hwnas.supernet.importing.efficientnet_lite import LITE0_SPACE, lite0_architecture, load_lite0

BATCH = 50


@torch.inference_mode()
def main(path: Path) -> None:
    """Print a line for the published network, one for Lite0 in our space, and one for the largest subnet."""
    supernet = ElasticNetwork(get_space(LITE0_SPACE)).eval()
    load_lite0(supernet)
    space, images = supernet.space, pictures(path)
    networks = {
        "published": network(),
        "imported": supernet.extract(lite0_architecture(space)),
        "largest": supernet.extract(space.largest),
    }
    logits = {
        name: torch.cat([made(to_input(x, RESOLUTION, MEAN, STD)) for x in images.pixels.split(BATCH)])
        for name, made in networks.items()
    }
    for name, found in logits.items():
        top1 = (found.argmax(1) == images.labels).float().mean()
        difference = (found - logits["published"]).abs().max()
        print(f"{name:10} top-1 {top1:.1%} of {len(found)} pictures, logits differ by at most {difference:.1e}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
