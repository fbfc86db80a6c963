"""Seeds: sets of rows that belong into an environment, as SQL files.

sets  which sets there are, and where they belong
plan  which sets are loaded where
load  sets loaded through psql, each in one transaction
"""

from __future__ import annotations

from pgtasks.schema.seed.load import Loaded, Outcome
from pgtasks.schema.seed.plan import Listing, Plan, listing, plan
from pgtasks.schema.seed.sets import SeedSet, known

__all__ = ["Listing", "Loaded", "Outcome", "Plan", "SeedSet", "known", "listing", "plan"]
