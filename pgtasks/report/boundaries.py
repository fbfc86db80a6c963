"""The boundaries between the steps of long operations, by name, in one place.

A test can halt a run at a step: with `PGTASKS_HALT_AT=restore.loaded` in its environment, the run
prints a line on stderr at that step, and waits for a signal; SIGUSR1 lets it continue. Nothing else
reads the variable.
"""

from __future__ import annotations

import os
import signal
import sys
import time

_LOOK = 0.02  # seconds between two looks for the signal

BACKUP = (
    "backup.begun",  # the folder with its temporary name is there
    "backup.dumping",  # the snapshot is exported, pg_dump runs
    "backup.dumped",  # dump and proof are done, the manifest is not written
    "backup.written",  # every file is written and synced, also the manifest
    "backup.renamed",  # the folder has its final name
)
TRANSFER = (
    "transfer.begun",  # the folder with its temporary name is there
    "transfer.written",  # every file has arrived and was checked
)
TRANSFER_OVER = (
    "transfer.moved",  # a damaged copy is in the trash, the whole one lacks only its final name
)
RESTORE = (
    "restore.checked",  # the preflight is done, nothing is changed
    "restore.created",  # the side database exists and has no comment yet
    "restore.marked",  # the side database has its stamp
    "restore.loading",  # pg_restore runs
    "restore.loaded",  # pg_restore is done
    "restore.proven",  # the side database equals the proof
    "restore.swapped",  # the side database has the target's name
)
RESTORE_ANEW = (
    "restore.anew",  # the schema is also in a scratch database, to see how the server prints it
)
RESTORE_SENT = (
    "restore.sent",  # a local backup was copied to the database host
)
RESTORE_TABLES = (
    "tables.checked",  # the preflight is done, nothing is changed
    "tables.loaded",  # their rows are in the side database
    "tables.locked",  # they are locked in the transaction, nothing is changed in it
    "tables.filled",  # the transaction has the new rows
    "tables.proven",  # it has everything, and is not committed
    "tables.committed",  # it is committed, the side database is there still
)
RESTORE_IN_PLACE = (
    "in-place.checked",  # the preflight is done, nothing is changed
    "in-place.locked",  # the tables are locked in the transaction, nothing is changed in it
    "in-place.cleared",  # the transaction has dropped what was there
    "in-place.loaded",  # it has what the backup has
    "in-place.proven",  # it has everything, and is not committed
    "in-place.committed",  # it is committed, definitions are not compared yet
)
COPY = (
    "copy.checked",  # the preflight is done, nothing is changed
    "copy.dumping",  # the snapshot is exported, pg_dump reads the schema
    "copy.loading",  # what rows need is in the side database, no rows are
    "copy.read",  # all rows are read, the snapshot is released
    "copy.loaded",  # rows and their indexes are in
    "copy.proven",  # the side database equals the snapshot
    "copy.swapped",  # the side database has the target's name
)
COPY_ANEW = (
    "copy.anew",  # the schema is also in a scratch database, to see how the server prints it
)
MIGRATE = (
    "migrate.locked",  # the lock is held, nothing is changed
    "migrate.backed-up",  # the backup is complete
    "migrate.revision",  # a revision has run, and is not committed unless it did that itself
    "migrate.upgraded",  # all revisions are committed
    "migrate.triggers",  # the trigger files agree with the database
    "migrate.verified",  # the database was compared with the files
)
REHEARSE = (
    "rehearse.copied",  # the copy is whole
    "rehearse.upgraded",  # its revisions are applied
    "rehearse.compared",  # they are taken back, and its schema is compared
)
DRILL = (
    "drill.started",  # the throw-away server runs
    "drill.restored",  # the backup is restored and proven, nothing of the drill is recorded
    "drill.asserted",  # the team's assertions have run
    "drill.checked",  # pg_amcheck has run
    "drill.dropped",  # the disposable database is dropped, the result is not recorded
)
DRILL_FETCHED = (
    "drill.fetched",  # the backup was copied from the database host
)
SWAP = (
    "swap.ready",  # the lock is held, the statement is not sent yet
    "swap.done",  # the statement has returned
)
IMPORT = (
    "import.restored",  # a dump of somebody else is in a database of a throw-away server
)
UNDO = (
    "undo.checked",  # the kept database is found, nothing is changed
    "undo.swapped",  # the kept database has the target's name
)
PRUNE = (
    "prune.agreed",  # the lock is held, nothing is changed
    "prune.dropping",  # a backup is in the trash, others that go with it are not
    "prune.dropped",  # all backups that go are in the trash
    "prune.removing",  # one that leaves the trash has the name for that, and is whole
    "prune.emptied",  # all that leave the trash are gone
)
DROP = (
    "drop.agreed",  # the lock is held, nothing is changed
    "drop.dropped",  # the backup is in the trash
)
KEEP = (
    "keep.locked",  # the lock is held, nothing is changed
    "keep.written",  # the backup is kept, released or acknowledged
)
UNTRASH = (
    "untrash.found",  # the lock is held, nothing is changed
    "untrash.moved",  # the backup is at its place
)
CLONE = (
    "clone.ready",  # nothing is changed
    "clone.copied",  # the server has copied the files
    "clone.taken",  # the copy is a clone
    "clone.swapped",  # the clone, or its copy, has the target's name
)
RESET = (
    "reset.ready",  # nothing is changed
    "reset.built",  # the new database is whole
    "reset.swapped",  # it has the target's name
)
VERIFY = (
    "verify.made",  # the scratch databases are there
    "verify.checked",  # a check has ended, and the next one has not begun
)
TRANSFERS = (*TRANSFER, *TRANSFER_OVER)
RESTORES = (*RESTORE_SENT, *RESTORE_ANEW, *RESTORE)
COPIES = (*COPY, *COPY_ANEW)
DRILLS = (*DRILL_FETCHED, *DRILL)
RETENTION = (*PRUNE, *DROP, *KEEP, *UNTRASH)
ALL = (
    *(*BACKUP, *TRANSFERS, *RETENTION, *RESTORES, *RESTORE_TABLES, *RESTORE_IN_PLACE),
    *(*IMPORT, *DRILLS, *COPIES),
    *(*SWAP, *UNDO, *CLONE, *RESET, *MIGRATE, *REHEARSE, *VERIFY),
)


def boundary(step: str) -> None:
    """Pass a step boundary; halt there if a test asks for it."""
    if os.environ.get("PGTASKS_HALT_AT") != step:
        return
    if step not in ALL:
        raise LookupError(f"unknown step {step!r}")
    gone_on: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: gone_on.append(number))
    print(f"halted at {step}", file=sys.stderr, flush=True)
    while not gone_on:
        time.sleep(_LOOK)  # signal.pause misses a signal that comes just before it
