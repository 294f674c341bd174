"""What was published with once-for-all for bench_search.py: the note10 table, the accuracy predictor, and the finder.

The finder is that of the PyPI package ``ofa`` (its tutorial's, which is made for this table).  Only three of its files
are loaded, each alone: the package as a whole imports torchvision, and would fetch what lies here.
"""

from __future__ import annotations

import importlib.util
import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.errors import BadFileError
from hwnas.latency.blocks import block_times
from hwnas.latency.importers import get_format, import_table
from hwnas.search.budget import Floats
from hwnas.search.relu_bound import ReluNetwork
from hwnas.spaces import Genomes, Space, get_space

RESOLUTIONS = (160, 176, 192, 208, 224)
TABLE = Path("latency/ofa_tables/note10")
PREDICTOR = Path("latency/ofa_mbv3_accuracy_predictor.safetensors")
POPULATION = 100
CHUNK = 1024
"""Architectures predicted at once: their activations stay in the cache."""


def space_of(*resolutions: int) -> Space:
    """The published space with these resolutions alone."""
    full = get_space("mobilenet_v3/imagenet-w1.2")
    choices = [replace(c, values=resolutions) if c.label == "resolution" else c for c in full.choices]
    return Space(full.family, full.preset, full.num_classes, choices, full.slots)


class PublishedLatency:
    """Sums of the published block times of an architecture's own resolution, in ms; none are pooled."""

    def __init__(self, space: Space, data: Path) -> None:
        self._space = space
        self._ms = np.zeros((len(space.resolutions), len(space.distinct_blocks) + 1))  # the last: an empty slot
        for r, resolution in enumerate(space.resolutions):
            alone = space_of(resolution)
            path = data / TABLE / f"{resolution}.json"
            times = block_times(import_table(get_format("ofa"), path, "note10", alone, keep_copied=True), alone)
            ms = dict(zip(alone.distinct_blocks, times.ms, strict=True))
            self._ms[r, :-1] = [ms.get(block, np.nan) for block in space.distinct_blocks]

    def predict(self, genomes: Genomes) -> tuple[Floats, Floats]:
        """Mean in ms, and no spread, each [n]."""
        at = genomes[:, self._space.position("resolution")].astype(np.intp)
        mean = self._ms[at[:, None], self._space.block_indices(genomes)].sum(axis=1)
        return mean, np.zeros(len(genomes))


class PublishedAccuracy:
    """The published predictor of ImageNet top-1: kernels, expansions, resolution as one-hot, three hidden layers."""

    def __init__(self, space: Space, data: Path) -> None:
        from safetensors.numpy import load_file

        try:
            tensors = load_file(data / PREDICTOR)
        except OSError as error:
            raise BadFileError(f"{data / PREDICTOR} cannot be read ({error}); --data names its directory.") from error
        self._space = space
        weights = [tensors[f"{layer}.weight"].T.copy() for layer in (0, 2, 4, 6)]
        padded = np.vstack([weights[0], np.zeros_like(weights[0][:1])])
        self._weights = [padded[self._columns()], *weights[1:]]
        self._biases = [tensors[f"{layer}.bias"] for layer in (0, 2, 4, 6)]

    def __call__(self, genomes: Genomes) -> Floats:
        """Top-1 as a fraction, [n]."""
        found = np.empty(len(genomes))
        for start in range(0, len(genomes), CHUNK):
            x: npt.NDArray[np.float32] = self._space.one_hot(genomes[start : start + CHUNK])
            for weight, bias in zip(self._weights[:-1], self._biases[:-1], strict=True):
                x = x @ weight
                x += bias
                np.maximum(x, 0, out=x)
            found[start : start + CHUNK] = (x @ self._weights[-1] + self._biases[-1])[:, 0]
        return found

    @property
    def network(self) -> ReluNetwork:
        """The same in double precision, for bounds."""
        layers = (tuple(array.astype(np.float64) for array in arrays) for arrays in (self._weights, self._biases))
        return ReluNetwork(*layers)

    def _columns(self) -> list[int]:
        """Where each of the space's one-hot features stands among the published 128; a depth nowhere (128)."""
        columns = []
        for choice in self._space.choices:
            for index, value in enumerate(choice.values):
                if choice.label == "resolution":
                    columns.append(120 + (value - 112) // 16)
                elif choice.label.endswith("depth"):
                    columns.append(128)
                else:
                    stage, block, kind = choice.label.split(".")
                    position = 4 * (int(stage.removeprefix("stage")) - 1) + int(block.removeprefix("block")) - 1
                    columns.append((0 if kind == "kernel" else 60) + 3 * position + index)
        return columns


@dataclass(frozen=True)
class Finder:
    """The published evolution finder with its own predictors, on the same files."""

    module: ModuleType
    latency: Any
    accuracy: Any

    @classmethod
    def load(cls, package: Path, data: Path) -> Finder:
        """From the directory that ``pip install --target`` filled."""
        import torch
        from safetensors.torch import load_file

        utils = ModuleType("ofa.utils")
        utils.download_url = None  # type: ignore[attr-defined]  # nothing is fetched
        sys.modules.setdefault("ofa", ModuleType("ofa"))
        sys.modules["ofa.utils"] = utils
        torch.set_num_threads(2)
        folder = package / "ofa" / "tutorial"
        finder, accuracy, tables = (
            _module(folder / f"{name}.py") for name in ("evolution_finder", "accuracy_predictor", "latency_table")
        )
        finder.tqdm = lambda steps, **_: steps  # type: ignore[attr-defined]  # no bars
        predictor = accuracy.AccuracyPredictor(pretrained=False, device="cpu")
        predictor.model.load_state_dict(load_file(data / PREDICTOR))
        latency = tables.LatencyTable(resolutions=())
        for resolution in RESOLUTIONS:
            estimator = object.__new__(tables.LatencyEstimator)
            estimator.lut = json.loads((data / TABLE / f"{resolution}.json").read_text())
            latency.latency_tables[resolution] = estimator
        return cls(finder, latency, predictor)

    def search(self, limit_ms: float, seed: int, generations: int, seen: Callable[[Any, Floats], None]) -> Any:
        """The best specification; ``seen`` is told of all that were evaluated, and their accuracies."""
        random.seed(seed)
        np.random.seed(seed)
        outer = self

        class Watched:
            @staticmethod
            def predict_accuracy(specs: Any) -> Any:
                found = outer.accuracy.predict_accuracy(specs)
                seen(specs, found[:, 0].numpy().astype(np.float64))
                return found

        finder = self.module.EvolutionFinder(
            "note10", limit_ms, self.latency, Watched(), population_size=POPULATION, max_time_budget=generations
        )
        return finder.run_evolution_search()[1][1]


def specification(space: Space, genome: Genomes) -> dict[str, Any]:
    """An architecture [1, choices] as the finder writes it; inactive blocks carry the smallest choices."""
    value = {c.label: c.values[gene] for c, gene in zip(space.choices, genome[0].clip(min=0).tolist(), strict=True)}
    blocks = [f"stage{stage}.block{block}" for stage in range(1, 6) for block in range(1, 5)]
    return {
        "wid": None,
        "ks": [value[f"{block}.kernel"] for block in blocks],
        "e": [value[f"{block}.expansion"] for block in blocks],
        "d": [value[f"stage{stage}.depth"] for stage in range(1, 6)],
        "r": [value["resolution"]],
    }


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"published_{path.stem}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise BadFileError(f"{path} does not exist; fetch the finder as --help says.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
