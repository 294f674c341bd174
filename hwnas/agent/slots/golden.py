"""Whether an engine gives the golden outputs for the golden inputs."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Tuple

import numpy as np

from ..arrays import Array
from ..inference import agrees, infer_outputs
from ..runtimes import Engine
from .manifest import GoldenOutput, Model
from .slot_files import SlotFiles


class Difference(NamedTuple):
    """Of one output from what it must be."""

    expected: GoldenOutput
    ok: bool
    largest: float
    """Of any number; infinite where shapes differ or an output is not finite."""


class GoldenArrays(NamedTuple):
    """Golden inputs, and what each output that has golden ones must be for them."""

    inputs: Array
    outputs: List[Tuple[GoldenOutput, Array]]


def read_golden(files: SlotFiles, model: Model) -> GoldenArrays:
    """Those of a model.

    Raises:
        AgentError: ``bad-bundle``, when a file of the slot has changed.
    """
    golden = model.golden
    return GoldenArrays(files.array(golden.inputs), [(output, files.array(output.values)) for output in golden.outputs])


def differences(engine: Engine, golden: GoldenArrays) -> List[Difference]:
    """Those of all outputs that have golden ones.

    Raises:
        AgentError: the engine does not compute.
    """
    found = infer_outputs(engine, golden.inputs, [output.name for output, _ in golden.outputs])
    return [_difference(found[output.name], values, output) for output, values in golden.outputs]


def _difference(found: Array, values: Array, output: GoldenOutput) -> Difference:
    ok = agrees(found, values, output.absolute, output.relative)
    comparable = found.shape == values.shape and found.size
    largest = float(np.max(np.abs(found - values))) if comparable else math.inf
    return Difference(output, ok, largest if math.isfinite(largest) else math.inf)
