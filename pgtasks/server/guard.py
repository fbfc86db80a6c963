"""The guard: decide whether a task may work on a target.

Three facts must agree: the chosen environment, the stamp in the database, and the database and the
server that the connection itself reports. Reads are allowed unless the stamp contradicts them,
because a backup with the wrong label is dangerous too.
"""

from __future__ import annotations

import enum
import shlex
from dataclasses import dataclass

from pgtasks.errors import Refused
from pgtasks.report import typed
from pgtasks.server.identity import Identity
from pgtasks.server.stamp import BESIDE


class Access(enum.Enum):
    """What a task does to a database."""

    READ = "read"
    WRITE = "write"  # changes content; an undo or a backup restores it
    DESTROY = "destroy"  # has no undo: drop, forget, a downgrade that deletes rows
    DISCARD = "discard"  # drops backups, which stay in the trash for some days
    STAMP = "stamp"  # writes the stamp itself, so a foreign one does not matter

    @property
    def warning(self) -> str:
        """Return what a person should know before a yes, empty if nobody is asked for one."""
        return _WARNINGS.get(self, "")


_WARNINGS = {
    Access.DESTROY: "this cannot be undone",
    Access.DISCARD: "this drops backups",
}


@dataclass(frozen=True)
class Evidence:
    """The facts for the decision. `identity` is None if the database does not exist.

    `lineage` are the environments that the chosen one inherits from: a standby has the stamp of
    its primary, which may be one of them.
    """

    access: Access
    environment: str
    database: str
    protected: bool
    identity: Identity | None
    terminal: bool
    confirm: str | None = None
    yes: bool = False
    lineage: tuple[str, ...] = ()
    insists: str = ""  # the reason why the name must be typed on any target


class Decision(enum.Enum):
    """What must happen before the task may continue."""

    GO = "nothing"
    TYPE_NAME = "the database's name must be typed"
    ASK = "yes or no"


def decide(facts: Evidence) -> Decision:
    """Return what must happen first, raising Refused if the task must not continue."""
    _check_facts_agree(facts)
    if facts.access is Access.READ:
        return Decision.GO
    if facts.identity is not None and facts.identity.standby:
        raise Refused("the server is a standby, which only reads: name its primary")
    if facts.confirm is not None and facts.confirm != facts.database:
        raise Refused(
            f"--confirm {facts.confirm!r} is not the database's name, expected {facts.database!r}"
        )
    if why := protection(facts):
        return _name_needed(facts, why)
    if facts.access.warning and not facts.yes and facts.confirm is None:
        if facts.terminal:
            return Decision.ASK
        raise Refused(
            f"{facts.access.warning} and there is no terminal to ask on, "
            f"add --yes or {_confirm(facts.database)}"
        )
    return Decision.GO


def protection(facts: Evidence) -> str:
    """Return why the target counts as protected, or an empty text."""
    if facts.protected:
        return f"environment {facts.environment!r} is protected"
    if facts.insists:
        return facts.insists
    identity = facts.identity
    if identity is None:
        return ""
    if identity.stamp is None and not identity.empty:
        return f"database {facts.database!r} has content and no stamp, so it counts as protected"
    if facts.access is Access.STAMP and (contradiction := _contradiction(facts, identity)):
        # with a wrong new stamp, another environment's database would be open to every write
        return contradiction
    return ""


def reason(facts: Evidence) -> str:
    """Return why the guard asks."""
    return protection(facts) or facts.access.warning


def _name_needed(facts: Evidence, why: str) -> Decision:
    if facts.confirm == facts.database:
        return Decision.GO
    if facts.terminal:
        return Decision.TYPE_NAME
    raise Refused(f"{why}, add {_confirm(facts.database)}")


def _confirm(name: str) -> str:
    """Return the flag quoted for a shell; $'...' works in bash, zsh and ksh."""
    if name.isprintable():
        return f"--confirm {shlex.quote(name)}"
    text = "".join(_escaped(char) for char in name)
    return f"--confirm $'{text}'"


def _escaped(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    if char.isprintable():
        return char
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def _check_facts_agree(facts: Evidence) -> None:
    identity = facts.identity
    if identity is None:
        return
    if identity.database != facts.database:
        raise Refused(
            f"the connection is in database {identity.database!r}, "
            f"expected {facts.database!r}: is a pooler in between?"
        )
    contradiction = _contradiction(facts, identity)
    if contradiction and facts.access is not Access.STAMP:
        raise Refused(f"{contradiction}: {_way_out(facts, identity)}")


def _way_out(facts: Evidence, identity: Identity) -> str:
    if identity.standby and identity.stamp is not None:
        other = identity.stamp.environment
        return (
            "it is a standby, with the stamp of its primary: choose that one, or let "
            f"{facts.environment!r} inherit from it (inherits: {other})"
        )
    if identity.stamp is not None and identity.stamp.environment.startswith(BESIDE):
        where = identity.stamp.origin or "a backup"
        return (
            f"it was restored from {where} beside the database, if it is {facts.environment!r} now,"
            f" run {typed.task('env.stamp')}"
        )
    choose = "" if identity.foreign else "choose that one, or "
    return f"{choose}if it is {facts.environment!r} now, run {typed.task('env.stamp')}"


def _contradiction(facts: Evidence, identity: Identity) -> str:
    """Return how the stamp contradicts the chosen environment, or an empty text."""
    stamp = identity.stamp
    if stamp is None:
        return ""
    if identity.foreign:
        return (
            f"the stamp in {identity.database!r} (server {identity.system}) belongs to "
            f"database {stamp.database!r} on server {stamp.system}, environment "
            f"{stamp.environment!r}"
        )
    if identity.standby and stamp.environment in facts.lineage:
        return ""
    if stamp.environment != facts.environment:
        return (
            f"database {identity.database!r} is stamped {stamp.environment!r}, "
            f"the chosen environment is {facts.environment!r}"
        )
    return ""
