#!/usr/bin/env python3
"""How well a device is known by the latencies of a few whole networks alone, beside ridge regression and MACs.

On 5,000 once-for-all subnets measured on two GPUs at three batch sizes.  (a) knows nothing but the networks measured;
(b), sibling transfer (both GPUs are of one chip, TU102), also the other GPU's latencies of other architectures.  The
architectures that are judged enter no prior and no fit, on any GPU or batch size. With --json the last line is one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.cli.console import percent, print_table
from hwnas.errors import HwnasError, UserError
from hwnas.latency import FewShotModel, Figures, figures
from hwnas.latency.base import Floats
from hwnas.spaces import Genomes, Space, get_space

SPACE = "mobilenet_v3/imagenet-w1.2"
DEVICES = ("2080ti", "titan_rtx")
BATCHES = (1, 32, 64)
BLOCKS_A_STAGE = 4
COLUMNS = ("mape", "within_5pct", "within_10pct", "kendall_tau", "spearman", "coverage_95")
LABELS = {"few_shot": "few-shot", "sibling_transfer": "sibling transfer", "ridge": "ridge", "macs": "MACs alone"}
UNITS = {"mape": "per cent", "within_5pct": "share", "within_10pct": "share", "coverage_95": "share"}
ALPHAS = np.logspace(-3, 3, 19)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", type=Path, required=True, help="directory of architectures.json and latency_ms_DEVICE_BATCH.json"
    )
    parser.add_argument("--networks", type=int, nargs="+", default=[10, 30, 100, 300, 1000], help="measured")
    parser.add_argument("--judged", type=int, default=1000, help="other networks, on which figures are taken")
    parser.add_argument("--siblings", type=int, default=1000, help="yet others, measured on the other GPU, for (b)")
    parser.add_argument("--seeds", type=int, default=5, help="draws of all of them, averaged")
    parser.add_argument("--first-seed", type=int, default=0, help="the others follow it")
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    arguments = parser.parse_args()
    try:
        rows = benchmark(arguments)
    except HwnasError as error:
        print(f"bench_fewshot: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    show(rows)
    if arguments.json:
        drawn = {"seeds": arguments.seeds, "first_seed": arguments.first_seed}
        print(json.dumps({"units": UNITS, **drawn, "results": rows}, allow_nan=False))


def benchmark(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Figures of every device, batch and number of networks, each a mean over the seeds."""
    space = get_space(SPACE)
    genomes = load_genomes(space, arguments.data / "architectures.json")
    times = {
        (device, batch): load_times(arguments.data / f"latency_ms_{device}_{batch}.json", len(genomes))
        for device in DEVICES
        for batch in BATCHES
    }
    most = max(arguments.networks)
    needed = arguments.judged + most + arguments.siblings
    if needed > len(genomes):
        raise UserError(f"{needed} disjoint architectures are needed, but {arguments.data} holds {len(genomes)}.")
    found: dict[tuple[str, int, int], list[dict[str, Figures]]] = {}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        order = np.random.default_rng(seed).permutation(len(genomes))
        judged, measured, others = np.split(order[:needed], [arguments.judged, arguments.judged + most])
        models = {key: FewShotModel.of_networks(space, genomes[others], ms[others]) for key, ms in times.items()}
        for (device, batch), ms in times.items():
            siblings = [model for (name, _), model in models.items() if name != device]
            for n in arguments.networks:
                fitted = predictions(space, genomes, ms, measured[:n], judged, siblings)
                taken = {name: figures(ms[judged], *predicted) for name, predicted in fitted.items()}
                found.setdefault((device, batch, n), []).append(taken)
    return [row(*key, draws) for key, draws in found.items()]


def predictions(
    space: Space,
    genomes: Genomes,
    ms: Floats,
    measured: npt.NDArray[np.int64],
    judged: npt.NDArray[np.int64],
    siblings: Sequence[FewShotModel],
) -> dict[str, tuple[Floats, ...]]:
    """Mean and, where it is stated, standard deviation of the judged networks by every predictor."""
    known, known_ms, wanted = genomes[measured], ms[measured], genomes[judged]
    return {
        "few_shot": FewShotModel.of_networks(space, known, known_ms).predict(wanted),
        "sibling_transfer": FewShotModel.of_networks(space, known, known_ms, siblings).predict(wanted),
        "ridge": (ridge(space.one_hot(known), known_ms, space.one_hot(wanted)),),
        "macs": (line(space.macs(known), known_ms, space.macs(wanted)),),
    }


def ridge(features: Any, ms: Floats, wanted: Any) -> Floats:
    """Ridge regression on one-hot features, its penalty by leaving out one by one."""
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(ALPHAS).fit(features.astype(np.float64), ms)
    return np.asarray(model.predict(wanted.astype(np.float64)), np.float64)


def line(macs: Floats, ms: Floats, wanted: Floats) -> Floats:
    """a + b·MACs by least squares."""
    slope, constant = np.polyfit(macs, ms, 1)
    return np.asarray(constant + slope * wanted)


def load_genomes(space: Space, path: Path) -> Genomes:
    """The architectures of the data set; what stands there for inactive blocks is dropped."""
    entries = read_list(path)
    try:
        rows = [[choice.values.index(value(entry, choice.label)) for choice in space.choices] for entry in entries]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds an entry that is no architecture of {space.name}: {error!r}.") from error
    return space.canonical(np.array(rows, np.int8).reshape(-1, len(space.choices)))


def value(entry: Mapping[str, Any], label: str) -> int:
    """What an entry says of a choice: ``r``, ``d`` [stages], ``ks`` and ``e`` [stages · 4]."""
    if label == "resolution":
        return int(entry["r"])
    stage, *rest = label.removeprefix("stage").split(".")
    if rest == ["depth"]:
        return int(entry["d"][int(stage) - 1])
    block, kind = rest
    position = (int(stage) - 1) * BLOCKS_A_STAGE + int(block.removeprefix("block")) - 1
    return int(entry["ks" if kind == "kernel" else "e"][position])


def load_times(path: Path, n: int) -> Floats:
    times = np.array(read_list(path), np.float64)
    if times.shape != (n,):
        raise UserError(f"{path} holds {len(times)} latencies for {n} architectures; fetch the data set anew.")
    return times


def read_list(path: Path) -> list[Any]:
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); --data names the directory of the data set.") from error
    if not isinstance(entries, list):
        raise UserError(f"{path} holds no list; --data names the directory of the data set.")
    return entries


def row(device: str, batch: int, networks: int, draws: list[dict[str, Figures]]) -> dict[str, Any]:
    means = {name: averaged([draw[name] for draw in draws]) for name in draws[0]}
    return {
        "device": device,
        "batch": batch,
        "networks": networks,
        "n": draws[0]["few_shot"].n,
        **means["few_shot"],
        "sibling_transfer": prefixed("sibling_transfer", means),
        "baselines": prefixed("ridge", means) | prefixed("macs", means),
    }


def averaged(draws: list[Figures]) -> dict[str, float | None]:
    """Means over the draws; ``None`` where a figure is missing in one."""
    columns = {column: [getattr(draw, column) for draw in draws] for column in COLUMNS}
    return {name: None if None in values else float(np.mean(values)) for name, values in columns.items()}


def prefixed(name: str, means: Mapping[str, Mapping[str, float | None]]) -> dict[str, float]:
    """``<predictor>_<figure>``: other names than the model's own figures have."""
    return {f"{name}_{column}": mean for column, mean in means[name].items() if mean is not None}


def show(rows: list[dict[str, Any]]) -> None:
    header = ["N", "MAPE %", "±5 %", "±10 %", "τ", "ρ", "in 95 %"]
    for device, batch in dict.fromkeys((entry["device"], entry["batch"]) for entry in rows):
        lines = []
        for entry in rows:
            if (entry["device"], entry["batch"]) != (device, batch):
                continue
            others = entry["sibling_transfer"] | entry["baselines"]
            for name, label in LABELS.items():
                found = entry if name == "few_shot" else {c: others.get(f"{name}_{c}") for c in COLUMNS}
                lines.append(cells(f"{entry['networks']:>4} {label}", found))
        print_table(f"{device}, batch {batch}: {rows[0]['n']} networks that no fit has seen", header, lines)


def cells(label: str, found: Mapping[str, Any]) -> list[str]:
    def number(name: str, digits: int) -> str:
        return "–" if found[name] is None else f"{found[name]:.{digits}f}"

    shares = [percent(found[name]) for name in ("within_5pct", "within_10pct")]
    ranks = [number("kendall_tau", 3), number("spearman", 3)]
    return [label, number("mape", 2), *shares, *ranks, percent(found["coverage_95"])]


if __name__ == "__main__":
    main()
