"""Models that are no classifiers for a data set."""

from __future__ import annotations

import pytest
from onnx import ModelProto, TensorProto, helper

from hwnas.data import Dataset
from hwnas.errors import UserError
from hwnas.export import quantization_images
from hwnas.export.classes import require_classes

THREE = Dataset("three", ("a", "b", "c"), (0.5,) * 3, (0.5,) * 3, "0" * 64, {})


def detector() -> ModelProto:
    """Whose first output ends with as many numbers as there are classes."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 9, 3]) for name in ("boxes", "scores")]
    return helper.make_model(helper.make_graph([], "detector", [], ends))


def test_a_classifier_for_the_classes_is_taken() -> None:
    require_classes("Model m", [(1, 3)], THREE)


def test_a_detector_and_other_classes_are_refused() -> None:
    with pytest.raises(UserError, match="Model m has 2 outputs, as detectors have, and data set three"):
        require_classes("Model m", [(1, 9, 3), (1, 9, 3)], THREE)
    with pytest.raises(UserError, match="Model m has 4 classes, data set three 3"):
        require_classes("Model m", [(1, 4)], THREE)
    with pytest.raises(UserError, match="The model has 2 outputs"):
        quantization_images(detector(), THREE)
