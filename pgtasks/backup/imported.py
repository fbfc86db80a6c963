"""Import what is no backup of this folder: a backup of a lost machine, or a dump of somebody else.

A backup has its manifest: every byte is checked, and it is copied. A dump is restored on a
throw-away server, so that nothing of it runs on a server that somebody uses, and backed up there:
what is kept is a backup like any other, with a proof of what the dump restored to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from psycopg2 import sql

from pgtasks.backup import create, views
from pgtasks.backup.drill import perform as drilling
from pgtasks.backup.drill import place
from pgtasks.backup.drill.place import Place
from pgtasks.backup.dump.job import DumpOptions
from pgtasks.backup.foreign import dump as dumps
from pgtasks.backup.foreign import form, reading
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.foreign.reading import readied
from pgtasks.backup.restore import preflight
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.prove import Proven
from pgtasks.backup.store import choice, transfer
from pgtasks.backup.store.backup import Backup, newest_first
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.store.transfer import Transferred
from pgtasks.database import leaving, obstacles
from pgtasks.errors import Refused, VersionMismatch
from pgtasks.report import Console, typed
from pgtasks.report.boundaries import boundary
from pgtasks.report.interruption import telling
from pgtasks.server import connection
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Reached
from pgtasks.settings.target import Target

_OWN = ("postgres", "template0", "template1", place.DATABASE)


@dataclass(frozen=True)
class Rank:
    """Where a backup stands among those of its database; `newest` is None if it is the only one."""

    backup: Backup
    newest: Backup | None  # of the others

    @property
    def first(self) -> bool:
        """Whether it is what `latest` means now."""
        return self.newest is None or newest_first([self.backup, self.newest])[0] == self.backup

    def lines(self) -> list[str]:
        """Return what a person reads."""
        made, others = self.backup.manifest, self.newest
        whose = f"the newest of {made.environment}/{made.database}"
        if not self.first and others:
            keep = typed.task("backup.keep", made.id)
            way = f"backup.prune goes by its time, {keep} keeps it"
            return [f"{whose} stays {others.id}, taken {others.manifest.snapshot_time}: {way}"]
        before = f"before, that was {others.id}" if others else "there was none before"
        takes = f"{typed.task('db.restore')} takes it by default"
        return [f"it is now {whose}, {takes}; {before}"]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"newest": self.first, "newest_other": self.newest.id if self.newest else None}


def ranked(backup: Backup, store: Store) -> Rank:
    """Return where a backup stands among the complete ones of its database in a store."""
    made = backup.manifest
    own = store.list().of(made.environment, made.database)
    others = (each for each in own if each.id != made.id and each.manifest.complete)
    return Rank(backup, next(others, None))


@dataclass(frozen=True)
class Taken:
    """A backup that was copied into the store, for the environment that was `asked` for."""

    copied: Transferred
    rank: Rank
    asked: str

    def lines(self) -> list[str]:
        """Return what a person reads."""
        made = self.copied.backup.manifest
        elsewhere = f"it is of environment {made.environment!r}, as its manifest says, and not of "
        other = [elsewhere + repr(self.asked)] if made.environment != self.asked else []
        return [*self.copied.lines(), *other, *self.rank.lines()]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**self.copied.as_json(), **self.rank.as_json()}


@dataclass(frozen=True)
class Imported:
    """A dump that was made a backup; `proven` is what its restore has shown."""

    backup: Backup
    origin: str
    proven: Proven
    said: Sequence[str]
    rank: Rank

    def lines(self) -> list[str]:
        """Return what a person reads."""
        first, *rest = views.BackupMade(self.backup).lines()
        return [
            f"imported {self.origin}: {self.proven.sentence()}",
            first,
            *rest,
            f"taken {self.backup.manifest.snapshot_time}, which is the time of the file",
            *self.rank.lines(),
            *(f"not proven: {line}" for line in self.said),
            *(f"not applied: {line}" for line in self.proven.omitted),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        document = views.BackupMade(self.backup).as_json()
        said = {"not_proven": list(self.said), "not_applied": list(self.proven.omitted)}
        return {**document, "imported": self.origin, **said, **self.rank.as_json()}


@dataclass(frozen=True)
class ImportPlan:
    """What an import will do."""

    steps: Sequence[str]

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return list(self.steps)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"plan": list(self.steps)}


@dataclass(frozen=True)
class Request:
    """What is imported, for which target, into which store; `options` are those of the restore."""

    path: Path
    target: Target
    store: Store
    options: RestoreOptions
    part: str = ""
    note: str = ""

    def dump(self) -> Dump:
        """Return the dump at the path, raising Refused if it is none."""
        found = form.look(self.path)
        if found is None:
            raise Refused(form.described(self.path))
        return dumps.of(found, part=self.part)


def is_backup(path: Path) -> bool:
    """Return whether a path is that of a backup, by its manifest."""
    return choice.holds_backup(path) or path.name == "manifest.json"


def taken(request: Request, console: Console) -> Taken:
    """Copy a backup of any folder into the store, below its own environment and database.

    A damaged copy that is there goes into the trash, as `transfer.copy` does it.
    """
    store = request.store
    backup = LocalStore(request.path.parent).at(request.path)
    with console.progress("import", backup.manifest.size) as progress:
        copied = transfer.copy(backup, store, progress=progress, stray=True)
    rank = ranked(copied.backup, store)
    return Taken(copied, rank, request.target.environment)


def plan(request: Request) -> ImportPlan:
    """Return the plan of an import; raises what reading a dump in SQL raises."""
    if is_backup(request.path):
        return ImportPlan([f"check    every byte of {str(request.path)!r}", "copy     it"])
    dump, target = request.dump(), request.target
    if dump.plain:
        left = request.options.leave_out
        obstacles.refuse("import", preflight.outside(reading.examined(dump), left))
    home = request.store.home(target.environment, target.database)
    with _opened(dump, request.options, dry=True) as there:
        return ImportPlan(
            [
                f"read     {dump.shown} ({dump.form}), to its end",
                f"restore  it on {there.words}",
                f"back up  what it restored to, into {home}/ID",
            ]
        )


def imported(request: Request, console: Console) -> Imported:
    """Restore a dump on a throw-away server, and back that up.

    Raises what a restore raises; then nothing is in the store.
    """
    dump, name = request.dump(), request.target.database
    if name in _OWN:
        raise Refused(f"a database {name!r} has every server: import for another environment")
    before = _own(request)
    with (
        telling(lambda: _left(_own(request) - before)),
        _opened(dump, request.options, dry=False) as there,
    ):
        assert there.reached is not None
        with there.reached.lock("backup.import") as lock:
            made = _restored(there, lock, dump, request, console)
            boundary("import.restored")
            _rename(there, made.plan.side, name)
        return _backed_up(there, dump, request, made.proven, made.unproven, console)


def _own(request: Request) -> set[str]:
    target = request.target
    own = request.store.list().of(target.environment, target.database)
    return {each.id for each in own}


def _left(new: set[str]) -> str:
    return f"backup {', '.join(new)} is complete" if new else "no backup was made"


@contextmanager
def _opened(dump: Dump, options: RestoreOptions, *, dry: bool) -> Iterator[Place]:
    """Open a throw-away server of the dump's major, or a newer one."""
    manifest = replace(dumps.versioned(dump), id=dump.form.path.name)
    wanted = place.Wanted(place.EMBEDDED, manifest, options, dry=dry)
    try:
        opened = place.opened(wanted, lambda name: closing(Reached(Target("", "", 0, "", ""))))
        with opened as there:
            yield there
    except VersionMismatch as exc:
        words = exc.message.partition(": install")[0].replace("backup ", "", 1)
        raise VersionMismatch(f"{words}: install one") from None


def _restored(
    there: Place, lock: Lock, dump: Dump, request: Request, console: Console
) -> drilling.Rehearsal:
    """Restore the dump beside the place's database, with its roles if that is possible."""
    assert there.reached is not None
    host, options = there.reached.host, request.options
    free = host.free_bytes(there.reached.target.host)
    with readied(dump, lock.target, lock.connection, host, free, console) as ready:
        if ready.form.kind == "tar":
            options = replace(options, jobs=1)  # pg_restore reads a tar with one only
        owned = _owned(ready, request.target.user)
        return drilling.restored(there, lock, host, owned, options, console)


def _owned(dump: Dump, user: str) -> Dump:
    """Return the dump with the owner of most of its objects as that of the database."""
    named = [entry.owner for entry in dump.archive if leaving.is_own(entry.owner)]
    most = Counter([*named, *dump.held.owners]).most_common(1)
    assert dump.saved is not None
    owner = most[0][0] if most else user
    roles = tuple(dict.fromkeys((*dump.saved.roles, *dump.held.owners, owner)))
    saved = replace(dump.saved, owner=owner, roles=roles)
    return replace(dump, saved=saved)


def _rename(there: Place, side: str, name: str) -> None:
    assert there.superuser is not None
    with connection.session(there.superuser.at("postgres"), purpose="backup.import") as conn:
        statement = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        connection.execute(conn, statement.format(sql.Identifier(side), sql.Identifier(name)))


def _backed_up(
    there: Place,
    dump: Dump,
    request: Request,
    proven: Proven,
    said: Sequence[str],
    console: Console,
) -> Imported:
    assert there.reached is not None
    target = replace(
        there.reached.target,
        environment=request.target.environment,
        database=request.target.database,
        jobs=request.options.jobs,
    )
    warnings = (
        f"imported from {dump.origin}, of whose making nothing is known; taken is the file's time",
        *(f"of the import not proven: {line}" for line in said),
        *(f"of the dump not applied: {line}" for line in proven.omitted),
    )
    note = "; ".join(filter(None, (f"imported from {dump.origin}", request.note)))
    options = DumpOptions(note=note, taken=dump.manifest.snapshot_time, said=warnings)
    with closing(Reached(target)) as reached:
        made = create.create(reached, store=request.store, options=options, console=console)
    return Imported(made, dump.origin, proven, said, ranked(made, request.store))
