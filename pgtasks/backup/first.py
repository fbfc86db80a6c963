"""A backup of the target before a copy replaces it, or a migration changes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.host import journal
from pgtasks.report import Console, account
from pgtasks.server.reach import Reached

if TYPE_CHECKING:  # migrations import this module, and copy nothing
    from pgtasks.backup.restore.inplace.plan import InPlacePlan
    from pgtasks.backup.restore.tables.plan import TablesPlan
    from pgtasks.backup.store.backup import Backup
    from pgtasks.copy.plan import CopyPlan


def backing_up(
    agreed: Callable[[CopyPlan], bool], reached: Reached, folder: Path, *, console: Console
) -> Callable[[CopyPlan], bool]:
    """Return `agreed` with a backup of the target after a yes, if the plan has one.

    The caller holds the lock of the target. A failure of the backup ends the copy before it begins.
    """

    def decide(plan: CopyPlan) -> bool:
        if not agreed(plan):
            return False
        if plan.backs_up:
            origin = f"{plan.source.environment}/{plan.source.database}"
            backup = taken(reached, folder, note=f"before db.copy of {origin}", console=console)
            console.say(f"backed up {plan.target}: {backup.id}")
        return True

    return decide


def keeping(
    agreed: Callable[[TablesPlan | InPlacePlan], bool],
    reached: Reached,
    folder: Path,
    *,
    console: Console,
) -> Callable[[TablesPlan | InPlacePlan], str | None]:
    """Return the same for a restore without undo: the ID of the backup, None after a no."""

    def decide(plan: TablesPlan | InPlacePlan) -> str | None:
        if not agreed(plan):
            return None
        if not plan.backs_up:
            return ""
        backup = taken(reached, folder, note=plan.purpose, console=console)
        console.say(f"backed up {plan.target}: {backup.id}")
        return backup.id

    return decide


def taken(reached: Reached, folder: Path, *, note: str, console: Console) -> Backup:
    """Return a new backup of the target; the caller holds its lock.

    It gets a line of its own in the journal, by which a restore knows that it is ours, also if the
    run that took it fails or is killed.
    """
    # most runs take none, and begin sooner without these modules
    from pgtasks.backup import create
    from pgtasks.backup.dump import job
    from pgtasks.backup.store import destination
    from pgtasks.backup.views import BackupMade

    target = reached.target
    options = job.for_target(target, note=note)
    store = destination.of(reached, folder)
    backup = create.create(reached, store=store, options=options, console=console)
    entry = journal.Entry(
        when=journal.now(),
        who=account.who(),
        task="db.backup",
        environment=target.environment,
        database=target.database,
        result="done",
        seconds=round(backup.manifest.seconds, 3),
        details=BackupMade(backup).as_json(),
    )
    journal.append(folder, entry)
    return backup
