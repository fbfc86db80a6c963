"""The roles of a server: members, attributes, what they own and may do in one database."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pgtasks import report
from pgtasks.server import connection
from pgtasks.server.catalog import OWN_SCHEMA
from pgtasks.server.connection import Connection

# Many tables have the same owner and the same grants, so the server is asked once for each kind.
_ROLES = f"""
WITH kinds AS (
  SELECT min(c.oid) AS oid, c.relnamespace AS schema, count(*) AS number
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND NOT c.relispartition
    AND c.relpersistence <> 't' AND {OWN_SCHEMA}
  GROUP BY c.relnamespace, c.relowner, c.relacl::text),
may AS (
  SELECT r.oid,
    sum(k.number) FILTER (WHERE has_table_privilege(r.oid, k.oid, 'SELECT'))::int AS reads,
    sum(k.number) FILTER (WHERE has_table_privilege(r.oid, k.oid, 'INSERT, UPDATE, DELETE'))::int
      AS writes
  FROM pg_roles r CROSS JOIN kinds k WHERE has_schema_privilege(r.oid, k.schema, 'USAGE')
  GROUP BY r.oid)
SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolcreatedb AS createdb,
  r.rolcreaterole AS createrole, r.rolreplication AS replication, r.rolbypassrls AS bypassrls,
  r.rolcanlogin AS login, r.rolinherit AS inherit,
  nullif(r.rolconnlimit, -1) AS connection_limit,
  CASE WHEN r.rolvaliduntil < 'infinity' THEN to_char(r.rolvaliduntil AT TIME ZONE 'UTC',
    'YYYY-MM-DD"T"HH24:MI:SS"Z"') END AS valid_until,
  coalesce(r.rolvaliduntil < now(), false) AS expired,
  ARRAY(SELECT pg_get_userbyid(m.roleid)::text FROM pg_auth_members m WHERE m.member = r.oid
    GROUP BY m.roleid ORDER BY 1) AS member_of,
  ARRAY(SELECT pg_get_userbyid(m.member)::text FROM pg_auth_members m WHERE m.roleid = r.oid
    GROUP BY m.member ORDER BY 1) AS members,
  d.datdba = r.oid AS owns_database,
  (SELECT count(*)::int FROM pg_shdepend s WHERE s.dbid = d.oid AND s.deptype = 'o'
    AND s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid) AS owned,
  has_database_privilege(r.oid, d.oid, 'CONNECT') AS connect,
  has_database_privilege(r.oid, d.oid, 'CREATE') AS creates_schemas,
  coalesce(m.reads, 0) AS reads, coalesce(m.writes, 0) AS writes,
  (SELECT coalesce(sum(number), 0)::int FROM kinds) AS tables,
  (SELECT count(*)::int FROM pg_stat_activity a WHERE a.usesysid = r.oid AND a.datid = d.oid
    AND a.pid <> pg_backend_pid()) AS sessions
FROM pg_roles r JOIN pg_database d ON d.datname = current_database()
LEFT JOIN may m ON m.oid = r.oid
WHERE r.rolname !~ '^pg_' ORDER BY r.rolname COLLATE "C"
"""


@dataclass(frozen=True)
class Role:
    """A role of the server, and its rights in this database.

    `owned` are its objects here, those of the server that belong to nobody else not counted.
    `reads` and `writes` are of the `tables` (views included) those that it may read or change, as
    a member of other roles too. `valid_until` is when its password expires.
    """

    name: str
    superuser: bool
    createdb: bool
    createrole: bool
    replication: bool
    bypassrls: bool
    login: bool
    inherit: bool
    connection_limit: int | None
    valid_until: str | None
    expired: bool
    member_of: list[str]
    members: list[str]
    owns_database: bool
    owned: int
    connect: bool
    creates_schemas: bool
    reads: int
    writes: int
    tables: int
    sessions: int

    def cells(self) -> tuple[Any, ...]:
        """Return the cells of its row."""
        owned = f"database, {self.owned:,}" if self.owns_database else f"{self.owned:,}"
        owned = owned if self.owned or self.owns_database else ""
        return (
            *(self.name, self._attributes(), ", ".join(self.member_of), ", ".join(self.members)),
            *(owned.removesuffix(", 0"), self._may()),
        )

    def described(self) -> str:
        """Return its attributes and memberships in one line."""
        member = f"member of {', '.join(self.member_of)}" if self.member_of else ""
        return ", ".join(filter(None, (self._attributes(), member)))

    def _attributes(self) -> str:
        limit = self.connection_limit
        words = {
            "no login": not self.login,
            "superuser": self.superuser,
            "createdb": self.createdb and not self.superuser,
            "createrole": self.createrole and not self.superuser,
            "replication": self.replication and not self.superuser,
            "bypassrls": self.bypassrls and not self.superuser,
            "noinherit": not self.inherit,
            f"at most {report.plural(limit or 0, 'session')}": limit is not None,
            f"password {'expired' if self.expired else 'valid until'} {self.valid_until}": bool(
                self.valid_until
            ),
        }
        return ", ".join(word for word, true in words.items() if true)

    def _may(self) -> str:
        if self.superuser:
            return "everything"
        if not self.connect:
            return "not connect"
        words = [
            f"read {self._of(self.reads)}" if self.reads else "",
            f"write {self._of(self.writes)}" if self.writes else "",
            "create schemas" if self.creates_schemas else "",
        ]
        return ", ".join(filter(None, words)) or "connect"

    def _of(self, number: int) -> str:
        return f"all {self.tables:,}" if number == self.tables else f"{number:,} of {self.tables:,}"


@dataclass(frozen=True)
class Roles:
    """The roles of the server, those that PostgreSQL predefines left out."""

    roles: tuple[Role, ...]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        headings = ("role", "attributes", "member of", "members", "owns", "may here")
        rows = [each.cells() for each in self.roles]
        prose = headings[1:4]
        shown = report.table(headings, rows, prose=(*prose, "may here"), runs_on=True)
        tables = report.plural(self.roles[0].tables if self.roles else 0, "table")
        counted = report.plural(len(self.roles), "role")
        return [
            *shown.splitlines(),
            f"{counted} of the server; this database has {tables}, views included",
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"roles": [asdict(each) for each in self.roles]}


def roles(conn: Connection) -> Roles:
    """Return the roles of the server, and what each owns and may do in the database."""
    return Roles(tuple(connection.rows(conn, _ROLES, into=Role)))
