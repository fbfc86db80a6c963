"""Migrations: Alembic under a guard that knows which database it is in."""

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
