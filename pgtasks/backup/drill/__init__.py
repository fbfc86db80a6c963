"""Drills: restore a backup into a disposable database, prove it, run assertions, drop it.

place       the server of a drill: a throw-away one, or that of an environment
roles       the roles of a backup, on a throw-away server
assertions  the team's queries, whose rows are findings
amcheck     pg_amcheck on the restored database
fetch       bring a backup of a database host to this machine
due         whether the last drill is recent enough
outcome     the plan and the result
perform     run all steps in order
"""

from __future__ import annotations

from pgtasks.backup.drill.outcome import Drilled, DrillPlan
from pgtasks.backup.drill.perform import drill

__all__ = ["DrillPlan", "Drilled", "drill"]
