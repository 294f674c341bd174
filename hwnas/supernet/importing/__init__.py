"""Weights that others trained, as weights of our spaces."""

from hwnas.supernet.importing.beginning import begin_with, space_of
from hwnas.supernet.importing.efficientnet_lite import LITE2, LITE2_RESOLUTION, LITE_MEAN, LITE_STD, lite2, weights_file
from hwnas.supernet.importing.ofa import import_once_for_all
from hwnas.supernet.importing.reading import read_class_names

__all__ = [
    "LITE2",
    "LITE2_RESOLUTION",
    "LITE_MEAN",
    "LITE_STD",
    "begin_with",
    "import_once_for_all",
    "lite2",
    "read_class_names",
    "space_of",
    "weights_file",
]
