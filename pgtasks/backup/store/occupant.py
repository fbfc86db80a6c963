"""What lies in a store at the place of a backup that is copied there."""

from __future__ import annotations

from dataclasses import dataclass, field

from pgtasks.backup.format import beside
from pgtasks.backup.format.beside import Beside
from pgtasks.backup.format.manifest import NewerFormat
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.store import intact
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.contents import Contents
from pgtasks.backup.store.filestream import Tell
from pgtasks.errors import NotProven, PgtasksError, Refused
from pgtasks.host import journal

_READERS = 2  # processes that read its files


@dataclass(frozen=True)
class Occupant:
    """A copy of a backup, or what is left of one; `fault` says how it differs from it.

    `copy` is None if its manifest cannot be read. `said` is what is said about keeping it.
    """

    copy: Backup | None = None
    fault: str = ""
    said: Retention = field(default_factory=Retention)


def of(backup: Backup, store: Store, tell: Tell | None = None) -> Occupant:
    """Look at what a store has at the place of a backup, and read every byte of an equal one.

    The result of that is recorded. Raises Refused for a different backup, a link, or anything else
    that pgtasks did not put there, NewerFormat for a manifest of a newer one.
    """
    made = backup.manifest
    home = f"{store.home(made.environment, made.database)}/"
    contents = store.list()
    for other in contents.backups:
        if other.id == backup.id and other.lies_in(home):
            _refuse_link(other.place, store, contents)
            said = _said(other.beside or {})  # before the result of reading is recorded
            if other.manifest != made:
                raise _another(backup, f"{store.prefix}{home}")
            return Occupant(other, _fault(other, tell), said)
    for broken in contents.broken_of(made.environment, made.database):
        if broken.name == backup.id:
            _refuse_link(broken.place, store, contents)
            if isinstance(broken.error, NewerFormat):  # nothing else speaks against it
                raise broken.error
            return Occupant(fault=_words(broken.error), said=_said(broken.beside))
    raise _another(backup, f"{store.prefix}{home}")


def _refuse_link(place: str, store: Store, contents: Contents) -> None:
    if place.removeprefix(store.prefix) in contents.links:
        raise Refused(f"{place!r} is a symbolic link, move it away first")


def _another(backup: Backup, home: str) -> Refused:
    where = home.rstrip("/")
    return Refused(f"there is another backup {backup.id} in {where!r}, move it away first")


def _fault(copy: Backup, tell: Tell | None) -> str:
    """Return the first difference of a copy from its manifest; sizes are compared first."""
    fault = copy.store.unfit([copy]).get(copy.id, "")
    when = journal.now()
    try:
        if not fault:
            intact.check(copy, _READERS, tell)
    except NotProven as exc:
        fault = _words(exc)
    found = {"intact": None, "damaged": when} if fault else {"intact": when, "damaged": None}
    copy.record(**found, damage=fault)
    return fault


def _words(error: PgtasksError) -> str:
    """Return what an error says of a file, without the name of its backup."""
    return error.message.rpartition(" is damaged: ")[2]


def _said(known: Beside) -> Retention:
    """Return what is said about keeping a copy, nothing if that cannot be read."""
    try:
        return beside.retention(known)
    except NotProven:
        return Retention()
