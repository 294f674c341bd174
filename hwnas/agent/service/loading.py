"""A slot's models, loaded: each engine computes what it should, and what it takes is known."""

from __future__ import annotations

from typing import List, NamedTuple

from ..protocol import AgentError, ErrorKind
from ..runtimes import Engine
from ..slots.building import Builder, build_engines
from ..slots.disk import Disk
from ..slots.golden import GoldenArrays, differences, read_golden
from ..slots.manifest import Model
from ..slots.slot_files import SlotFiles
from .expected import Exclusive, Expected, measure_expected


class LoadedModel(NamedTuple):
    """One of the networks of a slot."""

    model: Model
    engine: Engine
    expected: Expected


def load_models(files: SlotFiles, exclusive: Exclusive) -> List[LoadedModel]:
    """All models of a slot, in the bundle's order, on the thread that will run them.

    Raises:
        AgentError: one cannot be loaded, takes other inputs than the bundle says, or its answers are wrong.
    """
    build_engines(Disk(), files, Builder())  # those that are whole and of today's runtime are left as they are
    loaded: List[LoadedModel] = []
    try:
        for model in files.manifest.models:
            loaded.append(_load(files, model, exclusive))
    except BaseException:
        close_models(loaded)
        raise
    return loaded


def close_models(loaded: List[LoadedModel]) -> None:
    """Give back what the engines hold."""
    for model in loaded:
        model.engine.close()


def _load(files: SlotFiles, model: Model, exclusive: Exclusive) -> LoadedModel:
    engine = files.engine(model).load()
    try:
        golden = read_golden(files, model)
        _require_golden(engine, golden, model)
        batch = golden.inputs[: engine.inputs[0].shape[0]]
        expected = measure_expected(engine, batch, model.budget.statistic, exclusive)
    except BaseException:
        engine.close()
        raise
    return LoadedModel(model, engine, expected)


def _require_golden(engine: Engine, golden: GoldenArrays, model: Model) -> None:
    """Refuse an engine whose answers to the golden inputs are others."""
    if not all(output.ok for output in differences(engine, golden)):
        raise AgentError(ErrorKind.UNHEALTHY, "model %s answers its golden inputs wrongly" % model.id)
