"""Create tables of the backup in the live database, by statements that pg_dump writes alone.

An archive may contain any SQL in place of a definition. In the live database only a statement of
the kind of its entry, about the object of its entry, is run, with the rights of the owner.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg2 import sql

from pgtasks.backup.restore import trying
from pgtasks.backup.restore.tables.choice import Name, name_of, nodes
from pgtasks.backup.restore.tables.plan import TablesPlan
from pgtasks.database import leaving, rights
from pgtasks.errors import Refused
from pgtasks.server import connection, parser
from pgtasks.server.connection import Connection
from pgtasks.server.dump import kinds
from pgtasks.server.dump import nodes as tree
from pgtasks.server.dump.statements import Allowed, refusal
from pgtasks.server.proof import entries
from pgtasks.server.proof.difference import meant
from pgtasks.server.proof.toc import POST_DATA, Entry

_LATE = ("COMMENT", "SECURITY LABEL", "ACL")


@dataclass
class Maker:
    """Create tables in a session; `notes` says what was left out."""

    plan: TablesPlan
    conn: Connection
    user: str  # the role of the session
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts = {
            each.number: each for table in self.plan.made for each in self.plan.choice.parts(table)
        }
        self._parts = [each for each in self.plan.choice.archive if each.number in parts]
        new = [(each.desc, each.namespace, each.tag) for each in self._parts]
        self._allowed = Allowed(new, trusted=not self.plan.base.doubt)
        self._trusted = Allowed(new, trusted=True)
        self._made = set(_made(self._parts))
        self._spaces = trying.tablespaces(self.conn, self._parts, self.user)

    def before_rows(self) -> None:
        """Create schemas, tables, sequences and defaults."""
        for entry in self._schemas():
            self._run([entry])
        self._run(each for each in self._parts if not _is_late(each))

    def after_rows(self) -> None:
        """Create indexes, constraints and triggers, then comments and grants."""
        absent = leaving.absent(self.conn, self._parts)
        without = leaving.naming(self._parts, absent)
        for entry in self._parts:
            if entry.number in without:
                self.notes.append(f"{_name(entry)} is for a role that does not exist here")
        late = [each for each in self._parts if _is_late(each) and each.number not in without]
        self._run(each for each in late if each.desc not in _LATE)
        self._run(each for each in late if each.desc in ("COMMENT", "SECURITY LABEL"))
        for entry in late:
            if entry.desc == "ACL":
                self._grant(entry)

    def _schemas(self) -> Iterator[Entry]:
        """Yield the schemas of the tables that do not exist."""
        wanted = {table.namespace for table in self.plan.made}
        query = "SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s)"
        known = connection.rows(self.conn, query, (list(wanted),), into=str)
        for entry in self.plan.choice.archive:
            if entry.desc == "SCHEMA" and entry.tag in wanted - set(known):
                yield entry

    def _run(self, parts: Iterable[Entry]) -> None:
        for entry in parts:
            text = entry.definition.decode("utf-8", "surrogateescape")
            if why := self._refusal(entry, text):
                raise Refused(f"{_name(entry)} of the backup is not created here: {why}")
            connection.execute(self.conn, self._place(entry))
            connection.execute(self.conn, text)

    def _refusal(self, entry: Entry, text: str) -> str:
        """Return why an entry is not run, with the way out if it is only not trusted."""
        why = self._fault(entry, text, self._trusted)
        accepted = meant(_name(entry), self.plan.base.accept) != ""
        if why or accepted or not self._fault(entry, text, self._allowed):
            return why
        return (
            f"it would run what its maker wrote, or add rows to another table, and "
            f"{self.plan.base.doubt}: --accept {shlex.quote(_name(entry))} creates it"
        )

    def _fault(self, entry: Entry, text: str, allowed: Allowed) -> str:
        if why := refusal(text, allowed.definition(entry)):
            return why
        if entry.desc != "SCHEMA" and not self._is_own(entry, allowed):
            return "its definition is about something else than these tables"
        return ""

    def _is_own(self, entry: Entry, allowed: Allowed) -> bool:
        """Return whether the statements of an entry are about what is made here alone.

        The archive says which entries belong to a table, and may say it of any. The rows of a table
        that inherits are also those of its parent.
        """
        for node in nodes(entry):
            names = about(node)
            above = () if allowed.trusted else getattr(node, "inh_relations", ())
            parents = [(each.range_var.schemaname, each.range_var.relname) for each in above]
            if not names or not {*names, *parents} <= self._made:
                return False
        return True

    def _place(self, entry: Entry) -> sql.Composed:
        """Return the statements that pg_restore runs before one, for tablespace and method."""
        space, method = entry.rest[0], entry.rest[1]
        return sql.SQL(
            "SET LOCAL default_tablespace = {}; SET LOCAL default_table_access_method = {}"
        ).format(sql.Literal("" if space in self._spaces else space), sql.Literal(method or "heap"))

    def _grant(self, entry: Entry) -> None:
        """Grant what the backup grants, if the same role owns the table there and here."""
        if self.plan.base.no_owner and entry.owner != self.user:
            self.notes.append(f"without {_name(entry)}: they were given by {entry.owner!r}")
            return
        for statement, grantees in self._grants(entry):
            missing = sorted(set(grantees) - rights.roles(self.conn, grantees).keys())
            if missing:
                names = ", ".join(map(repr, missing))
                self.notes.append(f"without {_name(entry)} to {names}, who are not here")
            else:
                connection.execute(self.conn, statement)

    def _grants(self, entry: Entry) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield the statements of an ACL entry of pg_dump, with the roles that they name."""
        text = entry.definition.decode("utf-8", "surrogateescape")
        for parsed in parser.parse(text):
            node = parsed.node
            own = node is not None and set(about(node)) <= self._made
            if not own or not kinds.grants(entry, node, True):
                raise Refused(f"{_name(entry)} of the backup has other statements than grants")
            grantees: Any = getattr(node, "grantees", ())
            named = [each.role_spec.rolename for each in grantees]
            yield parsed.text, [name for name in named if name]


def _made(parts: Iterable[Entry]) -> Iterator[Name]:
    """Yield the names of the relations that some entries make."""
    for entry in parts:
        if entry.desc in ("TABLE", "SEQUENCE", "INDEX", "STATISTICS"):
            yield name_of(entry)
        for node in nodes(entry) if entry.desc == "CONSTRAINT" else ():
            for command in getattr(node, "cmds", ()):
                constraint = getattr(command.alter_table_cmd, "def").constraint
                yield entry.namespace, constraint.conname


def about(node: Any) -> list[Name]:
    """Return the names of the relations that a statement changes, none if that is not known."""
    kind = type(node).__name__
    if kind in ("CommentStmt", "GrantStmt"):
        objects = [node.object] if kind == "CommentStmt" else node.objects
        named = [tree.names(each) for each in objects]
        return [(each[0], each[1]) for each in named if len(each) > 1]
    if kind == "CreateStatsStmt":
        ranges = [each.range_var for each in node.relations]
    elif kind == "AlterStatsStmt":
        return [tuple(tree.strings(node.defnames))[:2]]  # type: ignore[list-item]
    elif kind in ("CreateSeqStmt", "AlterSeqStmt"):
        owners = [each.def_elem for each in node.options if each.def_elem.defname == "owned_by"]
        named = [tree.strings(each.arg.list.items) for each in owners]
        own = [(node.sequence.schemaname, node.sequence.relname)]
        return [*own, *((each[0], each[1]) for each in named if len(each) == 3)]
    else:
        field = "table" if kind == "CreatePolicyStmt" else "relation"
        ranges = [getattr(node, field)] if hasattr(node, field) else []
    return [(each.schemaname, each.relname) for each in ranges]


def _is_late(entry: Entry) -> bool:
    return entry.section == POST_DATA or entry.desc in _LATE


def _name(entry: Entry) -> str:
    return entries.name((entry.desc, entry.namespace, entry.tag))
