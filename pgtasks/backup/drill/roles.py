"""The roles of a backup, on a throw-away server: they own and are granted, and cannot log in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from psycopg2 import sql

from pgtasks.backup.drill.place import LOGIN
from pgtasks.backup.restore import owners
from pgtasks.backup.store.backup import Backup
from pgtasks.database import leaving, rights
from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.connection import Connection
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target

# kinds of objects that only a superuser may own
_SUPERUSERS = ("EVENT TRIGGER", "FOREIGN DATA WRAPPER", "SUBSCRIPTION")


def named(backup: Backup, archive: Sequence[Entry]) -> set[str]:
    """Return the roles that a backup names: owners, grantees, those of policies and settings."""
    saved = backup.database()
    names = {saved.owner, *saved.roles, *(setting.role for setting in saved.settings)}
    names |= {entry.owner for entry in archive}
    names |= {role for _, roles in leaving.of_roles(archive) for role in roles}
    return {name for name in names if leaving.is_own(name)}


def memberships(conn: Connection, backup: Backup, archive: Sequence[Entry]) -> set[tuple[str, str]]:
    """Return the roles that must be members of others for a load as a plain role.

    To become the owner of an object, a role needs the right to create in its schema. It often has
    that by a grant, which a load restores last; a member of the owner of the schema has it before.
    """
    owner = backup.database().owner
    known = {(member, of or owner) for member, of in owners.within(conn, archive)}
    return {(member, of) for member, of in known if member != of}


def create(
    admin: Target, backup: Backup, archive: Sequence[Entry], *, as_superuser: bool = False
) -> None:
    """Create the roles of a backup that do not exist, with the login of the drill as a member.

    A superuser of the source is a plain role here, unless the load is one and only a superuser may
    own what that role owns. A role that cannot be created is missing, as it would be for a restore;
    two roles cannot be members of each other.
    """
    wanted = named(backup, archive)
    powerful = {entry.owner for entry in archive if as_superuser and entry.desc in _SUPERUSERS}
    with connection.session(admin, purpose="backup.drill") as conn:
        made = sorted(wanted - rights.roles(conn, wanted).keys())
        # a backup may name the roles of this server as its own, the superuser too
        pairs = (pair for pair in memberships(conn, backup, archive) if {*pair} <= {*made})
        for statement in (
            *(_created(name, superuser=name in powerful) for name in made),
            *map(_granted, pairs),
        ):
            with suppress(Failed):
                connection.execute(conn, statement)


def _created(name: str, *, superuser: bool) -> sql.Composed:
    if superuser:  # without members: the login of the drill stays a plain role
        return sql.SQL("CREATE ROLE {} NOLOGIN SUPERUSER").format(sql.Identifier(name))
    # BYPASSRLS: the proof reads as the owner, whom forced policies would hide rows from
    return sql.SQL("CREATE ROLE {} NOLOGIN BYPASSRLS ROLE {}").format(
        sql.Identifier(name), sql.Identifier(LOGIN)
    )


def _granted(pair: tuple[str, str]) -> sql.Composed:
    member, of = map(sql.Identifier, pair)
    return sql.SQL("GRANT {} TO {}").format(of, member)
