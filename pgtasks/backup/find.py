"""Find the backup that `--backup` means, on this machine and on the database host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pgtasks import report
from pgtasks.backup import views
from pgtasks.backup.foreign import dump as dumps
from pgtasks.backup.foreign import form
from pgtasks.backup.listing import BackupList, StorePart, described
from pgtasks.backup.store import choice
from pgtasks.backup.store.backup import Backup, newest_first
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.faults import UnreadableManifest
from pgtasks.backup.store.local import LocalStore
from pgtasks.errors import PgtasksError, Refused
from pgtasks.host.base import Host
from pgtasks.report import CONSOLE, typed
from pgtasks.settings.target import Target

Look = Literal["here", "there", "nearest", "newest"]
"""Where to look: in one place; here and, for what is not here, there; in both for the newest."""


@dataclass(frozen=True)
class Finder:
    """The stores of a target: the backups folder here, and that of the host, after a login."""

    folder: Path
    target: Target
    landed: Callable[[], Host]

    @property
    def here(self) -> Store:
        """Return the backups folder of this machine."""
        return LocalStore(self.folder)

    def store(self, *, on_host: bool) -> Store:
        """Return the backups folder of the host, or of this machine."""
        return self.there() if on_host else self.here

    def store_of(self, backup: Backup) -> Store:
        """Return the store in which a backup was found."""
        return self.here if backup.store.name == self.here.name else self.there()

    def there(self) -> Store:
        """Return the store on the host, raising Refused if the target has none."""
        from pgtasks.backup.store import remote

        store = remote.of(self.landed(), self.target.ssh) if self.target.ssh else None
        if store is None:
            raise Refused(
                f"environment {self.target.environment!r} has no ssh, "
                "its backups are on this machine only"
            )
        return store

    def find_any(self, which: str | None, look: Look = "nearest", *, part: str = "") -> Backup:
        """Return the backup that a user names, as `find` does, or the dump of somebody else.

        `part` is a database of a dump of pg_dumpall; raises Refused if it is given for a backup.
        """
        dump = form.found(which)
        if dump is not None:
            return dumps.of(dump, part=part)
        if part:
            raise Refused(f"--part {part!r} is for a dump of pg_dumpall, this is none")
        try:
            return self.find(which, look)
        except Refused:
            if which is None or choice.kind(which) in ("latest", "ask") or form.is_id(which):
                raise
            path = Path(which).expanduser()
            if choice.holds_backup(path) or (self.target.ssh and not path.exists()):
                raise
            raise Refused(form.described(path)) from None

    def find(self, which: str | None, look: Look = "nearest") -> Backup:
        """Return the backup that a user names: latest (or None), ask, a path or an ID.

        `ask` lists the backups on the terminal and reads a number. Raises Refused if there is none,
        UnreadableManifest if its manifest cannot be read.
        """
        kind = choice.kind(which)
        if kind == "ask":
            which = self._ask(look)
        if look == "here" or not (self.target.ssh or look == "there"):
            return self._in(self.here, which)
        if look == "there":
            return self._in(self.there(), which)
        return self._newest(which) if look == "newest" and kind != "path" else self._nearest(which)

    def _in(self, store: Store, which: str | None) -> Backup:
        return store.find(self.target.environment, self.target.database, which)

    def _nearest(self, which: str | None) -> Backup:
        try:
            return self._in(self.here, which)
        except Refused as here:
            try:
                return self._in(self.there(), which)
            except Refused as there:
                raise Refused(f"{here.message}; {there.message}") from None

    def _newest(self, which: str | None) -> Backup:
        """Return the newest backup of both stores; if both have it, the one on the host."""
        backups, refused, unreadable = [], [], []
        for store in (self.there(), self.here):
            try:
                backups.append(self._in(store, which))
            except Refused as exc:
                refused.append(exc.message)
            except UnreadableManifest as exc:
                unreadable.append(exc)
        for broken in unreadable:
            # no newer backup is skipped if the other store has the same one, or a newer one
            if not any(backup.id >= broken.id for backup in backups):
                raise broken
        if not backups:
            raise Refused("; on this machine: ".join(refused))
        return newest_first(backups)[0]

    def handy(self, which: str | None) -> Backup:
        """Return the backup that a user names as `find` does, for the newest in both stores.

        If both have it, this is the one here, which needs no transfer.
        """
        found = self.find(which, "newest")
        if not self.target.ssh:
            return found
        twins = [each for each in self._own(self.here) if each.manifest == found.manifest]
        return next((twin for twin in twins if not twin.checks.damaged), found)

    def own(self) -> list[Backup]:
        """Return the backups of the database in both stores, as far as they can be read."""
        listed = self.listing(self.target.environment)
        kept = (each for part in listed.parts for each in part.contents.backups)
        return [each for each in kept if each.manifest.database == self.target.database]

    def _ask(self, look: Look) -> str | None:
        """Return the ID of the backup that a person chooses from a list, None if there is none."""
        shows = typed.task("backup.list")
        CONSOLE.require(f"--backup ask needs a terminal, name the backup: {shows} shows them")
        backups = {backup.id: backup for store in self._stores(look) for backup in self._own(store)}
        offered = newest_first(backups.values())
        if not offered:
            return None
        latest = next((each for each in offered if each.manifest.complete), None)
        rows = [_offer(each, latest=each is latest) for each in offered]
        headings = ("backup", "age", "rows", "state", "note")
        number = CONSOLE.choose(headings, rows, whole=("backup", "state"))
        if number is None:
            raise Refused("no backup was chosen, nothing was done")
        return offered[number].id

    def _stores(self, look: Look) -> Sequence[Store]:
        here = [self.here] if look != "there" else []
        return [*here, self.there()] if self.target.ssh and look != "here" else here

    def _own(self, store: Store) -> Sequence[Backup]:
        return store.list().of(self.target.environment, self.target.database)

    def listing(self, environment: str | None = None) -> BackupList:
        """Return the backups of both stores, and the error if the host cannot be reached."""
        parts = [StorePart(self.here.name, self.here.list().only(environment))]
        if self.target.ssh:
            parts.append(self._part_there(environment))
        return BackupList(parts, f"{self.target.environment}/{self.target.database}")

    def _part_there(self, environment: str | None) -> StorePart:
        try:
            store = self.there()
            return StorePart(store.name, store.list().only(environment))
        except PgtasksError as exc:
            return StorePart(str(self.target.ssh), fault=exc)


def _offer(backup: Backup, *, latest: bool) -> tuple[str | int | None, ...]:
    """Return the cells of a backup that is offered; `latest` is that of a run without --backup."""
    checks = backup.checks
    proven = "proven" if checks.proven else "-"
    state = "DAMAGED" if checks.damaged else "FAILED" if checks.failed else proven
    words = "; ".join(filter(None, ("latest" if latest else "", described(backup))))
    return backup.id, report.age(views.age(backup)), backup.manifest.shown_rows, state, words
