"""Whose side database it is: a name is no identity, and a stamp says what its owner wrote."""

from __future__ import annotations

from dataclasses import dataclass

from pgtasks.errors import PgtasksError
from pgtasks.host import journal
from pgtasks.report import typed
from pgtasks.server import connection, stamp
from pgtasks.server.connection import Connection
from pgtasks.server.quoting import quoted
from pgtasks.server.stamp import Stamp
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Claim:
    """What a database of a side database's name says of itself; `run` and `role` are its name's."""

    name: str
    role: str
    run: str
    owner: str
    stamp: Stamp | None
    invalid: bool


@dataclass(frozen=True)
class Ownership:
    """What tells whether a database beside a target is ours.

    It is ours with a stamp of this server and this target, of the run and the role that its name
    says, and with an owner whom we believe. A stamp is a comment, which the owner of a database
    may write as he likes, so that it is the owner that carries it. Believed are

    - the owner of the target;
    - the role that we connect as;
    - whom the target's own stamp names as the owner of what it replaced (`kept_owner`, written by
      a swap that changed the owner), and the stamps of those that are ours by this rule.

    Where the target is gone, so is the word of its owner: believed are the connecting role, and the
    owners that the project's own journal noted at the last restore, undo or drop on this server.

    That a role is a member of another says nothing: up to PostgreSQL 15 every role may make others
    members of itself, a superuser is a member of all, and a database may be given to a group by
    any of its members. But one that is half built is dropped where we are a member of its owner,
    who says himself, by its stamp, that it may go.

    A half-built one that a killed run had no time to stamp has an owner whom we believe, and is
    empty, which only a look inside tells. An invalid one needs no stamp: its owner has dropped it.
    """

    system: str
    target: Target
    target_owner: str  # empty where the target is gone
    owners: frozenset[str]
    memberships: frozenset[str]

    def believing(self, owner: str) -> Ownership:
        """Return the same with one more owner who is believed."""
        owners = self.owners | {owner}
        return Ownership(self.system, self.target, self.target_owner, owners, self.memberships)

    def objection(self, claim: Claim) -> str:
        """Return why a database is none of ours, with the way out; nothing where it is ours."""
        mark = claim.stamp
        if mark is None:
            if claim.role == "old" and not claim.invalid:
                return "no stamp says that a run of ours made it"
            return self._of_owner(claim)
        if (mark.system, mark.database) != (self.system, self.target.database):
            return f"its stamp is of database {mark.database!r} on server {mark.system}"
        if (mark.role, mark.run) != (claim.role, claim.run):
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
    """Return what the server says of a target's owner and of the connecting role."""
    system = stamp.system_identifier(conn)
    user = connection.value(conn, "SELECT current_user")
    found = connection.rows(
        conn,
        f"SELECT pg_get_userbyid(datdba), {stamp.COMMENT} FROM pg_database WHERE datname = %s",
        (target.database,),
    )
    owner, comment = found[0] if found else ("", None)
    owners = {user, owner} - {""}
    if not found:
        owners |= _noted(target, system)
    mark = stamp.split(comment)[1]
    if mark and mark.kept_owner and (mark.system, mark.database) == (system, target.database):
        owners.add(mark.kept_owner)
    return Ownership(system, target, owner, frozenset(owners), _memberships(conn))


def _noted(target: Target, system: str) -> set[str]:
    """Return the owners that the journal noted at the last swap or drop of the target.

    On this server: a role of the same name on another may be anybody.
    """
    try:
        entries, _ = journal.read(target.journal) if target.journal else ([], 0)
    except (OSError, PgtasksError):
        return set()  # another account's, or no file
    for entry in reversed(entries):
        here = (entry.environment, entry.database) == (target.environment, target.database)
        if not here or entry.result != "done" or entry.details.get("system") != system:
            continue
        if entry.task in ("db.restore", "db.undo") and "owner" in entry.details:
            return {str(entry.details["owner"])}
        owners = entry.details.get("owners")
        if entry.task == "db.drop" and isinstance(owners, list):
            return set(map(str, owners))
    return set()


def _memberships(conn: Connection) -> frozenset[str]:
    """Return the roles that the connecting one is a member of; a superuser's right to all is none.

    Not those of PostgreSQL itself, such as pg_monitor: all kinds of roles are members of them.
    """
    found = connection.rows(
        conn,
        "WITH RECURSIVE above (role) AS ("
        "  SELECT oid FROM pg_roles WHERE rolname = current_user"
        "  UNION SELECT m.roleid FROM pg_auth_members m JOIN above ON m.member = above.role)"
        " SELECT rolname FROM above JOIN pg_roles ON oid = role WHERE rolname !~ '^pg_'",
    )
    return frozenset(row[0] for row in found)
