"""How a worker makes its evaluator: a description in JSON, and the identity that what comes of it must have."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

import hwnas
from hwnas.errors import BadFileError, UserError
from hwnas.files import Document, describe

if TYPE_CHECKING:
    from hwnas.search.evaluator import Evaluator, SubnetEvaluator

SUBNET_EVALUATOR = "hwnas.search.service.recipe:subnet_evaluator"


def _versions() -> dict[str, str]:
    """Of what accuracies depend on; a build's local label, such as ``+cpu``, is left out."""
    try:
        torch = version("torch").partition("+")[0]
    except PackageNotFoundError:
        torch = "none"
    return {"hwnas": hwnas.__version__, "torch": torch}


class Recipe(Document):
    """Makes an evaluator, the same wherever it is made.

    Attributes:
        maker: ``module:function`` that takes ``settings`` as keywords and gives an evaluator, or whatever else has
            an ``identity``.
        identity: what :attr:`hwnas.search.Evaluator.identity` of it must be.
        versions: of packages, which must be the same too.
    """

    maker: str = Field(pattern=r"^[\w.]+:\w+$")
    settings: dict[str, Any]
    identity: str
    versions: dict[str, str] = Field(default_factory=_versions)

    @classmethod
    def read(cls, line: str) -> Recipe:
        """A recipe from JSON.

        Raises:
            BadFileError: it is none.
        """
        try:
            return cls.model_validate(json.loads(line))
        except ValidationError as error:
            raise BadFileError(f"recipe of an evaluator: {describe(error)}.") from error
        except ValueError as error:
            raise BadFileError(f"recipe of an evaluator: not JSON ({error}).") from error

    def make(self) -> Evaluator:
        """The evaluator; see :meth:`build`."""
        evaluator: Evaluator = self.build()
        return evaluator

    def build(self) -> Any:
        """What the maker makes.

        Raises:
            UserError: versions differ here, files are missing here, or what is made is another.
        """
        here = _versions()
        for package, wanted in self.versions.items():
            if here.get(package) != wanted:
                raise UserError(f"{package} is {here.get(package)} here, not {wanted}; install the same version.")
        module, _, function = self.maker.partition(":")
        made = getattr(import_module(module), function)(**self.settings)
        if made.identity != self.identity:
            raise UserError(
                f"the evaluator made here is {made.identity}, not {self.identity}; its weights, its data, or the "
                "code of hwnas are not the same here."
            )
        return made


def subnet_recipe(supernet: Path, data: str, data_root: Path | None, evaluator: SubnetEvaluator) -> Recipe:
    """The recipe of a :class:`~hwnas.search.evaluator.SubnetEvaluator`.

    Weights that come with hwnas are named, so that each machine takes its own; others must lie at the same path.
    """
    from hwnas.supernet import shipped_supernets

    shipped = {directory.resolve(): directory.name for directory in shipped_supernets()}
    name = shipped.get(supernet.resolve())
    weights = {"shipped": name} if name else {"supernet": str(supernet.absolute())}
    is_path = Path(data).exists()
    settings = {
        **weights,
        "data": str(Path(data).absolute()) if is_path else data,
        "data_root": None if data_root is None else str(data_root.absolute()),
        "threads": evaluator.threads,
    }
    return Recipe(maker=SUBNET_EVALUATOR, settings=settings, identity=evaluator.identity)


def subnet_evaluator(
    *, data: str, data_root: str | None, threads: int, supernet: str | None = None, shipped: str | None = None
) -> Evaluator:
    """Make the evaluator that :func:`subnet_recipe` describes.

    Raises:
        BadFileError: weights or data are missing or damaged.
    """
    from hwnas.data.tasks import load_for
    from hwnas.search.evaluator import SubnetEvaluator
    from hwnas.supernet import load_supernet, shipped_supernets

    known = {directory.name: directory for directory in shipped_supernets()}
    if shipped is not None and shipped not in known:
        raise BadFileError(f"the weights {shipped} do not come with this hwnas; install the same version.")
    directory = Path(supernet) if shipped is None and supernet is not None else known[shipped or ""]
    network, _ = load_supernet(directory)
    dataset = load_for(network.space, data, root=None if data_root is None else Path(data_root))
    return SubnetEvaluator(network, dataset, threads=threads)
