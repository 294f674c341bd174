"""One self-contained HTML page that says what was asked, what was found and how far it can be trusted."""

from hwnas.report.data import (
    Asked,
    BlockTime,
    Candidate,
    DeviceFound,
    Finalist,
    HeldOutNetwork,
    Latency,
    LatencyFigures,
    LatencyModelQuality,
    Measurement,
    Network,
    OtherBudgetKept,
    ReportData,
    Search,
    Step,
    Table,
    Winner,
)
from hwnas.report.explained import Alternative, AtAnotherBudget, Explained, FarFromBest, Worth
from hwnas.report.page import write_report

__all__ = [
    "Alternative",
    "Asked",
    "AtAnotherBudget",
    "BlockTime",
    "Candidate",
    "DeviceFound",
    "Explained",
    "FarFromBest",
    "Finalist",
    "HeldOutNetwork",
    "Latency",
    "LatencyFigures",
    "LatencyModelQuality",
    "Measurement",
    "Network",
    "OtherBudgetKept",
    "ReportData",
    "Search",
    "Step",
    "Table",
    "Winner",
    "Worth",
    "write_report",
]
