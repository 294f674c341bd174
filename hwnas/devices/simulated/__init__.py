"""A board that reports time instead of spending it, and on which the true latency of every model is known.

board = SimulatedBoard(seed=3, conditions=SHARED)
table, _ = profile(board, space, root, clock=board.clock)
"""

from hwnas.devices.simulated.board import SimulatedBoard
from hwnas.devices.simulated.cost import CostModel
from hwnas.devices.simulated.machine import SHARED, UNDISTURBED, Conditions

__all__ = ["SHARED", "UNDISTURBED", "Conditions", "CostModel", "SimulatedBoard"]
