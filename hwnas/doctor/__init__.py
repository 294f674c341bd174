"""Whether a model will build on a device, without having the device."""

from hwnas.doctor.case import BuildPlan, Precision
from hwnas.doctor.examination import examine
from hwnas.doctor.finding import Diagnosis, Finding, MemoryEstimate, Severity, Verdict
from hwnas.doctor.parser import ParserVerdict, ask_parser
from hwnas.doctor.platform import JETPACK, Overrides, Platform, platforms
from hwnas.doctor.version import Version

__all__ = [
    "JETPACK",
    "BuildPlan",
    "Diagnosis",
    "Finding",
    "MemoryEstimate",
    "Overrides",
    "ParserVerdict",
    "Platform",
    "Precision",
    "Severity",
    "Verdict",
    "Version",
    "ask_parser",
    "examine",
    "platforms",
]
