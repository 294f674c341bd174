"""What may be searched: families of networks, their presets, and arrays of architectures."""

from hwnas.spaces.architecture import Architecture
from hwnas.spaces.block import BlockSpec, make_divisible
from hwnas.spaces.network import Network
from hwnas.spaces.precision import bytes_per_weight, precision_of, precisions_of, with_precisions, without_precision
from hwnas.spaces.registry import get_space, space_names
from hwnas.spaces.single import single_space
from hwnas.spaces.space import Choice, Genomes, Slot, Space, Task

__all__ = [
    "Architecture",
    "BlockSpec",
    "Choice",
    "Genomes",
    "Network",
    "Slot",
    "Space",
    "Task",
    "bytes_per_weight",
    "get_space",
    "make_divisible",
    "precision_of",
    "precisions_of",
    "single_space",
    "space_names",
    "with_precisions",
    "without_precision",
]
