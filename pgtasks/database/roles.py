"""Roles of a backup that the server lacks, as its globals.sql has them.

That file is input like the backup itself. Only the names, harmless attributes and memberships of
roles are read from it, by PostgreSQL's parser; the statements that run are made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from psycopg2 import sql

from pgtasks import report
from pgtasks.errors import Failed, Refused
from pgtasks.server import connection, parser
from pgtasks.server.connection import Connection
from pgtasks.server.parser import SyntaxFault

# as pg_dumpall and the parser call them
_KEPT = {"canlogin": ("LOGIN", "NOLOGIN"), "inherit": ("INHERIT", "NOINHERIT")}
_NEVER = {
    "superuser": "SUPERUSER",
    "createrole": "CREATEROLE",
    "createdb": "CREATEDB",
    "isreplication": "REPLICATION",
    "bypassrls": "BYPASSRLS",
}
# a password in clear text would be one that the maker of the backup knows
_VERIFIER = re.compile(r"SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=:]+|md5[0-9a-f]{32}")
_META = re.compile(r"^\\(?:un)?restrict .*$", re.MULTILINE)
_PREDEFINED = "pg_"


@dataclass(frozen=True)
class SavedRole:
    """A role of a backup; `without` are attributes that no role is given here."""

    name: str
    attributes: tuple[str, ...] = ()
    limit: int = -1
    valid_until: str = ""
    verifier: str = ""  # of its password
    without: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def line(self, *, password: bool) -> str:
        """Return what a plan says of it."""
        words = [*self.attributes]
        words += [f"at most {report.plural(self.limit, 'connection')}"] if self.limit >= 0 else []
        words += [f"valid until {self.valid_until}"] if self.valid_until else []
        words += ["with its password"] if password and self.verifier else []
        words += [f"member of {', '.join(map(repr, self.groups))}"] if self.groups else []
        words += [f"without {', '.join(self.without)}"] if self.without else []
        return f"{self.name!r}: {', '.join(words) or 'plain'}"

    def create(self, *, password: bool) -> sql.Composed:
        """Return the statement that creates it."""
        parts: list[sql.Composable] = [sql.SQL(word) for word in self.attributes]
        if self.limit >= 0:
            parts.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(self.limit)))
        if self.valid_until:
            parts.append(sql.SQL("VALID UNTIL {}").format(sql.Literal(self.valid_until)))
        if password and self.verifier:
            parts.append(sql.SQL("PASSWORD {}").format(sql.Literal(self.verifier)))
        name = sql.Identifier(self.name)
        return sql.SQL("CREATE ROLE {} {}").format(name, sql.SQL(" ").join(parts))


def saved(text: str) -> dict[str, SavedRole]:
    """Return the roles of a globals.sql by name, raising Refused if it is no SQL."""
    try:
        nodes: list[Any] = [each.node for each in parser.parse(_META.sub("", text))]
    except SyntaxFault as exc:
        raise Refused(f"globals.sql of the backup cannot be read: {exc}") from None
    found: dict[str, SavedRole] = {}
    for node in filter(None, nodes):
        kind = type(node).__name__
        if kind == "CreateRoleStmt":
            _define(found, node.role, node.options)
        elif kind == "AlterRoleStmt":
            _define(found, node.role.rolename, node.options)
        elif kind == "GrantRoleStmt" and node.is_grant:
            _join(found, node)
    return found


def _define(found: dict[str, SavedRole], name: str, options: Iterable[Any]) -> None:
    role = found.get(name, SavedRole(name))
    for option in (each.def_elem for each in options):
        role = _with(role, option)
    found[name] = role


def _with(role: SavedRole, option: Any) -> SavedRole:
    name, value = option.defname, option.arg
    if name in _KEPT:
        word = _KEPT[name][0 if value.boolean.boolval else 1]
        return replace(role, attributes=(*role.attributes, word))
    if name in _NEVER:
        taken = (_NEVER[name],) if value.boolean.boolval else ()
        return replace(role, without=(*role.without, *taken))
    if name == "connectionlimit":
        return replace(role, limit=value.integer.ival)
    if name == "validUntil":
        return replace(role, valid_until=value.string.sval)
    if name == "password" and _VERIFIER.fullmatch(value.string.sval):
        return replace(role, verifier=value.string.sval)
    return role


def _join(found: dict[str, SavedRole], node: Any) -> None:
    groups = [each.access_priv.priv_name for each in node.granted_roles]
    for member in (each.role_spec.rolename for each in node.grantee_roles):
        role = found.get(member, SavedRole(member))
        found[member] = replace(role, groups=(*role.groups, *groups))


def lacking(
    conn: Connection, roles: Mapping[str, SavedRole], needed: Iterable[str]
) -> tuple[SavedRole, ...]:
    """Return those of the needed roles that the server lacks, with memberships among them."""
    names = [name for name in dict.fromkeys(needed) if name in roles]
    names = [name for name in names if name and not name.startswith(_PREDEFINED)]
    query = "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)"
    known = set(connection.rows(conn, query, (names,), into=str))
    made = {name for name in names if name not in known}
    return tuple(
        replace(
            roles[name],
            groups=tuple(dict.fromkeys(each for each in roles[name].groups if each in made)),
        )
        for name in sorted(made)
    )


def create(conn: Connection, roles: Sequence[SavedRole], *, passwords: bool) -> None:
    """Create roles and their memberships, all of them or none."""
    connection.execute(conn, "BEGIN")
    try:
        _create(conn, roles, passwords=passwords)
        connection.execute(conn, "COMMIT")
    except BaseException:
        _roll_back(conn)
        raise


@contextmanager
def assumed(conn: Connection, roles: Sequence[SavedRole]) -> Iterator[None]:
    """Let roles exist for the length of a block, in a transaction that is rolled back."""
    if not roles:
        yield
        return
    connection.execute(conn, "BEGIN")
    try:
        try:
            _create(conn, roles, passwords=False)
        except Failed as exc:
            raise Refused(f"--create-roles: {exc.message}{_way(conn, exc.message)}") from None
        yield
    finally:
        _roll_back(conn)


def _way(conn: Connection, words: str) -> str:
    """Return the way out for a role that may not create others."""
    if "permission denied" not in words:
        return ""
    _roll_back(conn)
    user = connection.value(conn, "SELECT quote_ident(current_user)", into=str)
    return (
        f": a superuser gives it the right (ALTER ROLE {user} CREATEROLE), or go without with "
        "--map-role or --no-owner"
    )


def _create(conn: Connection, roles: Sequence[SavedRole], *, passwords: bool) -> None:
    for role in roles:
        connection.execute(conn, role.create(password=passwords))
    for role in roles:
        for group in role.groups:
            statement = sql.SQL("GRANT {} TO {}")
            names = map(sql.Identifier, (group, role.name))
            connection.execute(conn, statement.format(*names))


def _roll_back(conn: Connection) -> None:
    if not conn.closed:
        connection.execute(conn, "ROLLBACK")
