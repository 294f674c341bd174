"""NNI as hwnas uses it, imported in this one place (about a second).

``NNI_FRAMEWORK`` must be set before the first import: without it NNI wants pytorch_lightning.  Nothing of
``nni.nas.nn`` is used, whose import rewrites files in site-packages.
"""

from __future__ import annotations

import logging
import os

os.environ["NNI_FRAMEWORK"] = "none"

import nni
from nni.algorithms.hpo.tpe_tuner import TpeTuner
from nni.common.hpo_utils import deformat_parameters, format_search_space
from nni.experiment import Experiment, ExperimentConfig, RunMode
from nni.experiment.config import CustomAlgorithmConfig
from nni.mutable import Categorical, LabeledMutable, MutableDict, Sample, SampleValidationError
from nni.nas.evaluator import Evaluator
from nni.nas.execution import TrainingServiceExecutionEngine
from nni.nas.execution.event import FinalMetricEvent, TrainingEndEvent
from nni.nas.experiment import NasExperiment
from nni.nas.experiment.config import (
    NasExperimentConfig,
    SequentialEngineConfig,
    SimplifiedModelFormatConfig,
    TrainingServiceEngineConfig,
)
from nni.nas.space import ExecutableModelSpace, ModelStatus
from nni.nas.strategy.base import Strategy
from nni.runtime.tuner_command_channel import TunerCommandChannel
from nni.runtime.tuner_command_channel.command_type import CommandType
from nni.tuner import Tuner

# NNI prints its log to stdout; what it says belongs into the experiment's log file.
nni.silence_stdout()
logging.getLogger("nni").addHandler(logging.NullHandler())
logging.getLogger("nni").propagate = False

__all__ = [
    "Categorical",
    "CommandType",
    "CustomAlgorithmConfig",
    "Evaluator",
    "ExecutableModelSpace",
    "Experiment",
    "ExperimentConfig",
    "FinalMetricEvent",
    "LabeledMutable",
    "ModelStatus",
    "MutableDict",
    "NasExperiment",
    "NasExperimentConfig",
    "RunMode",
    "Sample",
    "SampleValidationError",
    "SequentialEngineConfig",
    "SimplifiedModelFormatConfig",
    "Strategy",
    "TpeTuner",
    "TrainingEndEvent",
    "TrainingServiceEngineConfig",
    "TrainingServiceExecutionEngine",
    "Tuner",
    "TunerCommandChannel",
    "deformat_parameters",
    "format_search_space",
    "nni",
]
