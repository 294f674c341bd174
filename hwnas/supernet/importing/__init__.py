"""Weights that others trained, as weights of our spaces."""

from hwnas.supernet.importing.beginning import begin_with, space_of
from hwnas.supernet.importing.ofa import import_once_for_all
from hwnas.supernet.importing.reading import read_class_names

__all__ = ["begin_with", "import_once_for_all", "read_class_names", "space_of"]
