"""Networks that share weights, and the plain networks extracted from them."""

from hwnas.supernet.checkpoint import (
    DatasetRecord,
    SupernetRecord,
    load_record,
    load_supernet,
    save_supernet,
    shipped_supernets,
)
from hwnas.supernet.evaluation import hits, top1
from hwnas.supernet.network import ElasticNetwork
from hwnas.supernet.network_file import NetworkRecord, holds_network, load_network, save_network
from hwnas.supernet.plain import PlainNetwork
from hwnas.supernet.recalibration import recalibrate

__all__ = [
    "DatasetRecord",
    "ElasticNetwork",
    "NetworkRecord",
    "PlainNetwork",
    "SupernetRecord",
    "hits",
    "holds_network",
    "load_network",
    "load_record",
    "load_supernet",
    "recalibrate",
    "save_network",
    "save_supernet",
    "shipped_supernets",
    "top1",
]
