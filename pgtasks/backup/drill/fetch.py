"""Bring a backup of a database host to this machine for the length of a drill."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pgtasks import report
from pgtasks.backup.format import files
from pgtasks.backup.format import manifest as manifests
from pgtasks.backup.store import transfer
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.local import LocalStore
from pgtasks.host.base import Host
from pgtasks.host.local import HERE
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary


@contextmanager
def at_hand(backup: Backup, host: Host, backups: Path, console: Console) -> Iterator[Backup]:
    """Yield the backup, or a copy here if it is on another host than this machine and `host`.

    The copy is removed at the end, or by the next run. `backups` is the folder here.
    """
    if backup.host in (HERE, host):
        yield backup
        return
    began, size = time.monotonic(), backup.manifest.size
    with ExitStack() as stack:
        with console.progress("fetch", size) as progress:
            lent = transfer.lent(backup, LocalStore(backups), progress=progress)
            copy = stack.enter_context(lent)
        seconds = report.duration(time.monotonic() - began)
        console.say(f"fetched from {backup.host.name}: {report.size(size)} in {seconds}")
        folder = Path(copy.folder)
        files.write(folder / manifests.NAME, manifests.text(copy.manifest))
        boundary("drill.fetched")
        yield replace(copy, path=folder)
