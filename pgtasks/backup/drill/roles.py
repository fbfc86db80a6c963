"""The roles of a backup, on a throw-away server: they own and are granted, and cannot log in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from psycopg2 import sql

from pgtasks.backup.drill.place import LOGIN
from pgtasks.backup.store.base import Backup
from pgtasks.database import leaving, rights
from pgtasks.errors import Failed
from pgtasks.server import connection
from pgtasks.server.proof.toc import Entry
from pgtasks.settings.target import Target


def named(backup: Backup, archive: Sequence[Entry]) -> set[str]:
    """Return the roles that a backup names: owners, grantees, those of policies and settings."""
    saved = backup.database()
    names = {saved.owner, *saved.roles, *(setting.role for setting in saved.settings)}
    names |= {entry.owner for entry in archive}
    names |= {role for _, roles in leaving.of_roles(archive) for role in roles}
    return {name for name in names if leaving.is_own(name)}


def create(admin: Target, names: Iterable[str]) -> None:
    """Create the roles that do not exist, with the login of the drill as a member.

    A superuser of the source is a plain role here. A role that cannot be created is missing, as it
    would be for a restore.
    """
    wanted = set(names)
    with connection.session(admin, purpose="backup.drill") as conn:
        for name in sorted(wanted - rights.roles(conn, wanted).keys()):
            with suppress(Failed):
                connection.execute(conn, _statement(name))


def _statement(name: str) -> sql.Composed:
    # BYPASSRLS: the proof reads as the owner, whom forced policies would hide rows from
    return sql.SQL("CREATE ROLE {} NOLOGIN BYPASSRLS ROLE {}").format(
        sql.Identifier(name), sql.Identifier(LOGIN)
    )
