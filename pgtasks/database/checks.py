"""Check constraints that are part of a table or a domain, and which rows of a backup may break.

pg_dump writes a valid one into the definition. Where a function of it has been replaced since, or
looks names up by search_path, COPY fails. The constraint is then dropped before the rows come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks.server import connection, quoting
from pgtasks.server.connection import Connection
from pgtasks.server.proof import entries
from pgtasks.server.proof.toc import Entry

_KINDS = ("TABLE", "FOREIGN TABLE", "DOMAIN")
# as pg_dump writes it, see dumpTableSchema and dumpDomain in pg_dump.c
_CONSTRAINT = re.compile(r'^\s+CONSTRAINT ("(?:[^"]|"")*"|[a-z_][a-z0-9_$]*) CHECK \(', re.M)
_BROKEN = re.compile(
    r"ERROR:\s+(?:new row for relation \"(?P<table>.*?)\"|value for domain .*?) violates check "
    r"constraint \"(?P<name>.*)\""
)
_FAILED = re.compile(r"COPY failed for table \"(?P<table>.*?)\": ERROR:.*\bfunction ", re.DOTALL)
_ATTACHED = re.compile(r"ALTER TABLE ONLY (.+) ATTACH PARTITION ", re.DOTALL)
_INHERITS = re.compile(r"\nINHERITS \((.+)\)", re.DOTALL)
# The table, those above that have the constraint too, and all below, from the top.
_TABLES = """
WITH RECURSIVE up AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE (n.nspname, c.relname) = (%(schema)s, %(table)s)
  UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.oid
    JOIN pg_constraint k ON k.conrelid = i.inhparent AND k.conname = %(name)s),
down AS (
  SELECT oid, 0 AS depth FROM up
  UNION SELECT i.inhrelid, depth + 1 FROM down JOIN pg_inherits i ON i.inhparent = down.oid)
SELECT n.nspname, c.relname FROM down JOIN pg_class c ON c.oid = down.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
GROUP BY c.oid, n.nspname, c.relname ORDER BY max(depth), c.oid
"""


@dataclass(frozen=True)
class Check:
    """A check constraint of a table or domain."""

    kind: str
    schema: str
    table: str  # or the domain
    name: str

    def __str__(self) -> str:
        return entries.name(("CHECK CONSTRAINT", self.schema, f"{self.table} {self.name}"))

    @property
    def comment(self) -> tuple[str, str, str]:
        """Return kind, schema and tag of the entry of a comment on it."""
        own, of = quoting.quoted(self.name), quoting.quoted(self.table)
        kind = "DOMAIN " if self.kind == "DOMAIN" else ""
        return "COMMENT", self.schema, f"CONSTRAINT {own} ON {kind}{of}"


def read(archive: Iterable[Entry]) -> Iterator[Check]:
    """Yield the check constraints within definitions."""
    for entry in archive:
        if entry.desc in _KINDS:
            text = quoting.from_bytes(entry.definition)
            for name in _CONSTRAINT.findall(text):
                yield Check(entry.desc, entry.namespace, entry.tag, _unquoted(name))


def above(check: Check, archive: Sequence[Entry]) -> list[Check]:
    """Return a constraint and those of the tables above that it may be inherited of."""
    found = {(check.schema, check.table)}
    parents = dict(_parents(archive))
    while more := {each for table in found for each in parents.get(table, ())} - found:
        found |= more
    alike = (each for each in read(archive) if (each.kind, each.name) == (check.kind, check.name))
    return [each for each in alike if (each.schema, each.table) in found]


def _parents(archive: Iterable[Entry]) -> Iterator[tuple[tuple[str, str], list[tuple[str, str]]]]:
    """Yield the tables that are partitions or children, with the tables above."""
    for entry in archive:
        pattern = {"TABLE ATTACH": _ATTACHED, "TABLE": _INHERITS}.get(entry.desc)
        text = quoting.from_bytes(entry.definition) if pattern else ""
        if pattern and (match := pattern.search(text)):
            named = (quoting.parted(each, ".") for each in quoting.parted(match[1], ","))
            pairs = [tuple(map(_unquoted, parts)) for parts in named if len(parts) == 2]
            yield (entry.namespace, entry.tag), [(schema, table) for schema, table in pairs]


def drop(conn: Connection, checks: Iterable[Check]) -> None:
    """Drop constraints, also of the tables that inherit them or that they are inherited of."""
    for check in checks:
        name = sql.Identifier(check.name)
        places = [(check.schema, check.table)]
        if check.kind != "DOMAIN":
            given = {"schema": check.schema, "table": check.table, "name": check.name}
            places = connection.rows(conn, _TABLES, given, into=tuple[str, str])
        kind = sql.SQL("DOMAIN" if check.kind == "DOMAIN" else "TABLE")
        for place in places:
            connection.execute(
                conn,
                sql.SQL("ALTER {} {} DROP CONSTRAINT IF EXISTS {}").format(
                    kind, sql.Identifier(*place), name
                ),
            )


def broken(words: str, archive: Sequence[Entry]) -> list[Check]:
    """Return the constraint that rows have broken, by pg_restore's words.

    Several where its words fit several, or do not name the one whose function has failed.
    """
    known = list(read(archive))
    if match := _BROKEN.search(words):
        named = [check for check in known if check.name == match["name"]]
        own = [check for check in named if check.table == match["table"]]
        return [above(check, archive)[0] for check in own] or named
    if match := _FAILED.search(words):
        return [check for check in known if check.table == match["table"]]
    return []


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
