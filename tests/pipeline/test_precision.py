"""Precision as a dimension: accuracies, latencies, searches and exports in several of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from hwnas.data import Dataset, load_dataset
from hwnas.latency.precision import PrecisionLatency
from hwnas.pipeline.networks import export_subnet, open_supernet, read_architecture
from hwnas.pipeline.precision import PrecisionEvaluator, evaluator_in, service_in
from hwnas.pipeline.training import require_supernet
from hwnas.search import Budget, SearchOptions, SubnetEvaluator, run_search
from hwnas.search.constraints import ArchitectureQuantity
from hwnas.search.service import subnet_service
from hwnas.spaces import get_space, precision_of, with_precisions, without_precision
from hwnas.supernet import ElasticNetwork

sys.path.insert(0, str(Path(__file__).parents[1] / "search"))
from fakes import AdditiveLatency, SyntheticAccuracy

NAME = "mobilenet_v3/small"
SMALL = get_space(NAME)
BOTH = with_precisions(SMALL, ("int8", "fp32"))
LATENCY = PrecisionLatency(BOTH, {"fp32": AdditiveLatency(SMALL, 0), "int8": AdditiveLatency(SMALL, 1)})  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset("fashion-mnist")


@pytest.fixture(scope="module")
def supernet(dataset: Dataset) -> ElasticNetwork:
    return open_supernet(require_supernet(NAME, dataset), SMALL, dataset)


def test_each_architecture_takes_what_the_model_of_its_precision_says() -> None:
    genomes = BOTH.sample(np.random.default_rng(0), 200)
    mean, std = LATENCY.predict(genomes)
    for row, ms, spread in zip(genomes, mean, std, strict=True):
        alone = AdditiveLatency(SMALL, 1 if row[-1] == 0 else 0).predict(row[None, :-1])
        assert (ms, spread) == (alone[0][0], alone[1][0])
    with pytest.raises(ValueError, match="there are models of"):
        PrecisionLatency(BOTH, {"fp32": LATENCY._models[0]})
    megabytes = ArchitectureQuantity(BOTH, "model_mb").predict(genomes)[0]
    plain = ArchitectureQuantity(SMALL, "model_mb").predict(genomes[:, :-1])[0]
    np.testing.assert_allclose(megabytes / plain, np.where(genomes[:, -1] == 0, 0.25, 1.0))


@pytest.mark.parametrize("strategy", ["hwnas", "gradient", "grid", "tpe"])
def test_a_search_chooses_precisions_too(tmp_path: Path, strategy: str) -> None:
    class Accuracy(SyntheticAccuracy):
        def __call__(self, architecture: object) -> float:
            plain = without_precision(architecture)  # type: ignore[arg-type]
            return super().__call__(plain) - (0.002 if precision_of(architecture) == "int8" else 0.0)  # type: ignore[arg-type]

    limit = float(np.median(LATENCY.predict(BOTH.sample(np.random.default_rng(1), 5000))[0]))
    options = SearchOptions(strategy=strategy, evaluations=24, initial=12)
    result = run_search(BOTH, LATENCY, Budget("fake", "latency_ms", limit), Accuracy(SMALL), tmp_path, options)
    assert len({e.architecture.id for e in result.evaluations}) == 24
    assert {precision_of(e.architecture) for e in result.evaluations} == {"int8", "fp32"}
    again = read_architecture(SMALL, f"{tmp_path}:{result.evaluations[0].architecture.id}")
    assert again == result.evaluations[0].architecture


def test_accuracy_in_a_precision_is_near_that_in_fp32(dataset: Dataset, supernet: ElasticNetwork) -> None:
    exact = SubnetEvaluator(supernet, dataset)
    scored = PrecisionEvaluator(exact, None)
    plain = SMALL.architecture(resolution=28, stage1_depth=2)
    found = {}
    for precision in ("int8", "fp16", "fp32"):
        space = with_precisions(SMALL, [precision, "fp32" if precision != "fp32" else "int8"])
        genome = np.append(SMALL.encode([plain])[0], 0 if precision != "fp32" else 1)[None]
        architecture = space.decode(genome.astype(np.int8))[0]
        assert precision_of(architecture) == precision
        found[precision] = scored(architecture)
    assert found["fp32"] == exact(plain)
    assert found["fp16"] == pytest.approx(found["fp32"], abs=0.002)
    assert found["int8"] == pytest.approx(found["fp32"], abs=0.03)
    assert found["int8"] == PrecisionEvaluator(exact, "int8")(plain)


def test_evaluators_of_other_precisions_have_other_identities(dataset: Dataset, supernet: ElasticNetwork) -> None:
    exact = SubnetEvaluator(supernet, dataset)
    asked = [("fp32",), ("int8",), ("fp16",), ("int8", "fp32")]
    assert evaluator_in(("fp32",), exact, "fp32") is exact
    assert len({evaluator_in(precisions, exact, "fp32").identity for precisions in asked}) == len(asked)


def test_a_worker_makes_the_same_evaluator(dataset: Dataset, supernet: ElasticNetwork) -> None:
    exact = SubnetEvaluator(supernet, dataset)
    scored = evaluator_in(("int8",), exact, "fp32")
    service = subnet_service(1, None, require_supernet(NAME, dataset), "fashion-mnist", None, exact)
    precise = service_in(("int8",), "fp32", scored, service)
    assert precise is not None
    assert precise.recipe.make()(SMALL.smallest) == scored(SMALL.smallest)
    assert service_in(("fp32",), "fp32", exact, service) is service


@pytest.mark.parametrize(("precision", "operator"), [("int8", "QuantizeLinear"), ("fp16", "Cast")])
def test_a_subnet_is_exported_in_the_precision_that_it_chooses(
    tmp_path: Path, dataset: Dataset, supernet: ElasticNetwork, precision: str, operator: str
) -> None:
    space = with_precisions(SMALL, (precision, "fp32"))
    architecture = space.smallest
    model = export_subnet(supernet, architecture, dataset, tmp_path / "model.onnx")
    found = onnx.load(model.path)
    onnx.checker.check_model(found, full_check=True)
    assert operator in {node.op_type for node in found.graph.node}
    properties = {entry.key: entry.value for entry in found.metadata_props}
    assert properties["hwnas.precision"] == precision
    assert properties["hwnas.architecture_id"] == without_precision(architecture).id
    assert model.size_bytes == model.path.stat().st_size
