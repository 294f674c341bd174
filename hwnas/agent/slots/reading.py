"""Signed objects, read strictly: what they do not say exactly so, they do not say."""

from __future__ import annotations

import re
from typing import Any, Container, Optional, Tuple

from ..protocol import AgentError, ErrorKind, Fields

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class Record(Fields):
    """An object all of whose fields are known."""

    def __init__(self, message: Any, where: str) -> None:
        if not isinstance(message, dict):
            raise AgentError(ErrorKind.BAD_BUNDLE, "'%s' must be an object, found %s" % (where, repr(message)[:60]))
        super().__init__(message)
        self._where = where

    def exactly(self, *names: str, unread: Tuple[str, ...] = ()) -> "Record":
        """The record, if it has all of ``names`` and nothing beside but ``unread``."""
        known = set(names)
        odd = sorted(known - set(self.message)) or sorted(set(self.message) - known - set(unread))
        if odd:
            verb = "is missing" if odd[0] in known else "is unknown"
            raise AgentError(ErrorKind.BAD_BUNDLE, "field '%s' of '%s' %s" % (odd[0][:40], self._where, verb))
        return self

    def require_kind(self, kind: str, schemas: Tuple[int, ...] = (1,)) -> int:
        """Refuse what is something else, or of another schema; gives the schema."""
        schema = self.integer("schema")
        if schema not in schemas or self.text("kind") != kind:
            known = " or ".join(map(str, schemas))
            raise AgentError(
                ErrorKind.BAD_BUNDLE,
                "schema and kind must be %s and '%s'; a newer agent may know others" % (known, kind),
            )
        return schema

    def child(self, name: str) -> "Record":
        """A nested record."""
        return Record(self.message.get(name), "%s.%s" % (self._where, name))

    def children(self, name: str) -> Tuple["Record", ...]:
        """A list of records."""
        items = self.items(name)
        return tuple(Record(item, "%s.%s[%d]" % (self._where, name, number)) for number, item in enumerate(items))

    def matching(self, name: str, pattern: "re.Pattern[str]") -> str:
        """A string of a certain form."""
        text = self.text(name)
        if not pattern.fullmatch(text):
            raise self._wrong(name, "like %s" % pattern.pattern, text)
        return text

    def one_of(self, name: str, known: Tuple[str, ...]) -> str:
        """One of a few strings."""
        text = self.text(name)
        if text not in known:
            raise self._wrong(name, "one of " + ", ".join(known), text)
        return text

    def limit(self, name: str) -> Optional[float]:
        """A number, or null."""
        return self.number(name) if self.has(name) else None

    def file(self, name: str, files: Container[str]) -> str:
        """The path of one of ``files``."""
        path = self.text(name)
        if path not in files:
            raise self._wrong(name, "a file of the bundle", path)
        return path
