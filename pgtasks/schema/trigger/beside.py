"""Statements beside functions and triggers that can be compared: GRANT, REVOKE and CREATE TABLE.

GRANT and REVOKE are those of EXECUTE on functions, to PUBLIC or to roles by name; CREATE TABLE is
that with IF NOT EXISTS, which leaves a table alone that exists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgtasks.schema.trigger import installed
from pgtasks.server import connection, parser
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import quoted

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from postgast import pg_query_pb2 as pb

PUBLIC = ""


@dataclass(frozen=True)
class Beside:
    """A statement that is in force or not. `roles` are those of a GRANT or REVOKE."""

    kind: str  # grant or table
    name: str
    where: str
    objects: tuple[str, ...]  # signatures, or the table
    roles: tuple[str, ...] = ()
    granted: bool = True


def read(node: Message | None, where: str) -> Beside | None:
    """Return what a statement says, None if it cannot be compared."""
    from postgast import pg_query_pb2 as pb

    if isinstance(node, pb.CreateStmt) and node.if_not_exists and node.relation.schemaname:
        table = parser.relation(node.relation)
        return Beside("table", table, where, (table,))
    if isinstance(node, pb.GrantStmt) and _is_execute(node):
        functions = tuple(_signature(each.object_with_args) for each in node.objects)
        roles = tuple(_role(each.role_spec) for each in node.grantees)
        verb, preposition = ("GRANT", "TO") if node.is_grant else ("REVOKE", "FROM")
        names = ", ".join(quoted(role) if role else "PUBLIC" for role in roles)
        name = f"{verb} EXECUTE ON {', '.join(functions)} {preposition} {names}"
        return Beside("grant", name, where, functions, roles, granted=node.is_grant)
    return None


def _is_execute(node: pb.GrantStmt) -> bool:
    from postgast import pg_query_pb2 as pb

    kinds = (pb.OBJECT_FUNCTION, pb.OBJECT_PROCEDURE, pb.OBJECT_ROUTINE)
    roles = (pb.ROLESPEC_PUBLIC, pb.ROLESPEC_CSTRING)
    return (
        node.targtype == pb.ACL_TARGET_OBJECT
        and node.objtype in kinds
        and not node.grant_option
        and not node.HasField("grantor")
        and all(each.access_priv.priv_name == "execute" for each in node.privileges)
        and not any(each.object_with_args.args_unspecified for each in node.objects)
        and all(each.role_spec.roletype in roles for each in node.grantees)
    )


def _signature(node: pb.ObjectWithArgs) -> str:
    types = ", ".join(parser.type_text(each.type_name) for each in node.objargs)
    return f"{parser.dotted(node.objname)}({types})"


def _role(node: pb.RoleSpec) -> str:
    return node.rolename or PUBLIC


def in_force(conn: Connection, statements: Sequence[Beside]) -> Iterator[bool]:
    """Yield whether each statement would change nothing."""
    for each in statements:
        if each.kind == "table":
            yield installed.table_oid(conn, each.name) is not None
        else:
            oids = installed.function_oids(conn, each.objects)
            yield None not in oids and _granted(conn, each, [oid or 0 for oid in oids])


_GRANTS = """
SELECT p.oid::bigint, coalesce(r.rolname, '') FROM pg_proc p
CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE p.oid = ANY (%s::oid[]) AND a.privilege_type = 'EXECUTE'
"""


def _granted(conn: Connection, statement: Beside, oids: Sequence[int]) -> bool:
    with connection.pinned(conn):
        grants = set(connection.rows(conn, _GRANTS, (list(oids),), into=tuple[int, str]))
    return all(
        ((oid, role) in grants) == statement.granted for oid in oids for role in statement.roles
    )
