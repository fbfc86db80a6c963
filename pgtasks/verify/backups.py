"""Checks of backups: made, listed, proven; a damage is found, a half-made one is no backup."""

from __future__ import annotations

import shutil
from pathlib import Path

from pgtasks.backup import create
from pgtasks.backup import verify as reading
from pgtasks.backup.dump import job
from pgtasks.backup.find import Finder
from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.store import destination
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.local import LocalStore
from pgtasks.errors import NotProven
from pgtasks.host import tools
from pgtasks.report import Console
from pgtasks.schema.setup import count
from pgtasks.verify.check import Check, as_refused, expect, refusal
from pgtasks.verify.place import Place
from pgtasks.verify.scratch import Scratch


def made(scratch: Scratch, *, talk: Console | None = None) -> Backup:
    """Make a backup of a scratch database, as db.backup does."""
    with scratch.run("db.backup", talk=talk) as run, run.reading(keep=True) as reached:
        store = destination.of(reached, run.project.folder("backups"))
        with run.lock():
            return create.create(
                reached,
                store=store,
                options=job.for_target(reached.target, note="verify.all"),
                console=run.console,
            )


def kept(place: Place) -> Backup:
    """Return a backup of the first database, as it is between checks."""
    if place.kept is None:
        place.kept = made(place.first)
    return place.kept


def finder(scratch: Scratch) -> Finder:
    """Return what finds the backups of a scratch database."""
    folder = scratch.project.folder("backups")
    return Finder(folder, scratch.target, lambda: scratch.server.host)


def intact(place: Place) -> str:
    """Make a backup, find it, read all of it, compare its numbers with the database."""
    place.kept = backup = made(place.first)
    made_of = backup.manifest
    expect(
        (made_of.environment, made_of.database) == (place.first.name, place.first.target.database),
        f"the manifest says {made_of.environment}/{made_of.database}",
    )
    expect(made_of.with_proof, "the backup has no proof of its content")
    found = finder(place.first).find(None, "here")
    expect(found.id == backup.id, f"the newest backup is {found.id}, expected {backup.id}")
    counted = count(place.first.target)
    expect(
        counted.uncounted or made_of.rows == counted.rows,
        f"the backup has {made_of.rows} rows, the database {counted.rows}",
    )
    return _read(backup).sentence()


def _read(backup: Backup) -> reading.Verification:
    return reading.verify(backup, backup.host, toolsets=tools.installed(backup.host))


def copied(backup: Backup, base: Path) -> Backup:
    """Return a copy of a backup in another folder."""
    made_of = backup.manifest
    home = Path(LocalStore(base).home(made_of.environment, made_of.database))
    shutil.copytree(backup.path, home / backup.id)
    return LocalStore(base).at(home / backup.id)


def damaged(backup: Backup, base: Path) -> Backup:
    """Return a copy of a backup with one bit changed in its largest file."""
    copy = copied(backup, base)
    name = max(copy.manifest.files, key=lambda each: (copy.path / each).stat().st_size)
    path = copy.path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    return copy


def found_damaged(place: Place) -> str:
    """Change one bit of a copy of the backup, and read it."""
    copy = damaged(kept(place), place.folder / "one-bit")
    return as_refused(refusal(NotProven, copy.id, lambda: _read(copy)))


def half_made(place: Place) -> str:
    """Take the manifest from a copy of the backup, and look for a backup there."""
    base = place.folder / "half-made"
    copy = copied(kept(place), base)
    (copy.path / manifests.NAME).unlink()
    find = Finder(base, place.first.target, lambda: place.server.host)
    message = refusal(NotProven, copy.id, lambda: find.find(None, "here"))
    return as_refused(message.partition(",")[0])


CHECKS = (
    Check("backup", "a backup is made, found, and intact", intact),
    Check("backup", "one changed bit is found", found_damaged),
    Check("backup", "a backup without its manifest is none", half_made),
)
