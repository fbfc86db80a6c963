"""The names of the files in the folder of a backup, and their maximum sizes."""

from __future__ import annotations

PROOF = "proof.json"
DATABASE = "database.json"
GLOBALS = "globals.sql"
CHECKS = "checks.json"
RETENTION = "retention.json"
BESIDE = (CHECKS, RETENTION)  # written after the manifest, and not in it
_DUMPS = {"directory": "dump", "custom": "dump.pgdump"}
# in bytes; a proof of 100,000 tables has at most 100 million
LIMITS = {
    PROOF: 512 << 20,
    DATABASE: 16 << 20,
    GLOBALS: 64 << 20,
    CHECKS: 64 << 10,
    RETENTION: 64 << 10,
}


def dump_name(layout: str) -> str:
    """Return the name of the dump in the folder of a backup."""
    return _DUMPS[layout]
