"""Seeds: sets of rows that belong into an environment, as SQL files."""

from __future__ import annotations

from pgtasks.schema.seed.load import Loaded, Outcome
from pgtasks.schema.seed.plan import Listing, Plan, listing, plan
from pgtasks.schema.seed.sets import SeedSet, known

__all__ = ["Listing", "Loaded", "Outcome", "Plan", "SeedSet", "known", "listing", "plan"]
