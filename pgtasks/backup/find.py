"""Where the backups of an environment lie: on this machine, and on its database host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pgtasks.backup.format.backup import Backup
from pgtasks.backup.listing import Listing, There
from pgtasks.backup.store import local, remote, staging
from pgtasks.backup.store.remote import Depot
from pgtasks.errors import PgtasksError, Refused
from pgtasks.host.local import Host
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class Places:
    """The backups folder here, and the one on the target's host, which `landed` logs in to."""

    folder: Path
    target: Target
    landed: Callable[[], Host]

    def depot(self) -> Depot:
        """Return the folder on the host, raising Refused where the target has none."""
        found = remote.of(self.landed(), self.target.ssh) if self.target.ssh else None
        if found is None:
            raise Refused(
                f"environment {self.target.environment!r} has no ssh, "
                "its backups lie on this machine alone"
            )
        return found

    def here(self, which: str | None) -> Backup:
        """Return one of the backups here, as `store.find` does."""
        return local.find(self.folder, self.target.environment, self.target.database, which)

    def there(self, which: str | None, *, small: bool = True) -> Backup:
        """Return one of the backups on the host; with `small` all of it is here but its dump."""
        far, target = self.depot(), self.target
        found = far.mirror().find(target.environment, target.database, which)
        return far.small(found) if small else found

    def find(self, which: str | None, *, on_host: bool = False) -> Backup:
        """Return a backup from here, or from the host where there is none here or `on_host`."""
        if on_host:
            return self.there(which)
        try:
            return self.here(which)
        except Refused as here:
            if not self.target.ssh:
                raise
            try:
                return self.there(which)
            except Refused as there:
                raise Refused(f"{here.message}; {there.message}") from None

    def listing(self, environment: str | None = None) -> Listing:
        """Return what lies here and there; of a host that is not reached, why."""
        shelved = local.look(self.folder)
        unreadable = [(path, why.message) for path, why in shelved.unreadable]
        here = (shelved.of(environment, None), unreadable, staging.leftovers(self.folder))
        return Listing(*here, self._there(environment) if self.target.ssh else None)

    def _there(self, environment: str | None) -> There:
        try:
            mirror = self.depot().mirror()
        except PgtasksError as exc:
            return There(str(self.target.ssh), fault=exc)
        return There(
            mirror.host.name,
            mirror.backups(environment=environment),
            mirror.unreadable(),
            mirror.leftovers(),
        )
