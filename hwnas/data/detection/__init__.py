"""Data sets of pictures with boxes, as COCO stores them."""

from hwnas.data.detection.annotations import Annotation, CocoFile, read_annotations
from hwnas.data.detection.coco import is_coco, load_detection
from hwnas.data.detection.dataset import CROWD, NO_OBJECT, DetectionDataset, DetectionSet

__all__ = [
    "CROWD",
    "NO_OBJECT",
    "Annotation",
    "CocoFile",
    "DetectionDataset",
    "DetectionSet",
    "is_coco",
    "load_detection",
    "read_annotations",
]
