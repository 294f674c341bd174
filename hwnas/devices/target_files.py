"""The files that describe targets: where they are, how one inherits from another, and what is wrong with them."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from hwnas.devices.target import FactsOnly, Target
from hwnas.errors import BadFileError, UnknownNameError
from hwnas.files import read_bytes

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

_INHERITED_ONE_BY_ONE = ("facts", "limits", "runtimes")
_LONGEST_VALUE = 60


def target_directories() -> list[Path]:
    """Where targets are looked for: ``$HWNAS_HOME/targets``, ``./targets``, those that came with hwnas.

    The last are beside the package in a checkout and under ``share/hwnas/targets`` of the environment elsewhere.
    """
    home = os.environ.get("HWNAS_HOME")
    candidates = [Path(home) / "targets"] if home else []
    candidates += [Path("targets"), Path(__file__).resolve().parents[2] / "targets"]
    candidates += [Path(sys.prefix) / "share" / "hwnas" / "targets"]
    unique = {directory.resolve(): directory for directory in reversed(candidates) if directory.is_dir()}
    return list(reversed(unique.values()))


def own_directory() -> Path:
    """Where new targets are written: ``$HWNAS_HOME/targets``, or ``./targets`` where that is not set."""
    home = os.environ.get("HWNAS_HOME")
    return Path(home) / "targets" if home else Path("targets")


def target_paths() -> list[Path]:
    """The file of every target that is found, by name; the first directory wins."""
    return [path for _, path in sorted(_found().items())]


def list_targets() -> list[Target | FactsOnly]:
    """Every target that is found, by name.

    Raises:
        BadFileError: a target's file is wrong.
    """
    return [read_description(path) for path in target_paths()]


def load_target(name_or_path: str | Path) -> Target:
    """The target of that name, or the one in a YAML file, to be used.

    Raises:
        UnknownNameError: there is no target of that name; the sentence gives near names.
        BadFileError: the file is missing or wrong; the sentence gives file and field.
        UserError: nothing but facts is known of the device.
    """
    described = load_description(name_or_path)
    if isinstance(described, FactsOnly):
        raise described.refusal()
    return described


def load_description(name_or_path: str | Path) -> Target | FactsOnly:
    """The same to be read alone, which may be of a device that cannot be used.

    Raises:
        UnknownNameError: there is no target of that name; the sentence gives near names.
        BadFileError: the file is missing or wrong; the sentence gives file and field.
    """
    text = str(name_or_path)
    if "/" in text or text.endswith((".yaml", ".yml")):
        return read_description(Path(text))
    found = _found()
    if text in found:
        return read_description(found[text])
    known = sorted(found)
    near = difflib.get_close_matches(text, known)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(known) or 'none'}."
    places = ", ".join(str(directory) for directory in target_directories()) or "any targets directory"
    raise UnknownNameError(f"there is no target '{text}' in {places}; {hint}")


def read_description(path: Path) -> Target | FactsOnly:
    """What stands in ``path``, with what it inherits; its name must be the file's."""
    described = parse_description(_resolved(path), path)
    if described.name != path.stem:
        raise BadFileError(f"target {path}: field 'name' is '{described.name}' and must be the file's, '{path.stem}'.")
    return described


def parse_description(content: Any, path: Path) -> Target | FactsOnly:
    """What ``content``, read from or meant for ``path``, says.

    Raises:
        BadFileError: with the file, each wrong field, what was found and what was expected.
    """
    facts_only = isinstance(content, dict) and content.get("support") == "facts-only"
    model = FactsOnly if facts_only else Target
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise BadFileError(f"target {path}: {'; '.join(_complaints(error, model))}.") from error


def inherited(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A target's content with what it inherits from that of another."""
    both = [key for key in _INHERITED_ONE_BY_ONE if isinstance(base.get(key), dict) and isinstance(own.get(key), dict)]
    return {**base, **own, **{key: {**base[key], **own[key]} for key in both}}


def resolved_base(name: str, beside: Path, heirs: tuple[str, ...] = ()) -> dict[str, Any]:
    """The content of the target ``name``, looked for in the directory ``beside`` first, with what it inherits."""
    if name in heirs:
        raise BadFileError(f"target {beside / heirs[0]}.yaml extends itself: {' → '.join([*heirs, name])}.")
    path = beside / f"{name}.yaml"
    if not path.exists():
        path = _found().get(name, path)
    content = _resolved(path, heirs)
    parse_description(content, path)  # what is wrong there is told of that file
    return dict(content)


def _resolved(path: Path, heirs: tuple[str, ...] = ()) -> Any:
    content = _read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("extends"), str):
        return content
    return inherited(resolved_base(content["extends"], path.parent, (*heirs, path.stem)), content)


def _found() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for directory in target_directories():
        for path in sorted(directory.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


class _Loader(SafeLoader):
    """Of plain data, in which no key may stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [key for number, key in enumerate(keys) if key in keys[:number]]
        if twice:
            raise yaml.MarkedYAMLError(problem=f"key '{twice[0]}' stands there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Any:
    content = read_bytes(path, what="target")
    try:
        return yaml.load(content, _Loader)  # noqa: S506  it is a safe one
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadFileError(f"target {path} is not YAML ({' '.join(str(error).split())[:200]}).") from error


def _complaints(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Each problem as a clause: the field, what was found, what was expected; for an unknown one, the nearest name."""
    clauses = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"]) or "content"
        if problem["type"] == "extra_forbidden":
            *place, key = problem["loc"]
            near = difflib.get_close_matches(str(key), _keys_at(model, place), n=1, cutoff=0.0)
            clauses.append(f"field '{field}' is unknown" + (f"; the nearest known name is '{near[0]}'" if near else ""))
            continue
        found = repr(problem["input"])
        found = found if len(found) <= _LONGEST_VALUE else found[: _LONGEST_VALUE - 3] + "..."
        clauses.append(f"field '{field}': {problem['msg'][0].lower()}{problem['msg'][1:]}, found {found}")
    return clauses


def _keys_at(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The names of the fields that may stand at a place below a model."""
    here: list[Any] = [model]
    for part in place:
        here = [below for one in here for below in _below(one, str(part))]
    return [
        field.alias or name
        for one in here
        if isinstance(one, type) and issubclass(one, BaseModel)
        for name, field in one.model_fields.items()
    ]


def _below(annotation: Any, part: str) -> Iterator[Any]:
    """The types of what stands under the key ``part``; of models told apart by their kind, the one of that kind."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        yield from _alternatives(get_args(annotation)[1])  # a mapping's values
        return
    fields = {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
    if part in fields:
        yield from _alternatives(fields[part])
    elif get_origin(fields.get("kind")) is Literal and part in get_args(fields["kind"]):
        yield annotation


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The models and mappings among the alternatives of a type."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one)
    elif origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        yield annotation
