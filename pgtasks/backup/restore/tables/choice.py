"""The tables of a backup that patterns name, and the entries of its archive that belong to them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pgtasks.errors import Refused
from pgtasks.server import catalog, connection, parser
from pgtasks.server.connection import Connection
from pgtasks.server.parser import SyntaxFault
from pgtasks.server.proof.toc import Entry
from pgtasks.server.quoting import qualified

Name = tuple[str, str]
FLAG = "--only-table"
_NEAREST = 3
# what belongs to a table, beside its rows; the tag of the second kind begins with the table's name
_PARTS = (
    *("SEQUENCE", "SEQUENCE OWNED BY", "TABLE ATTACH", "INDEX", "INDEX ATTACH", "STATISTICS"),
    *("ROW SECURITY", "ACL", "COMMENT", "SECURITY LABEL"),
)
_TAGGED = (
    *("CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "DEFAULT", "TRIGGER", "RULE", "POLICY"),
)
_OTHERS = ("VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE", "SEQUENCE")
_MATCH = (
    "SELECT number FROM unnest(%s::int[], %s::text[], %s::text[]) AS t(number, schema, name)"
    " WHERE (%s = '' OR schema ~ %s) AND name ~ %s"
)


@dataclass(frozen=True)
class Choice:
    """Tables of an archive, with the partitions of partitioned ones.

    `archive` are all of its entries, `tables` the TABLE entries that were chosen.
    """

    archive: Sequence[Entry]
    tables: tuple[Entry, ...]

    @cached_property
    def by_number(self) -> dict[int, Entry]:
        """Return the entries of the archive by number."""
        return {entry.number: entry for entry in self.archive}

    @property
    def names(self) -> list[Name]:
        """Return schema and name of each table."""
        return [name_of(entry) for entry in self.tables]

    @cached_property
    def filled(self) -> list[Entry]:
        """Return the tables that rows are in: all but partitioned ones."""
        return [entry for entry in self.tables if not is_partitioned(entry)]

    def parent(self, table: Entry) -> Entry | None:
        """Return the table that an entry is a partition of, None if it is none."""
        for entry in self.archive:
            if entry.desc == "TABLE ATTACH" and name_of(entry) == name_of(table):
                above = [self.by_number[n] for n in entry.needs if n in self.by_number]
                return next((each for each in above if each.number != table.number), None)
        return None

    def parts(self, table: Entry) -> list[Entry]:
        """Return the entries that make a table, in the archive's order."""
        numbers = {table.number}
        while more := set(self._more(table, numbers)):
            numbers |= more
        return [entry for entry in self.archive if entry.number in numbers]

    def _more(self, table: Entry, numbers: set[int]) -> Iterator[int]:
        for entry in self.archive:
            if entry.number in numbers or not entry.needs & numbers:
                continue
            if not _belongs(entry, table):
                continue
            yield entry.number
            if entry.desc == "SEQUENCE OWNED BY":
                owned = (self.by_number.get(number) for number in entry.needs)
                yield from (each.number for each in owned if each and each.desc == "SEQUENCE")

    def loaded(self) -> frozenset[int]:
        """Return the numbers of the entries that rows need, with all that those need."""
        numbers = set[int]()
        for table in self.tables:
            own = {each.number for each in self.parts(table) if each.desc in _FOR_ROWS}
            numbers |= own
            numbers |= {
                each.number
                for each in self.archive
                if each.desc in ("TABLE DATA", "SEQUENCE SET")
                and each.needs & own
                and name_of(each) in {name_of(self.by_number[number]) for number in own}
            }
        while (
            more := {
                needed
                for number in numbers
                for needed in self.by_number[number].needs
                if needed in self.by_number
            }
            - numbers
        ):
            numbers |= more
        return frozenset(numbers)


_FOR_ROWS = ("TABLE", "SEQUENCE", "SEQUENCE OWNED BY", "TABLE ATTACH")


def name_of(entry: Entry) -> Name:
    """Return the schema and the name of an entry."""
    return entry.namespace, entry.tag


def chosen(conn: Connection, archive: Sequence[Entry], patterns: Iterable[str]) -> Choice:
    """Return the tables that some patterns match, raising Refused for one that matches none."""
    tables = [entry for entry in archive if entry.desc == "TABLE"]
    numbers = set[int]()
    for pattern in patterns:
        found = _matching(conn, tables, pattern)
        if not found:
            raise Refused(f"{FLAG} {pattern!r} {_no_table(archive, tables, pattern)}")
        if len(found) > 1 and _is_plain(pattern):
            names = ", ".join(qualified(*name_of(each)) for each in found)
            raise Refused(f"{FLAG} {pattern!r} is a table of several schemas, name one: {names}")
        numbers |= {entry.number for entry in found}
    choice = Choice(archive, tuple(each for each in tables if each.number in numbers))
    return Choice(archive, tuple(_with_partitions(choice, tables)))


def _matching(conn: Connection, tables: Sequence[Entry], pattern: str) -> list[Entry]:
    schema, name = catalog.pattern_regexes(pattern)
    columns = ([e.number for e in tables], [e.namespace for e in tables], [e.tag for e in tables])
    with catalog.named(pattern):
        numbers = set(connection.rows(conn, _MATCH, (*columns, schema, schema, name), into=int))
    return [entry for entry in tables if entry.number in numbers]


def _is_plain(pattern: str) -> bool:
    """Return whether a pattern is one name, without a schema."""
    return re.search(r"[*?.]", re.sub(r'"[^"]*"', "", pattern)) is None


def _no_table(archive: Iterable[Entry], tables: Iterable[Entry], pattern: str) -> str:
    plain = re.sub(r'["*?]', "", pattern).lower()
    for entry in archive:
        if entry.desc in _OTHERS and plain in (entry.tag, f"{entry.namespace}.{entry.tag}"):
            return f"is a {entry.desc.lower()} in the backup, only tables have rows of their own"
    known = {qualified(*name_of(each)) if "." in plain else each.tag: each for each in tables}
    near = difflib.get_close_matches(plain, list(known), _NEAREST, 0.6)
    listed = " or ".join(repr(name) for name in near)
    return f"matches no table of the backup{f', did you mean {listed}?' if near else ''}"


def _with_partitions(choice: Choice, tables: Sequence[Entry]) -> list[Entry]:
    """Return the tables with the partitions of each, at all levels, in the archive's order."""
    below: dict[int, list[int]] = {}
    for entry in tables:
        above = choice.parent(entry)
        if above:
            below.setdefault(above.number, []).append(entry.number)
    numbers, left = set[int](), [entry.number for entry in choice.tables]
    while left:
        number = left.pop()
        if number not in numbers:
            numbers.add(number)
            left += below.get(number, [])
    return [entry for entry in tables if entry.number in numbers]


def is_partitioned(table: Entry) -> bool:
    """Return whether a TABLE entry is a partitioned table."""
    return any(
        type(node).__name__ == "CreateStmt" and node.HasField("partspec") for node in nodes(table)
    )


def nodes(entry: Entry) -> list[Any]:
    """Return the statements of an entry as the parser reads them, none if it cannot."""
    try:
        parsed = parser.parse(entry.definition.decode("utf-8", "replace"))
    except SyntaxFault:
        return []
    return [each.node for each in parsed if each.node is not None]


def _belongs(entry: Entry, table: Entry) -> bool:
    """Return whether an entry that needs a table, or a part of it, is a part of that table."""
    if entry.desc in _TAGGED:
        tagged = entry.namespace == table.namespace and entry.tag.startswith(f"{table.tag} ")
        return tagged and _is_on(entry, table)
    if entry.desc in ("INDEX", "STATISTICS"):
        return _is_on(entry, table)
    if entry.desc in ("TABLE ATTACH", "ROW SECURITY"):
        return name_of(entry) == name_of(table)
    return entry.desc in _PARTS


def _is_on(entry: Entry, table: Entry) -> bool:
    """Return whether the first statement of an entry is about a table."""
    for node in nodes(entry)[:1]:
        relation = _relation(node)
        return relation is not None and (relation.schemaname, relation.relname) == name_of(table)
    return False


def _relation(node: Any) -> Any:
    """Return the relation that a statement is about, None if it names none."""
    kind = type(node).__name__
    if kind == "CreatePolicyStmt":
        return node.table
    if kind == "CreateStatsStmt":
        return node.relations[0].range_var if node.relations else None
    return getattr(node, "relation", None)
