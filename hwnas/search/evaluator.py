"""The accuracy of a subnet with the supernet's weights."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hwnas.data.detection import DetectionDataset
from hwnas.data.recalibration import even_batches, recalibration_pixels
from hwnas.data.tasks import AnyDataset
from hwnas.detection.scoring import PICTURES_AT_ONCE, scores
from hwnas.errors import UserError
from hwnas.spaces import Architecture
from hwnas.supernet import ElasticNetwork, PlainNetwork, hits, recalibrate
from hwnas.supernet.layers import ConvNorm
from hwnas.supernet.memory import keep_freed_memory

CACHE_BYTES = 768 << 20
CLASSIFIER_BATCH = 100


class Evaluator(Protocol):
    """Gives the top-1 of an architecture, the same each time."""

    @property
    def identity(self) -> str:
        """Changes whenever the accuracies do: weights, data, protocol."""

    def __call__(self, architecture: Architecture) -> float:
        """Top-1 on the validation split, in 0..1."""


class SubnetEvaluator:
    """Extracts a subnet, recalibrates its batch norms and counts its hits on the validation split.

    Deterministic for a number of threads.  The images of as many resolutions as fit are kept ready for the network.

    Args:
        supernet: trained weights.
        dataset: ``recalibration`` images set the batch norms, ``validation`` images are scored.
        threads: of torch, while evaluating.
        batch_size: images at a time; of recalibration too, whose statistics depend on it slightly.  By default 100, of
            a detector as many as wherever else it is scored.
        cache_bytes: most that prepared images may take.

    Raises:
        UserError: the data set has another number of classes than the supernet.
    """

    def __init__(
        self,
        supernet: ElasticNetwork,
        dataset: AnyDataset,
        *,
        threads: int = 1,
        batch_size: int | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if dataset.num_classes != supernet.space.num_classes:
            raise UserError(
                f"Data set {dataset.name} has {dataset.num_classes} classes, the supernet "
                f"{supernet.space.num_classes}; use the data it was trained for."
            )
        keep_freed_memory()
        self._supernet = supernet
        self._dataset = dataset
        self.threads = threads
        usual = PICTURES_AT_ONCE if isinstance(dataset, DetectionDataset) else CLASSIFIER_BATCH
        self._batch_size = batch_size or usual
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[int, _Prepared] = OrderedDict()

    @property
    def dataset(self) -> AnyDataset:
        """What subnets are recalibrated and scored on."""
        return self._dataset

    @property
    def identity(self) -> str:
        """Digest of weights, data and protocol."""
        digest = hashlib.sha256()
        for name, tensor in self._supernet.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        protocol = f"{self._dataset.fingerprint}|threads={self.threads}|batch={self._batch_size}"
        together = even_batches(len(self._dataset.recalibration), self._batch_size)
        if together != self._batch_size:
            protocol += f"|recalibrated={together}"
        if self._supernet.recalibration is not None:
            protocol += f"|recalibration={json.dumps(self._supernet.recalibration, sort_keys=True)}"
        digest.update(protocol.encode())
        return digest.hexdigest()[:16]

    def __call__(self, architecture: Architecture) -> float:
        """Top-1 of the subnet on the validation split, or a detector's mean average precision, in 0..1."""
        if isinstance(self._dataset, DetectionDataset):
            network, resolution = self.ready(architecture), architecture.resolution
            pictures = (images for images, _ in self._prepared(resolution).validation())
            with _threads(self.threads):
                return scores(network, resolution, pictures, self._dataset.validation).map
        found = self.hits(architecture)
        return int(found.sum()) / len(found)

    def hits(self, architecture: Architecture) -> Tensor:
        """Which images of the validation split the subnet classifies rightly, bool [n]."""
        network = self.ready(architecture)
        with _threads(self.threads):
            return hits(network, self._prepared(architecture.resolution).validation())

    def ready(self, architecture: Architecture) -> PlainNetwork:
        """The subnet as it is scored: recalibrated, its batch norms folded, channels last."""
        network = self._supernet.extract(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with _threads(self.threads):
            recalibrate(network, self._prepared(architecture.resolution).recalibration())
        return fold_batch_norms(network)

    @cached_property
    def _recalibration_pixels(self) -> Tensor:
        return recalibration_pixels(self._dataset, self._supernet.recalibration)

    def _prepared(self, resolution: int) -> _Prepared:
        if resolution in self._cache:
            self._cache.move_to_end(resolution)
            return self._cache[resolution]
        prepared = _Prepared(self._dataset, self._recalibration_pixels, resolution, self._batch_size)
        if prepared.nbytes <= self._cache_bytes:
            while prepared.nbytes + sum(kept.nbytes for kept in self._cache.values()) > self._cache_bytes:
                self._cache.popitem(last=False)
            prepared.keep()
            self._cache[resolution] = prepared
        return prepared


class _Prepared:
    """The evaluator's images at one resolution: made when asked for, or kept."""

    def __init__(self, dataset: AnyDataset, recalibration: Tensor, resolution: int, batch_size: int) -> None:
        self._dataset = dataset
        self._pixels = recalibration
        self._resolution = resolution
        self._batch_size = batch_size
        self._recalibration: list[Tensor] | None = None
        self._validation: list[tuple[Tensor, Tensor]] | None = None

    @property
    def nbytes(self) -> int:
        """What the images take in float32."""
        images = len(self._pixels) + len(self._dataset.validation)
        return images * 3 * self._resolution**2 * 4

    def keep(self) -> None:
        """Make all and keep them."""
        self._recalibration, self._validation = list(self.recalibration()), list(self.validation())

    def recalibration(self) -> Iterator[Tensor]:
        """Batches [b, 3, r, r]."""
        if self._recalibration is not None:
            yield from self._recalibration
        else:
            size = even_batches(len(self._pixels), self._batch_size)
            yield from self._dataset.inputs(self._pixels, self._resolution, size)

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches [b, 3, r, r] and their labels."""
        if self._validation is not None:
            yield from self._validation
        else:
            images = self._dataset.validation
            inputs = self._dataset.inputs(images.pixels, self._resolution, self._batch_size)
            yield from zip(inputs, torch.split(images.labels, self._batch_size), strict=True)


def fold_batch_norms(network: PlainNetwork) -> PlainNetwork:
    """Put each batch norm of a network in evaluation mode into the convolution before it; changes the network."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = cast(nn.BatchNorm2d, nn.Identity())
    return network


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
