"""Run Alembic migrations on one target, and on no other database.

scripts      the folder and the configuration of a project's migrations
state        compare the revision of a database with the files
plan         the steps of an upgrade or downgrade, before it runs
lint/        find statements that block others, fail, or lose data
offline      the SQL of revisions, by Alembic's --sql mode
source       find what a revision drops, from its source
losses       find what its SQL drops
envpy        run a project's env.py against one target
foreign      code of plain roles on the version table
application  enter the context of an application that env.py needs
ledger       record the statements that a run has sent and committed
prepared     follow the transactions that a run prepares
perform      run the revisions of a plan
attempts     run them again if a statement did not get its lock
waiting      name the session whose lock a revision waits for
touched      find the tables that a run has changed, and analyze them
pipeline     backup, revisions, statistics: what up and down have in common
upgrade      migrate.up, with the trigger files
downgrade    migrate.down, with the backup that has what it loses
models       compare the models of the project with a database
differing    what Alembic finds, in words, and what it misses
check        migrate.check: heads, models, lint
rehearse     migrate.rehearse: all of it on a copy
copying      the copy on which it is rehearsed
locks        trace the table locks of revisions
files        write revision files: new, empty, a merge
guide        from a new file to the database, for a person
history      list the revisions, and which of them a database has
stamp        write the version table, without running a migration
errors       translate the exceptions of Alembic, SQLAlchemy and the project
"""

from __future__ import annotations

from pgtasks.schema.migrate.check import Checked, check
from pgtasks.schema.migrate.files import Written, merge, new, new_empty
from pgtasks.schema.migrate.history import History, history
from pgtasks.schema.migrate.perform import Migrated, nothing_to_do, perform, plan, status, with_sql
from pgtasks.schema.migrate.plan import MigrationPlan, downward
from pgtasks.schema.migrate.scripts import Scripts, find, needed
from pgtasks.schema.migrate.stamp import Stamped, stamp
from pgtasks.schema.migrate.stamp import plan as stamp_plan
from pgtasks.schema.migrate.state import Revision, State

__all__ = [
    "Checked",
    "History",
    "Migrated",
    "MigrationPlan",
    "Revision",
    "Scripts",
    "Stamped",
    "State",
    "Written",
    "check",
    "downward",
    "find",
    "history",
    "merge",
    "needed",
    "new",
    "new_empty",
    "nothing_to_do",
    "perform",
    "plan",
    "stamp",
    "stamp_plan",
    "status",
    "with_sql",
]
