"""Others' weights as the beginning of a training on data of one's own."""

from __future__ import annotations

from pathlib import Path

import torch

from hwnas.errors import UserError
from hwnas.spaces.bifpn import SUFFIX as DETECTORS
from hwnas.supernet.checkpoint import load_record, load_supernet
from hwnas.supernet.importing.efficientnet_lite import LITE0, LITE0_SPACE, LITE_MEAN, LITE_STD, load_lite0
from hwnas.supernet.network import ElasticNetwork

Triple = tuple[float, float, float]


def space_of(init: str) -> str:
    """The space of :func:`begin_with`'s weights.

    Raises:
        BadFileError: there are none.
    """
    return LITE0_SPACE if init == LITE0 else load_record(Path(init)).space


def begin_with(init: str, supernet: ElasticNetwork, mean: Triple, std: Triple) -> None:
    """Write weights into a supernet that is to be trained further; channels are in their order of importance.

    The classifier is taken over where it has as many classes, and stays as it is elsewhere; so does the head of a
    detector that begins with the supernet of its backbone.

    Args:
        init: ``efficientnet-lite0``, or the directory of a supernet of the same space or of the detector's backbone.
        supernet: of any number of classes.
        mean, std: by which its images will be normalised, over pixels scaled to 0..1.

    Raises:
        BadFileError: there are no such weights, or they are corrupt.
        UserError: they are of another space, or need a package that is not installed.
    """
    if init == LITE0:
        load_lite0(supernet)
        _renormalise(supernet, (LITE_MEAN, LITE_STD), (mean, std))
        return
    source, record = load_supernet(Path(init))
    begins = dict.fromkeys([supernet.space.name, supernet.space.name.replace(DETECTORS, "")])
    if record.space not in begins:
        raise UserError(
            f"The weights in {init} are of space {record.space}, not {' or '.join(begins)}; give such weights, or "
            "choose another space to train."
        )
    own = supernet.state_dict()
    given = source.state_dict()
    fitting = {name: given[name] for name in own if name in given and given[name].shape == own[name].shape}
    supernet.load_state_dict(own | fitting)
    _renormalise(supernet, (record.dataset.mean, record.dataset.std), (mean, std))


@torch.no_grad()
def _renormalise(supernet: ElasticNetwork, before: tuple[Triple, Triple], after: tuple[Triple, Triple]) -> None:
    """Let the first convolution take images normalised otherwise; at the padded border it is not quite the same.

    From (p - m) / s to (p - m') / s': a weight is multiplied by s' / s, and what (m' - m) / s adds to every output is
    taken from the mean that the norm subtracts.
    """
    (mean, std), (new_mean, new_std) = (tuple(map(torch.tensor, pair)) for pair in (before, after))
    state = supernet.state_dict()
    stem = next(name.removesuffix("conv.weight") for name in state if name.endswith("conv.weight"))
    weight = state[f"{stem}conv.weight"]
    state[f"{stem}norm.running_mean"] -= torch.einsum("ochw,c->o", weight, (new_mean - mean) / std)
    weight *= (new_std / std).view(1, 3, 1, 1)
