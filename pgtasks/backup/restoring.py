"""The task db.restore: choose the backup and the way, let the guard decide, restore."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pgtasks.backup import first
from pgtasks.backup.find import Finder
from pgtasks.backup.foreign import dump as dumps
from pgtasks.backup.restore.doubt import doubt
from pgtasks.backup.restore.inplace.outcome import RestoredInPlace
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.outcome import Restored
from pgtasks.backup.restore.perform import restore
from pgtasks.backup.store.backup import Backup
from pgtasks.database import wayback

if TYPE_CHECKING:
    from pgtasks.cli.permit import Permit
    from pgtasks.cli.run import Run


def perform(
    r: Run,
    backup: str | None,
    options: RestoreOptions,
    *,
    part: str = "",
    masked: bool = False,
    confirm: str | None = None,
    yes: bool = False,
) -> None:
    """Restore the backup that was named, by default the newest one, and finish the run.

    `part` is a database of a dump of pg_dumpall. Raises Refused for flags that exclude each other.
    """
    options.check(masked=masked)
    permit = _permit(r, options, confirm=confirm, yes=yes)
    folder = r.project.folder("backups")
    chosen = Finder(folder, r.target, r.landed).find_any(backup, "newest", part=part)
    options = replace(options, doubt=doubt(chosen, folder, r.project.root))
    dumps.refuse(
        chosen,
        masked=masked,
        only_tables=options.only_tables,
        role_map=options.role_map,
        create_roles=options.create_roles,
    )
    if masked:
        options = _with_masks(r, chosen, options)
    with permit:
        done = _restored(r, permit, chosen, options)
        if isinstance(done, (Restored, RestoredInPlace)) and done.without_grants:
            done = replace(done, way_back=wayback.of_grants(r.project, r.target))
        r.finish(done)


def _permit(r: Run, options: RestoreOptions, *, confirm: str | None, yes: bool) -> Permit:
    """Ask the guard: what goes into the live database has no undo."""
    if options.has_undo:
        return r.replacing(confirm=confirm, insists=options.insists)
    return r.destroying(confirm=confirm, yes=yes, insists=options.insists, shows=True)


def _with_masks(r: Run, backup: Backup, options: RestoreOptions) -> RestoreOptions:
    """Return the options with the rules of the backup's environment, which is not the target's."""
    from pgtasks.copy import arrive
    from pgtasks.copy.mask.settings import of_backup

    return replace(
        options,
        masks=of_backup(r.project, backup.manifest.environment),
        arrival=arrive.found(r.project.folder("sql") / "arrive", r.project.root),
    )


def _restored(r: Run, permit: Permit, backup: Backup, options: RestoreOptions) -> Any:
    """Restore by the way of the options; return the result, or the plan after a no."""
    if options.has_undo:
        return restore(
            *(permit.lock, r.host, backup, options), console=r.console, agreed=permit.agreed
        )
    from pgtasks.backup.restore.inplace import restore_in_place
    from pgtasks.backup.restore.tables import restore_tables

    agreed = first.keeping(
        permit.agreed, r.reached(), r.project.folder("backups"), console=r.console
    )
    way = restore_in_place if options.in_place else restore_tables
    return way(permit.lock, r.host, backup, options, console=r.console, agreed=agreed)
