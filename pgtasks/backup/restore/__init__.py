"""Restores: a side database is built and proven, then swapped in; the old one stays for undo.

choose     which backup
options    what the command line says
survey     all that is needed, found out before anything is touched; it makes the plan
plan       what is built from what, what would be lost
rights     who owns the result, and with whose rights it is loaded
demands    what only a superuser restores
leaving    what --leave-out goes without
preflight  what stands in the way, found by looking
trying     what stands in the way, found by trying
build      the side database: created, filled, proven
load       pg_restore and statistics
prove      its rows and its schema compared with the backup's
intact     what the load did to databases themselves
perform    all of it, in order
outcome    what it did
"""

from __future__ import annotations

from pgtasks.backup.restore.choose import chosen, doubt
from pgtasks.backup.restore.options import Options
from pgtasks.backup.restore.outcome import Outcome
from pgtasks.backup.restore.perform import restore

__all__ = ["Options", "Outcome", "chosen", "doubt", "restore"]
