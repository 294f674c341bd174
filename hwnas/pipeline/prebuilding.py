"""Engines that are built before a bundle is sent, on devices like those that will run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hwnas.deploy.content import PrebuiltEngine
from hwnas.devices import CompileOptions, Device, Target, open_device
from hwnas.pipeline.bundled_network import BundledNetwork
from hwnas.progress import Progress


def prebuilt_engines(
    networks: Sequence[BundledNetwork], options: CompileOptions, targets: Sequence[Target], progress: Progress
) -> dict[str, list[PrebuiltEngine]]:
    """Engines by network, one built on each target.

    Raises:
        DeviceError: one could not be built.
    """
    engines: dict[str, list[PrebuiltEngine]] = {network.id: [] for network in networks}
    if not targets:
        return engines
    progress.start("building engines", len(targets) * len(networks), unit="engines")
    for target in targets:
        with open_device(target) as device:
            identity = device.fingerprint(options).identity
            for network in networks:
                engines[network.id].append(_engine(device, identity, network, options))
                progress.advance(note=f"{network.id} on {target.name}")
    progress.finish()
    return engines


def _engine(
    device: Device, identity: dict[str, Any], network: BundledNetwork, options: CompileOptions
) -> PrebuiltEngine:
    built = device.compile(network.content, options, load=False)
    try:
        content = device.engine_content(built)
    finally:
        device.release(built)
    return PrebuiltEngine(content, options.runtime, identity, built.options.as_request())
