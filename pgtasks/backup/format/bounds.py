"""Bounds of what a dump unpacks to: a small file can hold a terabyte of zeros.

Checksums do not find it, for whoever writes the dump writes them too. The manifest says how large
the database was; one that says more than it was needs that room on the server, and is refused.
"""

from __future__ import annotations

from pgtasks.backup.format.manifest import Manifest

# A restored database has no dead rows and new indexes, so it is smaller than its source, unless
# values that were compressed there are not compressed any more.
_TIMES_LOADED = 4
_SPARE_LOADED = 256 << 20
# pglz packs 91 bytes into one at most, and a byte of bytea is two characters
_TIMES_TEXT = 256
_SPARE_TEXT = 1 << 30


def most_loaded(manifest: Manifest) -> int:
    """Return the bytes that a database restored from a backup may have."""
    return _TIMES_LOADED * manifest.database_bytes + _SPARE_LOADED


def most_text(manifest: Manifest) -> int:
    """Return the bytes of SQL that the dump of a backup may unpack to."""
    return _TIMES_TEXT * manifest.database_bytes + _SPARE_TEXT
