"""Checks of restores: what was lost comes back, an undo takes it back, a damaged one is refused."""

from __future__ import annotations

from pgtasks.backup.drill import drill
from pgtasks.backup.drill import place as places
from pgtasks.backup.restore import Restored, RestoreOptions, restore
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.backup.store.backup import Backup
from pgtasks.database import recover
from pgtasks.database import undo as undos
from pgtasks.database.undo import Undone
from pgtasks.errors import NotProven, VersionMismatch
from pgtasks.server import connection
from pgtasks.verify import backups, rows
from pgtasks.verify.check import Check, Skipped, as_refused, expect, refusal
from pgtasks.verify.place import Place
from pgtasks.verify.scratch import Hushed, Scratch

__all__ = ["CHECKS", "restored", "undone"]


def restored(scratch: Scratch, backup: Backup) -> Restored:
    """Restore a backup into a scratch database, as db.restore does."""
    with scratch.run("db.restore") as run, run.replacing() as permit:
        done = restore(
            *(permit.lock, run.host, backup, RestoreOptions(scratch.target.jobs)),
            console=run.console,
            agreed=permit.agreed,
        )
    assert not isinstance(done, RestorePlan)
    return done


def undone(scratch: Scratch) -> Undone:
    """Undo the last swap of a scratch database, as db.undo does."""
    with scratch.run("db.undo") as run, run.replacing() as permit:
        permit.agreed(undos.plan(permit.lock))
        return undos.undo(permit.lock)


def brought_back(place: Place) -> str:
    """Lose rows, restore, and compare."""
    target = place.first.target
    backup, before = backups.kept(place), rows.content(target)
    rows.lose(target)
    expect(rows.content(target) != before, "the rows were not lost")
    done = restored(place.first, backup)
    after = rows.content(target)
    expect(after == before, f"{after.rows} rows came back, of {before.rows}")
    expect(not rows.has(target, "stray"), "a table that the backup lacks is still there")
    identity = place.first.identity()
    expect(
        identity and identity.stamp and identity.stamp.environment == place.first.name,
        "the restored database has lost its stamp",
    )
    return done.proven.sentence()


def taken_back(place: Place) -> str:
    """Restore over lost rows, undo that, and undo the undo."""
    target = place.first.target
    backup, before = backups.kept(place), rows.content(target)
    rows.lose(target)
    lost = rows.content(target)
    restored(place.first, backup)
    done = undone(place.first)
    expect(rows.content(target) == lost, "the undo did not bring back what was replaced")
    undone(place.first)
    expect(rows.content(target) == before, "an undo of the undo did not bring back the restored")
    return f"swapped back in {done.swapped.seconds * 1000:.0f} ms, and again"


def damage_refused(place: Place) -> str:
    """Restore a damaged copy of the backup: it is refused, and nothing has changed."""
    target = place.first.target
    copy = backups.damaged(backups.kept(place), place.folder / "to-restore")
    before = rows.content(target)
    message = refusal(NotProven, "", lambda: restored(place.first, copy))
    expect(rows.content(target) == before, "the database has changed")
    with connection.session(
        target.at(target.maintenance), read_only=True, purpose="verify"
    ) as conn:
        left = recover.look(conn, target).half_built
    expect(not left, f"{left[0].name!r} was left" if left else "")
    return as_refused(message)


def drilled(place: Place) -> str:
    """Restore the backup on a throw-away server, as backup.drill does."""
    backup = backups.kept(place)
    options = RestoreOptions(place.first.target.jobs, leave_behind=True)
    try:
        with places.throw_away(backup.manifest, options) as there:
            done = drill(there, backup, backup, options, (), console=Hushed())
    except VersionMismatch as exc:
        raise Skipped(f"no server of that major on this machine: {exc.message}") from None
    done.check()
    return f"restored and proven on {there.words}"


CHECKS = (
    Check("restore", "what was lost comes back", brought_back),
    Check("restore", "an undo takes a restore back", taken_back),
    Check("restore", "a damaged backup is refused, nothing changes", damage_refused),
    Check("restore", "the backup passes a drill", drilled),
)
