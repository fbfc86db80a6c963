"""The boundaries between the steps of long operations, by name, in one place.

A test halts a run at one of them: with `PGTASKS_HALT_AT=restore.loaded` in its environment the run
says so on stderr when it arrives there and waits for a signal; SIGUSR1 lets it go on. Nothing else
reads the variable.
"""

from __future__ import annotations

import os
import signal
import sys

BACKUP = (
    "backup.begun",  # the folder with its temporary name is there
    "backup.dumping",  # the snapshot is exported, pg_dump runs
    "backup.dumped",  # dump and proof are done, nothing is written of the manifest
    "backup.written",  # every file is written and synced, the manifest too
    "backup.renamed",  # the folder has its final name
)
TRANSFER = (
    "transfer.begun",  # the folder with its temporary name is there
    "transfer.written",  # every file has arrived and is as it was written
)
RESTORE = (
    "restore.checked",  # preflight is over, nothing is touched
    "restore.created",  # the side database is there and has no comment yet
    "restore.marked",  # the side database carries its stamp
    "restore.loading",  # pg_restore runs
    "restore.loaded",  # pg_restore is done
    "restore.proven",  # the side database equals the proof
    "restore.swapped",  # the side database has the target's name
)
RESTORE_ANEW = (
    "restore.anew",  # the schema is in a scratch database besides, to see how it is printed
)
RESTORE_SENT = (
    "restore.sent",  # a backup from here lies on the database host
)
SWAP = (
    "swap.ready",  # the lock is held, the statement is not sent
    "swap.done",  # the statement came back
)
UNDO = (
    "undo.checked",  # the kept database is found, nothing is touched
    "undo.swapped",  # the kept database has the target's name
)
ALL = (*BACKUP, *TRANSFER, *RESTORE_SENT, *RESTORE_ANEW, *RESTORE, *SWAP, *UNDO)


def boundary(step: str) -> None:
    """Pass a step boundary; halt there where a test asks for it."""
    if os.environ.get("PGTASKS_HALT_AT") != step:
        return
    if step not in ALL:
        raise LookupError(f"unknown step {step!r}")
    gone_on: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: gone_on.append(number))
    print(f"halted at {step}", file=sys.stderr, flush=True)
    while not gone_on:
        signal.pause()
