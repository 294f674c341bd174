"""What the first screen says: the warnings, whether the budget held when measured, the few figures that matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hwnas.report.data import Measurement, Network, ReportData, Sampling
from hwnas.report.formats import apart, milliseconds, percent, points, ratio, spread

State = Literal["kept", "exceeded", "unmeasured"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the budget held, in a headline, and what the figure rests on, in sentences."""

    state: State
    headline: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the large figures of the first screen."""

    label: str
    value: str
    note: str


def warnings(data: ReportData) -> tuple[str, ...]:
    """What a reader must know before any figure: what follows from the data, then what the caller adds."""
    asked, table = data.asked, data.table
    state = verdict(data).state
    found = []
    if state == "unmeasured":
        found.append(
            f"Not measured on the device: that this network keeps the {asked.statistic} budget on {asked.target} "
            "is a prediction."
        )
    if table.kind == "emulated":
        found.append(f"The latency table {table.name} is emulated: its times are an emulator's, and promise nothing.")
    elif table.kind != "measured":
        found.append(f"The latency table {table.name} is {table.kind}: its times were not taken on this device.")
    if table.absent:
        found.append(
            f"The latency table {table.name} is relative: it lacks {', '.join(table.absent)}, which every architecture "
            "has, so that its predictions order architectures and are not latencies."
        )
    if table.stale:
        found.append(
            f"The latency table {table.name} was measured on a device whose fingerprint differs from the one found; "
            "it was used because stale tables were allowed."
        )
    if state == "exceeded":
        found.append("The budget was exceeded when measured: this network must not be shipped under it.")
    return (*found, *data.warnings)


def verdict(data: ReportData) -> Verdict:
    """Whether the winner's measured latency keeps the budget."""
    asked, network = data.asked, data.winner.network
    figure = None if network.measured is None else network.measured.figure(asked.statistic, asked.basis)
    if figure is None or network.measured is None:
        return Verdict(
            "unmeasured",
            f"Budget {milliseconds(asked.budget_ms)}: not measured",
            (f"No {asked.statistic} latency was measured.", *_prediction(data), *_others(data)),
        )
    value, sampling = figure
    shown, budget = apart(value, asked.budget_ms)
    kept = value <= asked.budget_ms
    unused = abs(1 - value / asked.budget_ms)
    ungated = _ungated_ms(data) if sampling == "gated" else None
    reserve = " in the device's fast state" if kept and ungated is not None and ungated > asked.budget_ms else ""
    arrival = "" if asked.arrival == "back-to-back" else f" at {asked.arrival}"
    builds = "one build" if network.measured.builds == 1 else f"{network.measured.builds} fresh builds"
    return Verdict(
        "kept" if kept else "exceeded",
        f"Budget {budget}: {'kept' if kept else 'exceeded'} at {shown}{reserve}",
        (
            f"Measured {asked.statistic}{arrival} of {builds} on {asked.target}, {_meaning(sampling)}; "
            f"{percent(unused, 1)} {'of the budget is unused' if kept else 'over the budget'}.",
            *_interval(network.measured, sampling),
            *(_ungated(data) if sampling == "gated" else ()),
            *_prediction(data),
            *_others(data),
        ),
    )


def tiles(data: ReportData) -> tuple[Tile, ...]:
    """Latency, accuracy, and the yardsticks."""
    asked, network = data.asked, data.winner.network
    figure = None if network.measured is None else network.measured.figure(asked.statistic, asked.basis)
    if figure is None:
        latency = Tile(f"predicted {asked.statistic}", milliseconds(network.predicted_ms), "not measured")
    else:
        latency = Tile(f"measured {asked.statistic}", milliseconds(figure[0]), _other_percentiles(network, figure[1]))
    if network.top1_test is not None:
        accuracy = Tile(
            f"test {asked.metric}",
            percent(network.top1_test),
            f"of the compiled engine; validation {_validation(network)}",
        )
    else:
        accuracy = Tile(
            f"validation {asked.metric}", _validation(network), network.note or "not scored on the test split"
        )
    return (latency, accuracy, *(_against(data, yardstick) for yardstick in data.yardsticks))


def speed_up(data: ReportData, yardstick: Network) -> float | None:
    """How many times the yardstick's latency is the winner's; None unless both state it of like samples."""
    winner = data.winner.network
    if winner.measured is None or yardstick.measured is None:
        return None
    ours, theirs = (m.figure(data.asked.statistic, data.asked.basis) for m in (winner.measured, yardstick.measured))
    if ours is None or theirs is None or ours[1] != theirs[1]:
        return None
    return theirs[0] / ours[0]


def _against(data: ReportData, yardstick: Network) -> Tile:
    factor = speed_up(data, yardstick)
    label = f"against {yardstick.name}"
    if factor is None:
        return Tile(label, "not comparable", "no like measurement of both")
    value = f"{ratio(factor)} faster" if factor >= 1 else f"{ratio(1 / factor)} slower"
    ours, theirs = data.winner.network.top1_test, yardstick.top1_test
    if ours is None or theirs is None:
        return Tile(label, value, yardstick.note or "no accuracy to compare")
    return Tile(label, value, f"{points(ours - theirs)} of test {data.asked.metric} ({percent(theirs)} there)")


def _validation(network: Network) -> str:
    return "not scored" if network.top1_validation is None else percent(network.top1_validation)


def _meaning(sampling: Sampling) -> str:
    if sampling == "gated":
        return "capability (gated): in the fast state of the device"
    return "as it ran (ungated): every sample, whatever else the machine did"


def _interval(measured: Measurement, sampling: Sampling) -> tuple[str, ...]:
    """How far the figure can be trusted."""
    latency = measured.latency(sampling)
    if latency is None or latency.interval_ms is None:
        return ()
    low, high = (milliseconds(end) for end in latency.interval_ms)
    return (f"95 % interval {low} to {high}, by block bootstrap over runs and builds.",)


def _ungated_ms(data: ReportData) -> float | None:
    measured = data.winner.network.measured
    return None if measured is None or measured.ungated is None else measured.ungated.of(data.asked.statistic)


def _ungated(data: ReportData) -> tuple[str, ...]:
    """What the machine gave that day."""
    ungated = _ungated_ms(data)
    if ungated is None:
        return ()
    shown, budget = apart(ungated, data.asked.budget_ms)
    against = f"within the {budget}" if ungated <= data.asked.budget_ms else f"over the {budget}"
    return (f"As it ran that day (ungated), it took {shown}, {against} of the budget.",)


def _prediction(data: ReportData) -> tuple[str, ...]:
    network = data.winner.network
    if network.predicted_ms is None:
        return ()
    what = "Predicted, relative" if data.table.absent else "Predicted"
    return (f"{what}: {spread(network.predicted_ms, network.predicted_std_ms)}.",)


def _others(data: ReportData) -> tuple[str, ...]:
    """What else was limited."""
    return tuple(
        f"Also limited to {' '.join(filter(None, [other.limit, other.place]))}: {other.predicted}."
        for other in data.asked.others
    )


def _other_percentiles(network: Network, sampling: Sampling) -> str:
    measured = network.measured
    latency = None if measured is None else measured.latency(sampling)
    if latency is None:
        return sampling
    stated = [(name, ms) for name, ms in (("p90", latency.p90_ms), ("p99", latency.p99_ms)) if ms is not None]
    return ", ".join([sampling, *(f"{name} {milliseconds(ms)}" for name, ms in stated)])
