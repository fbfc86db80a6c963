"""The rights of a load, and the owner of its result: a plain role if there is one.

A load runs code of the backup: defaults, check constraints, functions of indexes. So its sessions
have the rights of the result's owner only, and those of a superuser only if that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pgtasks.server import connection
from pgtasks.server.connection import Connection

Demanding = Callable[[bool], Iterable[str]]  # called with whether grants are restored
_NAMED = 5  # number of roles that a sentence names
# What gives a role the power of a superuser: its own attribute, and membership in roles that may
# run programs or write files on the server, or in a superuser role; until PostgreSQL 15 a role with
# CREATEROLE can make itself a member of those.
_MIGHT = """
CASE WHEN r.rolsuper THEN 'a superuser' ELSE coalesce((
  SELECT 'a member of ' || quote_literal(m.rolname) FROM pg_roles m
  WHERE (m.rolsuper OR m.rolname IN
      ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files'))
    AND pg_has_role(r.oid, m.oid, 'MEMBER') ORDER BY m.rolname LIMIT 1),
  CASE WHEN current_setting('server_version_num')::int < 160000 THEN (
    SELECT CASE WHEN m.oid = r.oid THEN '' ELSE 'a member of ' || quote_literal(m.rolname) || ', '
      END || 'who may create roles' FROM pg_roles m
    WHERE m.rolcreaterole AND pg_has_role(r.oid, m.oid, 'MEMBER')
    ORDER BY m.oid <> r.oid, m.rolname LIMIT 1) END, '') END"""


@dataclass(frozen=True)
class Role:
    """A role of the server.

    `might` says what gives it a superuser's rights: `a superuser`, `a member of 'admin'`; it is
    empty for a plain role.
    """

    name: str
    might: str
    mine: bool  # the connecting role is a member

    @property
    def superuser(self) -> bool:
        """Whether it may do what a superuser may, directly or indirectly."""
        return bool(self.might)


@dataclass(frozen=True)
class LoadRequest:
    """The facts that are known before the server's roles are read.

    `own` means a backup of the same database that is known to come from this project, and `doubt`
    is why it may not be; `elsewhere` one of another environment, for an unprotected target.
    `within` are owners of objects with the owner of their schema, empty for that of the database.
    """

    owner: str  # owner of the result, empty for the connecting role
    roles: tuple[str, ...]  # roles that the backup names
    owners: tuple[str, ...]  # those that own something
    own: bool
    elsewhere: bool
    no_owner: bool = False
    keep_owners: bool = False
    as_superuser: bool = False
    doubt: str = ""
    within: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Rights:
    """The owner of the result, and the role of the load's sessions.

    `mapped` means that owners and grants of the backup are left out, because of `missing`. `role`
    is the role of the sessions, empty for the connecting role. `needs` are the reasons for a
    superuser. `absent` roles do not exist on the server, the connecting role is not a member of the
    `not_mine` ones, and the `shut_out` ones may not create objects where theirs are: all of these
    are obstacles unless the owners are left out.
    """

    user: str
    superuser: bool
    owner: str
    mapped: bool
    missing: tuple[str, ...] = ()
    role: str = ""
    needs: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    not_mine: tuple[str, ...] = ()
    shut_out: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        """Whether the load does not have the rights of a superuser."""
        return bool(self.role) or not self.superuser

    @property
    def held(self) -> bool:
        """Whether the load must not get a superuser's connection."""
        return self.superuser and bool(self.role)

    def lines(self) -> list[str]:
        """Return the lines of the plan."""
        lines = []
        if self.mapped and self.missing:
            lines.append(
                f"all objects will belong to {self.owner!r}, without grants: "
                f"{_listed(self.missing)} of the backup cannot be given anything here "
                "(--keep-owners refuses that)"
            )
        if self.superuser and not self.role:
            why = f": {self.needs[0]}" if self.needs else ""
            lines.append(f"code in the backup runs with the rights of a superuser{why}")
        return lines


def decide(conn: Connection, request: LoadRequest, demanding: Demanding) -> Rights:
    """Return the rights of a load; `demanding` returns the objects that need a superuser.

    If `needs` is not empty and no superuser was asked for, the load must not begin.
    """
    query = f"SELECT rolname, {_MIGHT} FROM pg_roles r WHERE rolname = current_user"
    user, might = connection.rows(conn, query, into=tuple[str, str])[0]
    superuser = bool(might)
    owner = request.owner or user
    known = roles(conn, {owner, *request.roles, *request.owners})
    named = sorted({*request.roles, *request.owners})
    absent = tuple(name for name in named if name not in known)
    not_mine = tuple(name for name in request.owners if name in known and not known[name].mine)
    # a plain role cannot change owners: the new owner would need CREATE in the schema, and has it
    # only at the end of the load
    plain = superuser and not request.as_superuser and owner in known and not known[owner].superuser
    others = [name for name in request.owners if plain and name != owner]
    shut_out = () if superuser else _shut_out(conn, request.within, owner, known)
    missing = tuple(sorted({*absent, *not_mine, *others, *shut_out}))
    mapped = request.no_owner or (request.elsewhere and bool(missing) and not request.keep_owners)
    if owner not in known and mapped and not request.no_owner:
        owner = user
        known = roles(conn, {owner, *request.owners})
    rights = Rights(user, superuser, owner, mapped, missing if mapped else ())
    if not mapped:
        rights = replace(rights, absent=absent, not_mine=not_mine, shut_out=shut_out)
    needs = tuple(_needs(rights, request, known, demanding(not mapped)))
    # the preflight names what a role without a superuser's rights lacks
    if needs or owner not in known or (request.as_superuser and superuser):
        return replace(rights, needs=needs)
    return replace(rights, role=_role(rights, request, known))


def _shut_out(
    conn: Connection, within: Iterable[tuple[str, str]], owner: str, known: Mapping[str, Role]
) -> tuple[str, ...]:
    """Return the roles that cannot become owners: they may not create anything in the schema.

    What grants them that is restored after the objects.
    """
    pairs = {(name, of or owner) for name, of in within} - {(owner, owner)}
    query = "SELECT pg_has_role(%s, %s, 'USAGE') OR %s = current_user"
    return tuple(
        sorted(
            name
            for name, of in pairs
            if name in known and known[name].mine and of in known and name != of
            if not connection.value(conn, query, (name, of, name), into=bool)
        )
    )


def _role(rights: Rights, request: LoadRequest, known: Mapping[str, Role]) -> str:
    if known[rights.owner].superuser:
        return ""  # a database of superusers only, as it was
    if rights.owner == rights.user:
        return ""
    return rights.owner if rights.mapped or set(request.owners) <= {rights.owner} else ""


def _needs(
    rights: Rights, request: LoadRequest, known: Mapping[str, Role], demanding: Iterable[str]
) -> Iterable[str]:
    """Yield the reasons why the load needs the rights of a superuser."""
    if not rights.superuser:
        yield from demanding
        return
    if rights.owner not in known:
        return
    if known[rights.owner].superuser:
        only_superusers = all(name in known and known[name].superuser for name in request.owners)
        if not (request.own and only_superusers and not rights.mapped):
            yield (
                f"the result would belong to {rights.owner!r}, {known[rights.owner].might}"
                f"{request.doubt and f' ({request.doubt})'}: give the database a plain owner "
                "(ALTER DATABASE ... OWNER TO), or connect as one (`user`)"
            )
        return
    others = sorted({*request.owners} - {rights.owner})
    if others and not rights.mapped:
        yield (
            f"{_listed(others)} owning something in it beside the owner, {rights.owner!r}: leave "
            "owners out with --no-owner"
        )
    yield from demanding


def _listed(names: Sequence[str]) -> str:
    noun = "role" if len(names) == 1 else "roles"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{noun} {', '.join(map(repr, names[:_NAMED]))}{more}"


def roles(conn: Connection, names: Iterable[str]) -> dict[str, Role]:
    """Return the roles that exist on the server, by name."""
    rows = connection.rows(
        conn,
        f"SELECT rolname AS name, {_MIGHT} AS might, pg_has_role(oid, 'MEMBER') AS mine"
        " FROM pg_roles r WHERE rolname = ANY(%s)",
        (list(names),),
        into=Role,
    )
    return {role.name: role for role in rows}
