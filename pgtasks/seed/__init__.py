"""Seeds: sets of rows that belong into an environment, as SQL files."""

from __future__ import annotations

from pgtasks.seed.load import Loaded, Outcome
from pgtasks.seed.plan import Listing, Plan, listing, plan
from pgtasks.seed.sets import SeedSet, known

__all__ = ["Listing", "Loaded", "Outcome", "Plan", "SeedSet", "known", "listing", "plan"]
