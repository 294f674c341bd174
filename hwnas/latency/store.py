"""Where latency tables lie, and how the one of a live device is found, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hwnas.devices import BACK_TO_BACK, Arrival, CompileOptions, Fingerprint
from hwnas.errors import BadFileError, HwnasError, StaleTableError, UserError
from hwnas.files import read_model, write_json
from hwnas.latency.table import LatencyTable
from hwnas.spaces import Space, get_space


@dataclass(frozen=True)
class TableKey:
    """What a table is of; it makes the table's path."""

    target: str
    space: str
    num_classes: int
    runtime: str
    mode: str
    """What executes within the runtime, such as ``cpu``."""
    precision: str
    batch: int
    threads: int
    identity8: str
    arrival: str = str(BACK_TO_BACK)

    @classmethod
    def of(
        cls,
        target: str,
        space: Space,
        options: CompileOptions,
        fingerprint: Fingerprint,
        batch: int = 1,
        fps: float = 0.0,
    ) -> Self:
        """The table of a space on a live device that runs models with these options.

        ``fps``: frames a second that whole networks are measured with; 0 for runs back to back.
        """
        return cls(
            target,
            space.name,
            space.num_classes,
            options.runtime,
            mode_of(options.provider),
            options.precision,
            batch,
            options.threads,
            fingerprint.identity8,
            str(Arrival(fps)),
        )

    @property
    def stem(self) -> str:
        """The file name up to the identity; it has the number of classes only where that is not the preset's own."""
        space = get_space(self.space, self.num_classes)
        how = f"{self.runtime}-{self.mode}-{self.precision}-b{self.batch}-t{self.threads}"
        arrival = "" if self.arrival == str(BACK_TO_BACK) else "-" + self.arrival.replace(" ", "")
        return f"{table_stem(space)}.{how}{arrival}"

    @classmethod
    def of_table(cls, table: LatencyTable) -> Self:
        """What distinguishes a table from all others."""
        same = {name: getattr(table, name) for name in cls.__dataclass_fields__ if name != "identity8"}
        return cls(**same, identity8=table.fingerprint.identity8)


def table_stem(space: Space) -> str:
    """What the names of all tables of a space begin with."""
    classes = "" if get_space(space.name).num_classes == space.num_classes else f"-c{space.num_classes}"
    return f"{space.family}-{space.preset}{classes}"


def mode_of(provider: str | None) -> str:
    """What a table calls a runtime's provider."""
    # ONNX Runtime's providers carry this ending; the mode is what stands before it.
    return (provider or "default").removesuffix("ExecutionProvider").lower()


def table_path(root: Path, key: TableKey) -> Path:
    """Where a table belongs: ``<root>/<target>/<family>-<preset>.<runtime>-<mode>-<precision>-b…-t…-<identity8>.json``.

    ``root`` is the directory of all tables, ``latency_tables``.
    """
    return root / key.target / f"{key.stem}-{key.identity8}.json"


def save_table(table: LatencyTable, root: Path) -> Path:
    """Write a table where it belongs, whole or not at all."""
    path = table_path(root, TableKey.of_table(table))
    write_json(path, table)
    return path


def load_table(path: Path) -> LatencyTable:
    """Read a table and check all of it.

    Raises:
        BadFileError: missing, not a table, or not of the space that it names; says which field.
    """
    table = read_model(path, LatencyTable, what="latency table")
    check_table(table, path)
    return table


def check_table(table: LatencyTable, path: Path) -> None:
    """Refuse a table that is not of the space that it names.

    Raises:
        BadFileError: as :func:`load_table`; ``path`` is where it is from.
    """
    try:
        space = get_space(table.space, table.num_classes)
        space.encode([entry.architecture for entry in table.networks])
    except HwnasError as error:
        raise BadFileError(f"latency table {path}: {error}") from error
    known = set(space.distinct_blocks)
    for number, entry in enumerate(table.blocks):
        if entry.block not in known:
            raise BadFileError(
                f"latency table {path}: field 'blocks.{number}.block': space {table.space} with {table.num_classes} "
                f"classes has no block {entry.block.key}; profile the target anew."
            )
    unknown = sorted(set(table.resolutions) - set(space.resolutions))
    if unknown:
        raise BadFileError(f"latency table {path}: field 'resolutions': space {table.space} has no {unknown[0]} px.")


def find_table(root: Path, key: TableKey, fingerprint: Fingerprint, *, allow_stale: bool = False) -> Path:
    """The table of a live device.

    With ``allow_stale``, where this device has none, the last written one of the same target with another identity.

    Raises:
        UserError: the target has no table of this space and these options at all.
        StaleTableError: it has, but of a device with another identity.
    """
    exact = table_path(root, key)
    if exact.exists():
        return exact
    others = sorted(exact.parent.glob(f"{key.stem}-????????.json"), key=lambda path: path.stat().st_mtime)
    if not others:
        raise UserError(
            f"There is no latency table {exact}; "
            f"make it with `hwnas profile --target {key.target} --space {key.space}{_options(key)}`."
        )
    check_fingerprint(load_table(others[-1]), fingerprint, allow_stale, others[-1])
    return others[-1]


def check_fingerprint(
    table: LatencyTable, fingerprint: Fingerprint, allow_stale: bool = False, path: Path | None = None
) -> bool:
    """Whether the table was measured on the device as it is now; false only if ``allow_stale``.

    Raises:
        StaleTableError: it was not, and that is not allowed; says what differs.
    """
    if table.fingerprint.identity8 == fingerprint.identity8:
        return True
    if allow_stale:
        return False
    differences = table.fingerprint.differences(fingerprint)
    shown = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
    where = f" {path}" if path is not None else ""
    raise StaleTableError(
        f"Latency table{where} was measured on another device than target '{table.target}' is now ({shown}); "
        f"run `hwnas profile --target {table.target} --space {table.space}{_options(TableKey.of_table(table))}` "
        "or pass --allow-stale."
    )


def _options(key: TableKey) -> str:
    """The options of a profile without which another table is made; a precision of the target's own does no harm."""
    precision = "" if key.precision == "fp32" else f" --precision {key.precision}"
    arrival = "" if key.arrival == str(BACK_TO_BACK) else f" --fps {key.arrival.removesuffix(' fps')}"
    return precision + arrival
