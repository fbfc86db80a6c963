"""Restores: a side database is built and proven, then swapped in; the old one stays for undo."""

from __future__ import annotations

from pgtasks.restore.perform import Outcome, restore

__all__ = ["Outcome", "restore"]
