"""Leftovers of interrupted runs, and damaged backups."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pgtasks import report
from pgtasks.backup.prune import facts, loss
from pgtasks.backup.store import remote
from pgtasks.backup.store.local import LocalStore
from pgtasks.database import kept
from pgtasks.database.aside import Aside
from pgtasks.database.recover import Leftovers
from pgtasks.errors import PgtasksError
from pgtasks.health.finding import Finding
from pgtasks.host import tempfiles
from pgtasks.report import typed
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target


def findings(
    beside: Leftovers, logins: Iterable[str], backups: Iterable[Finding], *, running: str
) -> Iterator[Finding]:
    """Yield the databases and roles beside a database; `running` is the holder of its lock."""
    recover = typed.task("db.recover")
    for half in beside.half_built:
        if running:  # which may be building it
            yield Finding("running", "note", f"{half.name!r}, not finished: {running}")
            continue
        when = "" if half.stamp else " if it is empty, because it has no stamp"
        text = f"{half.name!r}, half built: {recover} drops it{when}"
        yield Finding("left over", "note", text)
    for broken in beside.broken:
        text = f"{broken.name!r}, invalid by an interrupted DROP DATABASE: {recover} drops it"
        yield Finding("left over", "note", text)
    for login in logins:
        if running:
            yield Finding("running", "note", f"role {login!r}, a login of a restore: {running}")
            continue
        text = f"role {login!r}, the login of a restore: {recover} drops it, or says why not"
        yield Finding("left over", "note", text)
    yield from backups
    for other in beside.alone:
        yield Finding("left alone", "note", f"{other.name!r}: {other.alone}")
    for number, side in enumerate(reversed(beside.kept)):
        undo = typed.task("db.undo", f"--to {side.run}" if number else "")
        yield Finding("kept", "note", f"{side}: for {undo}, until {typed.task('db.forget')}")
    for line in kept.crowd(beside.kept):
        yield Finding("kept", "note", line)
    if beside.clones:
        clones = report.plural(len(beside.clones), "clone")
        size = report.size(sum(side.bytes or 0 for side in beside.clones))
        yield Finding("clones", "note", f"{clones}, {size}: see {typed.task('clone.list')}")


def scratches(names: Iterable[str]) -> Iterator[Finding]:
    """Yield the scratch databases that killed runs of feature checks have left."""
    recover = typed.task("db.recover")
    for name in names:
        yield Finding("left over", "note", f"{name!r}, of a killed verify.all: {recover} drops it")


def beside(asides: Iterable[Aside]) -> Iterator[Finding]:
    """Yield the databases that were restored beside one."""
    for each in asides:
        yield Finding("beside", "note", f"{each}: restored beside it, {each.drop} drops it")


def broken(target: Target, backups: Path) -> Iterator[Finding]:
    """Yield the unusable backups on this machine; it is a fault if that is the newest one."""
    contents = LocalStore(backups).list()
    own = contents.of(target.environment, target.database)
    unreadable = contents.broken_of(target.environment, target.database)
    newest = max((*(each.id for each in own), *(each.name for each in unreadable)), default="")
    for each in unreadable:
        text = f"{each.name} cannot be read: {each.error.message}"
        yield Finding("backup", "fault" if each.name == newest else "note", text)
    for backup in own:
        if when := backup.checks.damaged:
            text = f"{backup.id} was damaged at {when}: {backup.checks.damage}"
            yield Finding("backup", "fault" if backup.id == newest else "note", text)


def lossy(target: Target, backups: Path) -> Iterator[Finding]:
    """Yield the oldest backup on this machine with a loss that nobody has acknowledged."""
    own = LocalStore(backups).list().of(target.environment, target.database)
    for backup in facts.stopping(own)[:1]:
        yield Finding("backup", "note", loss.warning(backup))


def interrupted(reached: Reached, backups: Path) -> Iterator[Finding]:
    """Yield files of interrupted runs, on this machine and on the database host."""
    left = [*LocalStore(backups).list().interrupted]
    try:
        store = remote.of(reached.host, reached.target.ssh)
        left += store.list().interrupted if store else []
    except PgtasksError as exc:
        yield Finding("left over", "note", f"not checked on the host: {exc.message}")
    for path in left:
        yield Finding(
            "left over", "note", f"{path}, an interrupted backup: {typed.task('db.recover')}"
        )
    for file in tempfiles.left(tempfile.gettempdir()):
        holds = ", which may contain a password" if file.suffix == ".pgpass" else ""
        text = f"{file}, of a killed run{holds}: {typed.task('db.recover')} removes it"
        yield Finding("left over", "note", text)
