"""Databases that copies are measured with, each made anew by SQL alone.

`clinic` has many indexes, `pgbench` one long table, `many` 300 tables with next to no rows.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.server import Server
from pgtasks.errors import Failed

_HERE = Path(__file__).resolve().parent
_ROLES = ("clinic_ro", "clinic_app", "clinic_admin")
_PGBENCH = {"small": 1, "medium": 20, "large": 100}  # a unit is 100,000 accounts, 15 MB
_MANY = 300
_ACCOUNTS = """
CREATE TABLE {name} (aid int NOT NULL, bid int, abalance int, filler char(84));
INSERT INTO {name} SELECT i, (i - 1) / 100000 + 1, 0, '' FROM generate_series(1, {rows}) i;
ALTER TABLE {name} ADD PRIMARY KEY (aid);
"""
_OTHERS = """
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int REFERENCES pgbench_branches,
  tbalance int, filler char(84));
CREATE TABLE pgbench_history (tid int REFERENCES pgbench_tellers, bid int, aid int, delta int,
  mtime timestamp, filler char(22));
INSERT INTO pgbench_branches SELECT i, 0, '' FROM generate_series(1, {branches}) i;
INSERT INTO pgbench_tellers SELECT i, (i - 1) / 10 + 1, 0 FROM generate_series(1, {tellers}) i;
ALTER TABLE pgbench_accounts ADD FOREIGN KEY (bid) REFERENCES pgbench_branches;
ALTER TABLE pgbench_history ADD FOREIGN KEY (aid) REFERENCES pgbench_accounts;
"""
_TABLE = """
CREATE TABLE t{i} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ref bigint,
  name text NOT NULL, at timestamptz DEFAULT now());
CREATE INDEX ON t{i} (name);
INSERT INTO t{i} (name) SELECT 'row ' || g FROM generate_series(1, {rows}) g;
"""


def names(scale: str) -> tuple[str, ...]:
    """Return the sets of a scale: the clinic's has one size."""
    return ("clinic", "pgbench", "many") if scale == "large" else ("pgbench", "many")


def roles(server: Server) -> None:
    """Create the roles that the clinic's database grants to."""
    server.execute(*(f"CREATE ROLE {role}" for role in _ROLES))


def load(server: Server, name: str, scale: str) -> None:
    """Fill the database of a set, which has the name of the set."""
    _run(server, name, _SCRIPTS[name](scale))
    server.execute("VACUUM (FREEZE, ANALYZE)", database=name)


def _clinic(scale: str) -> str:
    return (_HERE / "clinic.sql").read_text("utf-8")


def _pgbench(scale: str) -> str:
    branches = _PGBENCH[scale]
    accounts = _ACCOUNTS.format(name="pgbench_accounts", rows=branches * 100_000)
    return accounts + _OTHERS.format(branches=branches, tellers=branches * 10)


def _many(scale: str) -> str:
    tables = [_TABLE.format(i=i, rows=i % 4) for i in range(1, _MANY + 1)]
    keys = (
        f"ALTER TABLE t{i} ADD FOREIGN KEY (ref) REFERENCES t{i - 1} (id);"
        for i in range(2, _MANY + 1)
    )
    return "BEGIN;" + "".join(tables) + "\n".join(keys) + "COMMIT;"


_SCRIPTS = {"clinic": _clinic, "pgbench": _pgbench, "many": _many}


def _run(server: Server, database: str, script: str) -> None:
    argv = [str(server.bin / "psql"), "-qX", "-v", "ON_ERROR_STOP=1", "-d", server.url(database)]
    done = subprocess.run(argv, input=script, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"the set {database!r} was not loaded", hint=done.stderr[-2000:])
