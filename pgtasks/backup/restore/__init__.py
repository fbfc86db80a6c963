"""Restores: build and prove a side database, then swap it in and keep the old one for undo.

doubt       decide whether a backup may come from somebody else
options     the options of the command line
survey      collect everything that a restore needs, and make the plan
remarks     what a person should know before, and stops nothing
plan        the plan: what is built and replaced, what would be lost
preflight   find obstacles by reading
trying      find obstacles by trying, in a transaction rolled back
build       create, load and prove the side database
owners      the owners of a backup's objects, and what they need
rolemap     give what is of some roles to others
load        run pg_restore and gather statistics
statistics  the planner's statistics: those that a dump brings, and those to gather
growth      end a load before it fills the disk
script      run a dump in SQL, one statement at a time
feed        the rows that its driver reads and writes
prove       compare rows and schema with the backup
counted     compare the number of rows with the dump of somebody else
perform     run all steps in order
masked      mask the restored database
tables      restore single tables into the live database
inplace     replace the content of the live database in one transaction
locking     lock tables of the live database
commit      what became of a transaction in the live database
outcome     the result
"""

from __future__ import annotations

from pgtasks.backup.restore.doubt import doubt
from pgtasks.backup.restore.options import RestoreOptions
from pgtasks.backup.restore.outcome import Restored
from pgtasks.backup.restore.perform import restore

__all__ = ["RestoreOptions", "Restored", "doubt", "restore"]
