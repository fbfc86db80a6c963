"""Create tables of the backup in the live database, by statements that pg_dump writes alone.

An archive may contain any SQL in place of a definition. In the live database only a statement of
the kind of its entry, about the object of its entry, is run, with the rights of the owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from psycopg2 import sql

from pgtasks.backup.restore import trying
from pgtasks.backup.restore.tables.plan import TablesPlan
from pgtasks.database import leaving, rights
from pgtasks.errors import Refused
from pgtasks.server import connection, parser
from pgtasks.server.connection import Connection
from pgtasks.server.dump import kinds
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
            accepted = meant(_name(entry), self.plan.base.accept) != ""
            allowed = self._trusted if accepted else self._allowed
            if why := refusal(text, allowed.definition(entry)):
                raise Refused(f"{_name(entry)} of the backup is not created here: {why}")
            connection.execute(self.conn, self._place(entry))
            connection.execute(self.conn, text)

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
        for statement, grantees in _grants(entry):
            missing = sorted(set(grantees) - rights.roles(self.conn, grantees).keys())
            if missing:
                names = ", ".join(map(repr, missing))
                self.notes.append(f"without {_name(entry)} to {names}, who are not here")
            else:
                connection.execute(self.conn, statement)


def _grants(entry: Entry) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the statements of an ACL entry that pg_dump writes, with the roles that they name."""
    text = entry.definition.decode("utf-8", "surrogateescape")
    for parsed in parser.parse(text):
        node = parsed.node
        if node is None or not kinds.grants(entry, node, True):
            raise Refused(f"{_name(entry)} of the backup has other statements than grants")
        named = [each.role_spec.rolename for each in node.grantees]
        yield parsed.text, [name for name in named if name]


def _is_late(entry: Entry) -> bool:
    return entry.section == POST_DATA or entry.desc in _LATE


def _name(entry: Entry) -> str:
    return entries.name((entry.desc, entry.namespace, entry.tag))
