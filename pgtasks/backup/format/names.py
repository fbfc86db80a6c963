"""The names of the files in a backup's folder, and their greatest sizes."""

from __future__ import annotations

PROOF = "proof.json"
DATABASE = "database.json"
GLOBALS = "globals.sql"
CHECKS = "checks.json"
_DUMPS = {"directory": "dump", "custom": "dump.pgdump"}
# in bytes; a proof of 100,000 tables has 100 million at most
LIMITS = {PROOF: 512 << 20, DATABASE: 16 << 20, GLOBALS: 64 << 20, CHECKS: 64 << 10}


def dump_name(layout: str) -> str:
    """Return the name of the dump in a backup's folder."""
    return _DUMPS[layout]
