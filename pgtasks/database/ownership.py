"""Decide whether a side database is pgtasks' own, by its stamp and its owner."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pgtasks.errors import PgtasksError
from pgtasks.host import journal
from pgtasks.host.journal import Entry
from pgtasks.report import typed
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.identity import system_identifier
from pgtasks.server.quoting import quoted
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target

_SWAPS = ("db.restore", "db.copy", "db.undo", "db.reset", "db.drop-tables", "clone.back")


@dataclass(frozen=True)
class Claim:
    """A database with the name of a side database; `run` and `role` come from the name."""

    name: str
    role: str
    run: str
    owner: str
    stamp: Stamp | None
    invalid: bool


@dataclass(frozen=True)
class Ownership:
    """The facts that decide whether a database beside a target is ours.

    It is ours if its stamp names this server, this target, and the run and the role of its name,
    and if we trust its owner. The stamp is a comment, which the owner of a database may write, so
    the owner decides. We trust

    - the owner of the target;
    - the role that we connect as;
    - the owner of the replaced database that the target's own stamp names (`kept_owner`, written by
      a swap that changed the owner), and those named by stamps that are ours by this rule.

    If the target does not exist, we trust the connecting role, and the owners that the project's
    own journal recorded at the last swap or drop on this server.

    Membership proves nothing: up to PostgreSQL 15 every role may make others members of itself, a
    superuser is a member of all roles, and any member of a group may give a database to the group.
    But an incomplete side database may be dropped if we are a member of its owner, who allows that
    with the stamp.

    A side database that a killed run had no time to stamp has an owner that we trust, and is empty
    or has the connection limit of a copy, which the caller checks. An invalid database needs no
    stamp: its owner has dropped it.
    """

    system: str
    target: Target
    target_owner: str  # empty if the target does not exist
    owners: frozenset[str]
    memberships: frozenset[str]

    def believing(self, owner: str) -> Ownership:
        """Return the same facts with one more trusted owner."""
        owners = self.owners | {owner}
        return Ownership(self.system, self.target, self.target_owner, owners, self.memberships)

    def objection(self, claim: Claim) -> str:
        """Return why a database is not ours, with the way out; an empty text if it is ours."""
        its_stamp = claim.stamp
        if its_stamp is None:
            if claim.role != "new" and not claim.invalid:
                return "no stamp says that a run of ours made it"
            return self._of_owner(claim)
        if (its_stamp.system, its_stamp.database) != (self.system, self.target.database):
            return f"its stamp is of database {its_stamp.database!r} on server {its_stamp.system}"
        if (its_stamp.role, its_stamp.run) != (claim.role, claim.run):
            return "its stamp is not of the run in its name"
        return self._of_owner(claim)

    def _of_owner(self, claim: Claim) -> str:
        if claim.owner in self.owners:
            return ""
        if claim.role == "new" and claim.stamp and claim.owner in self.memberships:
            return ""
        name = self.target.database
        alter = f"if it is yours, ALTER DATABASE {quoted(claim.name)}"
        if self.target_owner:
            owner = self.target_owner
            other = f"not to {owner!r} as {name!r} does"
            return f"it belongs to {claim.owner!r}, {other}: {alter} OWNER TO {quoted(owner)}"
        way = f"{alter} RENAME TO {quoted(name)}, then {typed.task('db.recover')}"
        return f"it belongs to {claim.owner!r}, and {name!r} is gone, whose owner would tell: {way}"


def of(conn: Connection, target: Target) -> Ownership:
    """Read the owner of a target and the connecting role from the server."""
    system = system_identifier(conn)
    user = connection.value(conn, "SELECT current_user", into=str)
    seen = connection.row(
        conn,
        f"SELECT pg_get_userbyid(datdba), {stamp.COMMENT} FROM pg_database WHERE datname = %s",
        (target.database,),
        into=tuple[str, str | None],
    )
    owner, comment = seen or ("", None)
    owners = {user, owner} - {""}
    if seen is None:
        owners |= _noted(target, system)
    target_stamp = stamp.split(comment)[1]
    if (
        target_stamp
        and target_stamp.kept_owner
        and (target_stamp.system, target_stamp.database) == (system, target.database)
    ):
        owners.add(target_stamp.kept_owner)
    return Ownership(system, target, owner, frozenset(owners), _memberships(conn))


def _noted(target: Target, system: str) -> set[str]:
    """Return the owners that the journal recorded at the last swap or drop of the target.

    Only on this server: a role of the same name on another server can be anybody.
    """
    if target.journal is None:
        return set()
    try:
        return _last_noted(
            journal.latest(target.journal, target.environment, system), target, system
        )
    except (OSError, PgtasksError):
        return set()  # the file belongs to another account, or is not a file


def _last_noted(entries: Iterable[Entry], target: Target, system: str) -> set[str]:
    for entry in entries:
        here = (entry.environment, entry.database) == (target.environment, target.database)
        if not here or entry.result != "done" or entry.details.get("system") != system:
            continue
        if entry.task in _SWAPS and "owner" in entry.details:
            return {str(entry.details["owner"])}
        owners = entry.details.get("owners")
        if entry.task == "db.drop" and isinstance(owners, list):
            return set(map(str, owners))
    return set()


def _memberships(conn: Connection) -> frozenset[str]:
    """Return the roles that the connecting role is a direct or indirect member of.

    A superuser's right to all roles does not count, nor do predefined roles such as pg_monitor.
    """
    names = connection.rows(
        conn,
        "WITH RECURSIVE above (role) AS ("
        "  SELECT oid FROM pg_roles WHERE rolname = current_user"
        "  UNION SELECT m.roleid FROM pg_auth_members m JOIN above ON m.member = above.role)"
        " SELECT rolname FROM above JOIN pg_roles ON oid = role WHERE rolname !~ '^pg_'",
        into=str,
    )
    return frozenset(names)
