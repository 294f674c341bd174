"""Importers of published latency tables; a new format is a new file and one line here."""

from hwnas.errors import UnknownNameError
from hwnas.latency.importers.base import Format, import_table
from hwnas.latency.importers.ofa import OFA
from hwnas.latency.importers.proxyless import PROXYLESS
from hwnas.latency.importers.results import RESULTS, import_results

FORMATS: dict[str, Format] = {published.name: published for published in (OFA, PROXYLESS)}


def get_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in FORMATS:
        raise UnknownNameError(
            f"There is no format '{name}' of published tables; known are {', '.join((*FORMATS, RESULTS))}."
        )
    return FORMATS[name]


__all__ = ["FORMATS", "RESULTS", "Format", "get_format", "import_results", "import_table"]
