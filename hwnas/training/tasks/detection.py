"""Objects in pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from hwnas.data.detection import DetectionDataset
from hwnas.data.detection.jitter import Place, jitter
from hwnas.detection.anchors import anchors
from hwnas.detection.answers import answers_of, level_sizes
from hwnas.detection.assignment import assign
from hwnas.detection.evaluation import coco_tools
from hwnas.detection.losses import detection_loss, prior_bias
from hwnas.detection.scoring import PICTURES_AT_ONCE
from hwnas.errors import UserError
from hwnas.supernet import ElasticNetwork, PlainNetwork
from hwnas.supernet.blocks.predict import ElasticPredict, Predict
from hwnas.training.batches import Make, resident
from hwnas.training.config import TrainingConfig
from hwnas.training.losses import Outputs
from hwnas.training.processes import equal_share
from hwnas.training.tasks.base import Task, refuse_changed

FIRST_STD = 0.01
"""Of the weights of the last layer for classes, beside its prior (Lin et al. 2017, Sec. 4.1 "Initialization")."""
OF_CLASSIFIERS = (
    "label_smoothing",
    "teacher",
    "distillation",
    "divergence",
    "alpha_min",
    "alpha_max",
    "alpha_clip",
    "augmentation",
    "layer_decay",
)
"""Settings; what is one block before another is not said where blocks branch and share weights."""


class Detection(Task):
    """Learns from boxes, each subnet for itself; COCO's mean average precision says how well.

    Raises:
        UserError: the configuration has settings of classifiers, or a recipe in which a network teaches; pycocotools
            is not installed.
    """

    knows_nothing = 2.0
    """Focal loss at the prior and boxes as far off as their anchors, where objects are many; where they are few and
    small it is much more, for all the empty anchors count by those that answer for an object."""
    distils = False

    def __init__(self, dataset: DetectionDataset, config: TrainingConfig) -> None:
        refuse_changed(config, OF_CLASSIFIERS, "detectors")
        if config.recipe == "progressive":
            raise UserError("Progressive shrinking lives from a teacher, and detectors have none; use recipe sandwich.")
        coco_tools()  # missed now rather than after an epoch
        self._dataset, self._config = dataset, config.detection
        self.recalibration = config.detection.jitter.model_dump(mode="json")

    def begin(self, supernet: ElasticNetwork) -> None:
        """Let each class be improbable at first, so that the many empty anchors do not drown the others."""
        for label, block in supernet.blocks.items():
            if label.startswith("class_p"):
                assert isinstance(block, Predict | ElasticPredict) and block.mix.bias is not None
                nn.init.normal_(block.mix.weight, std=FIRST_STD)
                nn.init.constant_(block.mix.bias, prior_bias())

    def maker(self, device: torch.device) -> Make:
        """Targets are boxes [n, M, 4], as shares of the picture's side, and labels [n, M] (:class:`DetectionSet`)."""
        train = self._dataset.train
        pixels = resident(train.pixels, device)

        def make(rows: Tensor, seed: int, wanted: slice) -> tuple[Tensor, ...]:
            mine = rows[wanted]
            images = pixels[mine.to(pixels.device, non_blocking=True)].to(device, non_blocking=True).float().div_(255)
            boxes, labels = (each[mine].to(device, non_blocking=True) for each in (train.boxes, train.labels))
            place = Place(wanted.start, len(rows))
            images, boxes, labels = jitter(images, boxes, labels, self._config.jitter, seed, place)
            return images, boxes / train.side, labels

        return make

    def loss(self, outputs: Outputs, targets: Sequence[Tensor], resolution: int, teacher: Outputs | None, /) -> Tensor:
        """Focal loss of the classes and Huber loss of the boxes, by the anchors of all processes that answer for one.

        There is no teacher.
        """
        assert isinstance(outputs, tuple)
        assert teacher is None
        boxes, labels = targets
        start = anchors(resolution, level_sizes(outputs), boxes.device)
        assigned, owned = assign(boxes * resolution, labels, start)
        cost = detection_loss(answers_of(outputs), assigned, owned, start, self._config.loss)
        return cost / equal_share((assigned >= 0).sum())

    def losses(self, network: PlainNetwork, resolution: int) -> Iterator[Tensor]:
        """As :meth:`loss`."""
        split = self._dataset.recalibration
        images = self._dataset.inputs(split.pixels, resolution, PICTURES_AT_ONCE)
        targets = (torch.split(each, PICTURES_AT_ONCE) for each in (split.boxes / split.side, split.labels))
        for some, boxes, labels in zip(images, *targets, strict=True):
            yield self.loss(network(some), (boxes, labels), resolution, None)
