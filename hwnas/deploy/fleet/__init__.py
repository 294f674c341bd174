"""Many boards get one bundle, in stages, and stop where too many fail."""

from hwnas.deploy.fleet.group import BoardEntry, Group
from hwnas.deploy.fleet.rollout import Fleet, Rollout, RolloutResult
from hwnas.deploy.fleet.stages import FailureLimit, Stages

__all__ = ["BoardEntry", "FailureLimit", "Fleet", "Group", "Rollout", "RolloutResult", "Stages"]
