"""Seed sets: rows for an environment, as SQL files.

sets  the sets, and the environments that each may be loaded into
plan  choose the sets to load
load  load sets through psql, each in one transaction
"""

from __future__ import annotations

from pgtasks.schema.seed.load import Loaded, Seeded
from pgtasks.schema.seed.plan import SeedList, SeedPlan, listing, plan
from pgtasks.schema.seed.sets import SeedSet, known

__all__ = ["Loaded", "SeedList", "SeedPlan", "SeedSet", "Seeded", "known", "listing", "plan"]
