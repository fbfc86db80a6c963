"""Run the project's files of roles: sql/roles/*.sql, what others than the owner may do.

A role belongs to the server, and what it may do to the database: a backup brings neither the role
nor, into a server without it, its privileges. A new database gets them from these files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from psycopg2 import sql

from pgtasks import report
from pgtasks.database.wayback import FOLDER
from pgtasks.errors import Failed, PgtasksError
from pgtasks.schema.trigger import execute, files
from pgtasks.schema.trigger.files import SqlFile, Statement
from pgtasks.schema.trigger.verify import prepare
from pgtasks.server import connection, embedded, interrupt, lock
from pgtasks.server.connection import Connection
from pgtasks.server.errors import translated
from pgtasks.server.quoting import quoted
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

_LACKING = """
SELECT name, (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user)
FROM unnest(%s::text[]) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) ORDER BY name"""
# each list is compared as a set: REVOKE and GRANT of the same change its order
_PRIVILEGES = """
SELECT md5(concat(
    (SELECT string_agg(concat_ws(' ', place, p.*), ',' ORDER BY place, p.*)
     FROM (SELECT concat('class ', oid), relacl FROM pg_class
           UNION ALL SELECT concat_ws(' ', 'column', attrelid, attnum), attacl FROM pg_attribute
           UNION ALL SELECT concat('function ', oid), proacl FROM pg_proc
           UNION ALL SELECT concat('schema ', oid), nspacl FROM pg_namespace
           UNION ALL SELECT concat('type ', oid), typacl FROM pg_type
           UNION ALL SELECT concat('language ', oid), lanacl FROM pg_language
           UNION ALL SELECT concat('large object ', oid), lomacl FROM pg_largeobject_metadata
           UNION ALL SELECT concat('wrapper ', oid), fdwacl FROM pg_foreign_data_wrapper
           UNION ALL SELECT concat('foreign server ', oid), srvacl FROM pg_foreign_server
           UNION ALL SELECT concat('tablespace ', oid), spcacl FROM pg_tablespace
           UNION ALL SELECT concat_ws(' ', 'default', defaclrole, defaclnamespace, defaclobjtype),
                            defaclacl FROM pg_default_acl
           UNION ALL SELECT 'database', datacl FROM pg_database WHERE datname = current_database()
          ) AS places (place, list), aclexplode(list) AS p),
    (SELECT string_agg((to_jsonb(r) - 'oid')::text, ',' ORDER BY r.rolname) FROM pg_roles r),
    (SELECT string_agg(text, ',' ORDER BY text)
     FROM (SELECT (to_jsonb(m) - 'oid')::text AS text FROM pg_auth_members m) AS members)))"""
# of a lock in the maintenance database
_TURN = "SELECT pg_advisory_lock(%s, %s)"
_UNLOCK = "SELECT pg_advisory_unlock(%s, %s)"
_TRY = "SELECT pg_try_advisory_lock(%s, %s)"
_KEYS = (0x7067_726F, 0)  # "pgro"


@dataclass(frozen=True)
class Granted:
    """What the `files` did, and which are `left` out because of roles that the server lacks.

    `warnings` are the server's, with file and line: what it did not grant.
    """

    files: tuple[str, ...]
    changed: bool = False
    made: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    user: str = ""
    warnings: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return the result in one line."""
        if self.left:
            why = (
                f"{_roles(self.lacking)} not there, and {self.user!r} may not create roles: an "
                f"administrator of the server runs {_statements_for(self.lacking, self.user)}"
            )
            left = f"; {', '.join(self.left)} not run: {why}"
            return f"{self._done()}{left}" if self.files else why
        return self._done()

    def _done(self) -> str:
        made = f", made {', '.join(map(repr, self.made))}" if self.made else ""
        state = "changed" if self.changed else "as before"
        return f"{report.plural(len(self.files), 'file')}: privileges {state}{made}"


def _roles(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names))
    return f"role {shown} is" if len(names) == 1 else f"roles {shown} are"


def _statements_for(names: Sequence[str], user: str) -> str:
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
    databases may not; on another one the files that name it do not run, unless the user may create
    roles. The caller holds the lock.
    """
    statements = _statements(given)
    execute.refuse_control(statements, kind="role")
    with _turn(target), _session(target) as conn, interrupt.cancelling([conn]):
        lacking, may_create = _lacking(conn, statements)
        left: set[str] = set()
        if lacking and not (target.embedded or may_create):
            left = {each.file.name for each in statements if {*_named(each)} & {*lacking}}
            statements = [each for each in statements if each.file.name not in left]
        made = _make(target, lacking) if lacking and target.embedded else ()
        try:
            changed, warnings = _run(conn, statements)
        except Failed as exc:
            raise _explained(exc, made, () if target.embedded else lacking, target.user) from None
    names = tuple(file.name for file in given if file.name not in left)
    changed |= bool(made)
    return Granted(names, changed, made, lacking, tuple(sorted(left)), target.user, tuple(warnings))


def rehearse(given: Sequence[SqlFile], target: Target) -> Granted:
    """Run the files and roll that back, but for those that name roles that the server lacks.

    Raises Failed with file and line for an error. No role is made.
    """
    statements = _statements(given)
    execute.refuse_control(statements, kind="role")
    with _turn(target), _session(target) as conn, interrupt.cancelling([conn]):
        named, _ = _lacking(conn, statements)
        lacking = tuple(role for role in named if role not in {*_created(statements)})
        left = {each.file.name for each in statements if {*_named(each)} & {*lacking}}
        _, warnings = _run(
            conn, [each for each in statements if each.file.name not in left], keep=False
        )
    names = tuple(file.name for file in given if file.name not in left)
    left_out = tuple(sorted(left))
    return Granted(names, False, (), lacking, left_out, target.user, tuple(warnings))


def lacking(given: Sequence[SqlFile], target: Target) -> tuple[str, ...]:
    """Return the roles for whose lack files would be left out."""
    if target.embedded or not given:
        return ()
    with _session(target, read_only=True) as conn:
        names, may_create = _lacking(conn, _statements(given))
    return () if may_create else names


def _statements(given: Sequence[SqlFile]) -> list[Statement]:
    return [statement for file in given for statement in files.statements(file)]


def _session(target: Target, *, read_only: bool = False) -> AbstractContextManager[Connection]:
    return connection.session(target, read_only=read_only, purpose="roles", own_path=True)


@contextmanager
def _turn(target: Target) -> Iterator[None]:
    """Wait until no other run changes roles: they are the server's, and each run's lock is not."""
    session = connection.session(target.at(target.maintenance), purpose="roles")
    with session as conn, interrupt.cancelling([conn]):
        if not connection.value(conn, _TRY, _KEYS, into=bool):
            report.say(f"waiting for another run that changes roles: {lock.holder(conn, _KEYS)}")
            connection.execute(conn, _TURN, _KEYS)
        try:
            yield
        finally:  # a session may end on the server some time after it is closed here
            with suppress(PgtasksError):
                connection.value(conn, _UNLOCK, _KEYS)


def _run(
    conn: Connection, statements: Sequence[Statement], *, keep: bool = True
) -> tuple[bool, list[str]]:
    """Run the statements in one transaction; return whether that changed anything, and warnings.

    Without `keep` it is rolled back.
    """
    prepare(conn)
    conn.autocommit = False
    before = _privileges(conn)
    warnings = execute.in_turn(conn, statements, prepare)
    after = _privileges(conn)
    with translated():
        if keep:
            conn.commit()
        else:
            conn.rollback()
    return before != after, warnings


def _privileges(conn: Connection) -> object:
    """Return a hash of all roles and privileges."""
    with connection.pinned(conn):
        return connection.value(conn, _PRIVILEGES)


def _explained(exc: Failed, made: Sequence[str], lacking: Sequence[str], user: str) -> Failed:
    """Return an error with what stays of the run, and how the roles come to be there."""
    stays = f" but that {_roles(made)} there now" if made else ""
    hint = [exc.hint] if exc.hint else []
    if lacking:
        hint.append(f"{_roles(lacking)} not there: {_statements_for(lacking, user)}")
    return Failed(f"{exc.message}{stays}", hint="\n".join(hint))


def _lacking(conn: Connection, statements: Sequence[Statement]) -> tuple[tuple[str, ...], bool]:
    """Return the roles that are named and not there, and whether the user may create roles."""
    named = sorted({role for statement in statements for role in _named(statement)})
    with connection.pinned(conn):
        rows = connection.rows(conn, _LACKING, (named,), into=tuple[str, bool])
    return tuple(name for name, _ in rows), all(may for _, may in rows)


def _named(statement: Statement) -> Iterator[str]:
    """Yield the roles of a GRANT, a REVOKE or default privileges that a user can have made."""
    from postgast import pg_query_pb2 as pb

    node = statement.node
    specs: list[pb.Node] = []
    if isinstance(node, pb.AlterDefaultPrivilegesStmt):
        specs += [
            item
            for option in node.options
            if option.def_elem.defname == "roles"
            for item in option.def_elem.arg.list.items
        ]
        node = node.action
    if isinstance(node, pb.GrantStmt):
        specs += node.grantees
    elif isinstance(node, pb.GrantRoleStmt):
        specs += node.grantee_roles
        yield from (
            role for each in node.granted_roles if _is_own(role := each.access_priv.priv_name)
        )
    yield from (role for each in specs if _is_own(role := each.role_spec.rolename))


def _created(statements: Sequence[Statement]) -> Iterator[str]:
    """Yield the roles that the statements create."""
    from postgast import pg_query_pb2 as pb

    for each in statements:
        if isinstance(each.node, pb.CreateRoleStmt):
            yield each.node.role


def _is_own(role: str) -> bool:
    """Return whether it is the name of a role, not of PUBLIC or of one that the server brings."""
    return bool(role) and not role.startswith("pg_")


def _make(target: Target, names: Sequence[str]) -> tuple[str, ...]:
    """Make roles without login on an embedded server, which the user of the target may act as.

    That user may make others members of them, too. A role is never there without its member.
    """
    user = sql.Identifier(target.user)
    statement = sql.SQL("CREATE ROLE {0} NOLOGIN; GRANT {0} TO {1} WITH ADMIN OPTION")
    with connection.session(embedded.as_superuser(target), purpose="roles") as conn:
        for name in names:
            connection.execute(conn, statement.format(sql.Identifier(name), user))
    return tuple(names)
