"""The JSON Schema of a target's file, for editors and other programs."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
from typing import Any

from pydantic import BaseModel, TypeAdapter

from hwnas.devices import facts, target
from hwnas.devices.facts import Described
from hwnas.devices.target import FactsOnly, Target

_EXTENSION = "Extension"
_FACT = "Fact_"
"""How pydantic begins the names of a generic model's variants."""
_SAID_ANYWAY = ["schema", "name", "extends"]


def target_schema() -> dict[str, Any]:
    """The schema: a file is a whole target, one of facts only, or an extension, which says less than a whole one.

    What is checked beyond it - that the defaults are among the runtimes, that a base is there - only hwnas can check.
    """
    schema = TypeAdapter(Target | FactsOnly).json_schema(by_alias=True)
    definitions = schema["$defs"]
    for name, fields in _documentation().items():
        for described in (one for title, one in definitions.items() if title.split("_")[0] == name):
            for field, text in fields.items():
                described["properties"][field]["description"] = text
    definitions[_EXTENSION] = _extension(definitions)
    kept = {name: one for name, one in definitions.items() if not name.startswith(_FACT)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hwnas target",
        "anyOf": [*schema["anyOf"], {"$ref": f"#/$defs/{_EXTENSION}"}],
        "$defs": _plain(kept, definitions),
    }


def target_schema_text() -> str:
    """The same as it is published in ``targets/target.schema.json``."""
    return json.dumps(target_schema(), indent=1, ensure_ascii=False) + "\n"


def _extension(definitions: dict[str, Any]) -> dict[str, Any]:
    whole, facts_only = definitions["Target"], definitions["FactsOnly"]
    support = {"enum": ["full", "facts-only"], "type": "string"}
    return {
        **whole,
        "description": "What differs from another target; facts, limits and runtimes are inherited one by one.",
        "properties": {**facts_only["properties"], **whole["properties"], "support": support},
        "required": _SAID_ANYWAY,
    }


def _plain(node: Any, definitions: dict[str, Any]) -> Any:
    """Without the names that pydantic makes up: titles, and those of the variants of a fact, which stand in place."""
    if isinstance(node, list):
        return [_plain(one, definitions) for one in node]
    if not isinstance(node, dict):
        return node
    name = str(node.get("$ref", "")).rpartition("/")[2]
    if name.startswith(_FACT):
        return _plain(definitions[name], definitions)
    return {key: _plain(one, definitions) for key, one in node.items() if not (key == "title" and isinstance(one, str))}


def _documentation() -> dict[str, dict[str, str]]:
    """The sentence below each field of each model, by the model's name and the field's name in files.

    Pydantic reads them, too, but whenever the models are imported, which takes longer than all else there.
    """
    models = [one for module in (facts, target) for one in vars(module).values() if _is_described(one)]
    return {model.__name__: _field_sentences(model) for model in models}


def _is_described(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, Described) and candidate is not Described


def _field_sentences(model: type[BaseModel]) -> dict[str, str]:
    sentences = {}
    for base in reversed([one for one in model.__mro__ if _is_described(one)]):
        statements = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for field, below in itertools.pairwise(statements):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    key = model.model_fields[name].alias or name
                    sentences[key] = " ".join(text.split())
    return sentences
