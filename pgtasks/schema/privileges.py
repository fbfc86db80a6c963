"""Run the project's files of roles: sql/roles/*.sql, what others than the owner may do.

A role belongs to the server, and what it may do to the database: a backup brings neither the role
nor, into a server without it, its privileges. A new database gets them from these files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql

from pgtasks import report
from pgtasks.schema.trigger import execute, files
from pgtasks.schema.trigger.files import SqlFile, Statement
from pgtasks.server import connection, embedded, interrupt
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translated
from pgtasks.server.quoting import quoted
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

FOLDER = "roles"
_LACKING = """
SELECT name, (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)
FROM unnest(%s::text[]) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) ORDER BY name"""
# each list is compared as a set: REVOKE and GRANT of the same change its order
_PRIVILEGES = """
SELECT md5(string_agg(concat_ws(' ', place, p.*), ',' ORDER BY place, p.*))
FROM (SELECT concat('class ', oid), relacl FROM pg_class
      UNION ALL SELECT concat_ws(' ', 'column', attrelid, attnum), attacl FROM pg_attribute
      UNION ALL SELECT concat('function ', oid), proacl FROM pg_proc
      UNION ALL SELECT concat('schema ', oid), nspacl FROM pg_namespace
      UNION ALL SELECT concat('type ', oid), typacl FROM pg_type
      UNION ALL SELECT concat_ws(' ', 'default', defaclrole, defaclnamespace, defaclobjtype),
                       defaclacl FROM pg_default_acl
      UNION ALL SELECT 'database', datacl FROM pg_database WHERE datname = current_database()
     ) AS places (place, list), aclexplode(list) AS p"""


@dataclass(frozen=True)
class Granted:
    """What the files did; `lacking` are roles that the server lacks, for which nothing ran."""

    files: tuple[str, ...]
    changed: bool = False
    made: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    user: str = ""

    def sentence(self) -> str:
        """Return the result in one line."""
        if self.lacking:
            return (
                f"{_roles(self.lacking)} not there, and {self.user!r} may not create roles: an "
                f"administrator of the server runs {_statements(self.lacking, self.user)}"
            )
        made = f", made {', '.join(map(repr, self.made))}" if self.made else ""
        state = "changed" if self.changed else "as before"
        return f"{report.plural(len(self.files), 'file')}: privileges {state}{made}"


def _roles(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names))
    return f"role {shown} is" if len(names) == 1 else f"roles {shown} are"


def _statements(names: Sequence[str], user: str) -> str:
    owner = quoted(user)
    return " ".join(
        f"CREATE ROLE {role} NOLOGIN; GRANT {role} TO {owner};" for role in map(quoted, names)
    )


def read(project: Project) -> tuple[SqlFile, ...]:
    """Return the files, by name, raising Failed for one that cannot be read."""
    return tuple(files.read(project, (FOLDER,)))


def apply(given: Sequence[SqlFile], target: Target) -> Granted:
    """Run the files in one transaction, raising Failed with file and line for an error.

    A role that they name and the server lacks is made on an embedded server, whose owner of
    databases may not; on another one nothing runs, unless the user may create roles. The caller
    holds the lock.
    """
    statements = [statement for file in given for statement in files.statements(file)]
    execute.refuse_control(statements, kind="role")
    names = tuple(file.name for file in given)
    made: tuple[str, ...] = ()
    session = connection.session(target, purpose="roles", own_path=True)
    with session as conn, interrupt.cancelling([conn]):
        lacking, may_create = _lacking(conn, statements)
        if lacking and target.embedded:
            made = _make(target, lacking)
        elif lacking and not may_create:
            return Granted(names, lacking=lacking, user=target.user)
        return Granted(names, changed=_run(conn, statements), made=made)


def _run(conn: Connection, statements: Sequence[Statement]) -> bool:
    """Run the statements in one transaction; return whether a privilege was changed."""
    conn.autocommit = False
    before = connection.value(conn, _PRIVILEGES)
    for statement in statements:
        execute.run(conn, statement)
    after = connection.value(conn, _PRIVILEGES)
    with translated():
        conn.commit()
    return bool(before != after)


def _lacking(conn: Connection, statements: Sequence[Statement]) -> tuple[tuple[str, ...], bool]:
    """Return the roles that are named and not there, and whether the user may create roles."""
    named = sorted({role for statement in statements for role in _named(statement)})
    rows = connection.rows(conn, _LACKING, (named,), into=tuple[str, bool])
    return tuple(name for name, _ in rows), all(may for _, may in rows)


def _named(statement: Statement) -> Iterator[str]:
    """Yield the roles that a GRANT or REVOKE gives to or takes from."""
    from postgast import pg_query_pb2 as pb

    node = statement.node
    if isinstance(node, pb.AlterDefaultPrivilegesStmt):
        node = node.action
    if isinstance(node, pb.GrantStmt):
        yield from (each.role_spec.rolename for each in node.grantees if each.role_spec.rolename)
    elif isinstance(node, pb.GrantRoleStmt):
        specs = node.grantee_roles
        yield from (each.role_spec.rolename for each in specs if each.role_spec.rolename)


def _make(target: Target, names: Sequence[str]) -> tuple[str, ...]:
    """Make roles without login on an embedded server, the user of the target a member of each."""
    made = []
    with connection.session(embedded.as_superuser(target), purpose="roles") as conn:
        for name in names:
            role, user = sql.Identifier(name), sql.Identifier(target.user)
            create = sql.SQL("CREATE ROLE {} NOLOGIN").format(role)
            try:
                with conn.cursor() as cursor:
                    cursor.execute(create)
            except (psycopg2.errors.DuplicateObject, psycopg2.errors.UniqueViolation):
                continue  # another run has made it meanwhile
            connection.execute(conn, sql.SQL("GRANT {} TO {}").format(role, user))
            made.append(name)
    return tuple(made)
