"""What a supernet can be trained for; a new task is a new file and a line below."""

from __future__ import annotations

from hwnas.data import Dataset
from hwnas.data.detection import DetectionDataset
from hwnas.data.tasks import AnyDataset
from hwnas.errors import UserError
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
    if space.task == "detection" and isinstance(dataset, DetectionDataset):
        return Detection(dataset, config)
    if space.task == "classification" and isinstance(dataset, Dataset):
        return Classification(dataset, config)
    raise UserError(f"Space {space.name} is for {space.task}, and the data set {dataset.name} is not; choose another.")
