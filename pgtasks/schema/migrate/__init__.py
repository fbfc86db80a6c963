"""Migrations: Alembic under a guard that knows which database it is in.

scripts  where a project keeps its migrations
state    what a database's revision is against the project's files
plan     what an upgrade or downgrade would do
source   what a revision takes away, read from its source
losses   what its SQL takes away
envpy    a project's env.py, run against one target
ledger   what a run committed, statement by statement
perform  upgrade, downgrade, new revision files
errors   what Alembic, SQLAlchemy and the project raise, in one line
"""

from __future__ import annotations

from pgtasks.schema.migrate.perform import (
    Outcome,
    Written,
    new,
    new_empty,
    perform,
    plan,
    status,
    with_sql,
)
from pgtasks.schema.migrate.plan import Plan, downward
from pgtasks.schema.migrate.scripts import Scripts, find, needed
from pgtasks.schema.migrate.state import Revision, State

__all__ = [
    "Outcome",
    "Plan",
    "Revision",
    "Scripts",
    "State",
    "Written",
    "downward",
    "find",
    "needed",
    "new",
    "new_empty",
    "perform",
    "plan",
    "status",
    "with_sql",
]
