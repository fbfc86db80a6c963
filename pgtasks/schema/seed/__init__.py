"""Seed sets: rows for an environment, as files of SQL or Python.

sets       the sets, and the environments that each may be loaded into
record     the sets that a database has, in its stamp
plan       choose the sets to load
load       load sets, each in one transaction
python     run a set in Python
sequences  set sequences behind the rows of a set
"""

from __future__ import annotations

from pgtasks.schema.seed.load import Loaded, Seeded
from pgtasks.schema.seed.plan import SeedList, SeedPlan, listing, plan
from pgtasks.schema.seed.sets import SeedSet, known

__all__ = ["Loaded", "SeedList", "SeedPlan", "SeedSet", "Seeded", "known", "listing", "plan"]
