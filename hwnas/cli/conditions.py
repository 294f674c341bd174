"""In what state a device was while its table was measured, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.cli.console import out, print_table

if TYPE_CHECKING:
    from hwnas.latency import LatencyTable
    from hwnas.latency.conditions import Conditions

_CLOCKS = {
    "fastest_mhz": "fastest core",
    "limit_mhz": "cores' limit",
    "gpu_mhz": "GPU",
    "gpu_limit_mhz": "GPU's limit",
    "memory_mhz": "memory",
}
_PAUSES_SHOWN = 20


def print_conditions(table: LatencyTable) -> None:
    """Clocks, temperature, what was set, what throttled, and each pause; nothing of a table that tells nothing."""
    from hwnas.devices.settings import ChangedSettings

    state = table.conditions
    if state is None:
        return
    spans = [(f"{name}, MHz", state.clocks_mhz.get(field)) for field, name in _CLOCKS.items()]
    spans.append(("temperature, °C", state.temperature_c))
    rows = [[name, f"{s.least:.4g}", f"{s.median:.4g}", f"{s.most:.4g}"] for name, s in spans if s is not None]
    if rows:
        print_table(f"While it was measured ({state.readings} readings)", ["", "least", "median", "most"], rows)
    changed = ChangedSettings.model_validate(table.fingerprint.context.get("settings") or {})
    if str(changed):
        _say(f"Set for the time of measuring: {changed}.")
    if state.throttled:
        _say(f"Throttled at {state.throttled} of {state.readings} readings: {'; '.join(state.throttled_by)}.")
    if state.pauses:
        _print_pauses(state)


def _print_pauses(state: Conditions) -> None:
    shown = state.pauses[-_PAUSES_SHOWN:]
    several = len({one.board for one in state.pauses}) > 1
    rows = [
        [
            one.pause.began + (f" {one.board}" if several else ""),
            f"{one.pause.seconds:.0f} s",
            _degrees(one.pause.from_c),
            _degrees(one.pause.to_c),
            one.pause.why + ("" if one.pause.cooled else "; it did not cool down"),
        ]
        for one in shown
    ]
    last = "" if len(shown) == len(state.pauses) else f", the last {len(shown)}"
    title = f"{len(state.pauses)} pauses to cool down, {state.paused_s:.0f} s in all{last}"
    print_table(title, ["began", "lasted", "from", "to", "why"], rows)


def _degrees(celsius: float | None) -> str:
    return "–" if celsius is None else f"{celsius:.1f} °C"


def _say(sentence: str) -> None:
    out.print(sentence, soft_wrap=True, highlight=False)
