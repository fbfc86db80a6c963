"""Which backup a restore works with; on a terminal a list to choose from."""

from __future__ import annotations

import sys
from pathlib import Path

from pgtasks import report
from pgtasks.backup import store
from pgtasks.backup.store import Backup
from pgtasks.errors import Refused
from pgtasks.target import Target


def chosen(folder: Path, target: Target, which: str | None) -> Backup:
    """Return the backup that --backup names; `ask` lists them and reads a number."""
    if which == "ask":
        return _asked(folder, target)
    return store.find(folder, target.environment, target.database, which)


def _asked(folder: Path, target: Target) -> Backup:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused("--backup ask needs a terminal, name the backup: inv backup.list shows them")
    found = store.list_backups(folder, environment=target.environment, database=target.database)
    found = sorted(found, key=lambda backup: backup.id, reverse=True)
    if not found:
        return store.find(folder, target.environment, target.database, None)  # says what is there
    rows = [
        (number, backup.id, backup.manifest.rows, backup.manifest.note)
        for number, backup in enumerate(found, 1)
    ]
    report.say(report.table(("", "backup", "rows", "note"), rows))
    print(f"which one? [1-{len(found)}] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline().strip()
    if not answer.isdecimal() or not 1 <= int(answer) <= len(found):
        raise Refused(f"{answer!r} is none of 1 to {len(found)}, nothing was done")
    return found[int(answer) - 1]
