"""Restores: a side database is built and proven, then swapped in; the old one stays for undo."""

from __future__ import annotations

from pgtasks.restore.perform import Options, Outcome, restore
from pgtasks.restore.pick import chosen

__all__ = ["Options", "Outcome", "chosen", "restore"]
