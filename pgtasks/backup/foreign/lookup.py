"""Which table a name without a schema means in a dump, by its search_path and what it makes."""

from __future__ import annotations

import re

from pgtasks.backup.foreign import reach
from pgtasks.backup.foreign.contents import Table

_PATH = re.compile(
    rb"SET\s+(?:(?:SESSION|LOCAL)\s+)?search_path\s*(?:=|TO\b)([^;]*)|"
    rb"SELECT\s+(?:pg_catalog\.)?set_config\('search_path',\s*'([^']*)'",
    re.IGNORECASE,
)
_SCHEMA = re.compile(rb"\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*'|[\w$\x80-\xff]+")
_BY_DEFAULT = ("$user", "public")
_NO_TABLES = ("$user", "pg_catalog", "pg_temp")  # schemas in a path that a dump has no tables in
_CREATE = re.compile(
    rb"CREATE\s+(?:UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(%s)\s*(?:\.\s*(%s))?"
    % (reach.NAME, reach.NAME),
    re.IGNORECASE,
)


class Lookup:
    """The schemas in which a session of a dump looks for tables, and those that the dump makes."""

    def __init__(self) -> None:
        self._path: tuple[str, ...] = ("public",)
        self._made: set[Table] = set()

    def heed(self, begin: bytes) -> None:
        """Note what a statement sets or makes."""
        if path := _PATH.match(begin):
            self._path = _schemas(path)
        elif created := _CREATE.match(begin):
            self._made.add(self._new(created))

    def table(self, found: re.Match[bytes] | None) -> Table:
        """Return the table that a statement names, as the server looks for it."""
        if found is None:
            return (self._path[0], "?")
        if found[2] is not None:
            return (reach.unquoted(found[1]), reach.unquoted(found[2]))
        name = reach.unquoted(found[1])
        made = (schema for schema in self._path if (schema, name) in self._made)
        return (next(made, self._path[0]), name)

    def _new(self, created: re.Match[bytes]) -> Table:
        """Return the table that a statement makes: without a schema it is in the first one."""
        if created[2] is not None:
            return (reach.unquoted(created[1]), reach.unquoted(created[2]))
        return (self._path[0], reach.unquoted(created[1]))

    def is_open(self, found: re.Match[bytes] | None, table: Table) -> bool:
        """Return whether a table without a schema may be in several, and the dump makes it not."""
        plain = found is not None and found[2] is None
        return plain and len(self._path) > 1 and table not in self._made


def sets_path(begin: bytes) -> bool:
    """Return whether a statement sets the search_path."""
    return _PATH.match(begin) is not None


def _schemas(path: re.Match[bytes]) -> tuple[str, ...]:
    """Return the schemas in which a session looks for tables, after a statement sets its path."""
    names = []
    for token in _SCHEMA.findall(path[1] if path[1] is not None else path[2]):
        text = token[1:-1].replace(b"''", b"'") if token.startswith(b"'") else token
        quoted = token.startswith(b"'")
        names.append(text.decode("utf-8", "surrogateescape") if quoted else reach.unquoted(text))
    if names == ["default"]:
        names = list(_BY_DEFAULT)
    return tuple(name for name in names if name not in _NO_TABLES) or ("public",)
