"""Numbers and facts as text for people: sensible digits, units, no line break between the two."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import JsonValue

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
ABSENT = "\N{EN DASH}"


def significant(value: float, digits: int = 3) -> str:
    """``value`` to so many significant digits: 0.0512, 3.10, 128, 3.1·10⁻⁶."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e9:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return _signed(f"{mantissa}·10{str(int(exponent)).translate(SUPERSCRIPTS)}")
    # Rounding first: 0.9996 has three decimals less than its logarithm tells.
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded)))
    return _signed(f"{rounded:.{max(decimals, 0)}f}")


def milliseconds(value: float | None, digits: int = 3) -> str:
    """Such as ``0.391 ms``; a dash for None."""
    return ABSENT if value is None else f"{significant(value, digits)}{NBSP}ms"


def apart(first: float, second: float) -> tuple[str, str]:
    """Two times in ms with enough digits to be told apart, three at least."""
    for digits in range(3, 9):
        texts = milliseconds(first, digits), milliseconds(second, digits)
        if texts[0] != texts[1] or first == second:
            break
    return texts


def spread(value: float | None, std: float | None, digits: int = 3) -> str:
    """Such as ``0.391 ± 0.002 ms``: the deviation with the decimals of the value."""
    if value is None or std is None:
        return milliseconds(value, digits)
    number = significant(value, digits)
    decimals = len(number.partition(".")[2])
    fits = "·" not in number and round(std, decimals) > 0
    deviation = f"{std:.{decimals}f}" if fits else significant(std, 1)
    return f"{number}{NBSP}±{NBSP}{deviation}{NBSP}ms"


def percent(fraction: float | None, decimals: int = 2) -> str:
    """A fraction in per cent: ``93.42 %``; a dash for None."""
    return ABSENT if fraction is None else f"{_signed(f'{100 * fraction:.{decimals}f}')}{NBSP}%"


def share(fraction: float | None, interval: tuple[float, float] | None, decimals: int = 1) -> str:
    """A fraction with its interval, in per cent: ``99.0 % (96.4 to 99.7)``; a dash for None."""
    if fraction is None or interval is None:
        return percent(fraction, decimals)
    low, high = (f"{100 * end:.{decimals}f}" for end in interval)
    return f"{percent(fraction, decimals)} ({low}{NBSP}to{NBSP}{high})"


def points(difference: float) -> str:
    """A difference of two fractions in percentage points: ``+0.42 points``."""
    return f"{_signed(f'{100 * difference:+.2f}')}{NBSP}points"


def ratio(value: float) -> str:
    """A factor: ``2.13×``."""
    return f"{significant(value)}×"


def decimal(value: float | None, decimals: int = 3) -> str:
    """A plain number of fixed decimals, such as a rank correlation; a dash for None."""
    return ABSENT if value is None else _signed(f"{value:.{decimals}f}")


def count(value: float | None) -> str:
    """A large count: ``4.12 M``; a dash for None."""
    return ABSENT if value is None else _scaled(value, ("", "k", "M", "G", "T")).rstrip(NBSP)


def size(value: float | None) -> str:
    """Bytes in decimal units: ``1.24 MB``; a dash for None."""
    return ABSENT if value is None else _scaled(value, ("B", "kB", "MB", "GB", "TB"))


def mebibytes(value: float | None) -> str:
    """Memory in MiB; a dash for None."""
    return ABSENT if value is None else f"{significant(value)}{NBSP}MiB"


def per_second(value: float | None) -> str:
    """Images a second; a dash for None."""
    return ABSENT if value is None else f"{_scaled(value, ('', 'k', 'M', 'G', 'T')).rstrip(NBSP)}/s"


def duration(seconds: float | None) -> str:
    """``0.84 s``, ``2 min 14 s`` or ``3 h 05 min``; a dash for None."""
    if seconds is None:
        return ABSENT
    if seconds < 59.95:
        return f"{significant(seconds, 2 if seconds < 10 else 3)}{NBSP}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{NBSP}min{NBSP}{whole % 60:02d}{NBSP}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{NBSP}h{NBSP}{minutes % 60:02d}{NBSP}min"


def moment(time: datetime) -> str:
    """``23 Nov 2026, 21:45 UTC``."""
    in_utc = time.astimezone(UTC)
    return f"{in_utc.day}{NBSP}{in_utc:%b}{NBSP}{in_utc.year:04d}, {in_utc:%H:%M}{NBSP}UTC"


def shortened(text: str, length: int) -> str:
    """At most ``length`` characters, the last an ellipsis where something was cut off."""
    return text if len(text) <= length else text[: length - 1] + "…"


def facts(value: dict[str, JsonValue]) -> list[tuple[str, str]]:
    """A nested JSON object as rows of a dotted name and a text."""
    return list(_rows("", value))


def _rows(name: str, value: JsonValue) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _rows(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for position, inner in enumerate(value):
            yield from _rows(f"{name}.{position}", inner)
    elif isinstance(value, list):
        yield name, ", ".join(map(_scalar, value)) or "none"
    else:
        yield name, _scalar(value)


def _scalar(value: JsonValue) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "none"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _scaled(value: float, units: tuple[str, ...]) -> str:
    step = 0
    while step < len(units) - 1 and value >= 999.5:
        value, step = value / 1000, step + 1
    number = significant(value) if step else f"{value:g}"
    return f"{number}{NBSP}{units[step]}"


def _signed(text: str) -> str:
    """With a true minus sign, and none before a zero."""
    if not text.startswith("-"):
        return text
    return MINUS + text[1:] if text.strip("-0.") else text[1:]
