"""What a supernet can be trained for; a new task is a new file and a line below."""

from __future__ import annotations

from hwnas.data.detection import DetectionDataset
from hwnas.data.tasks import AnyDataset, require_task
from hwnas.spaces import Space
from hwnas.training.config import TrainingConfig
from hwnas.training.tasks.base import Task
from hwnas.training.tasks.classification import Classification
from hwnas.training.tasks.detection import Detection

__all__ = ["Classification", "Detection", "Task", "task_of"]


def task_of(space: Space, dataset: AnyDataset, config: TrainingConfig) -> Task:
    """The task of a space, on a data set that is for it.

    Raises:
        UserError: the configuration or the data set is for another task.
    """
    require_task(space, dataset)
    return Detection(dataset, config) if isinstance(dataset, DetectionDataset) else Classification(dataset, config)
