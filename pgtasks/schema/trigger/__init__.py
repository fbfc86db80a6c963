"""Functions and triggers in files: apply them in one transaction, compare them with the database.

files        the project's SQL files of functions and triggers
rules        triggers for every table with certain columns
sources      all of these, in order
expected     the functions and triggers that the files describe
beside       statements beside them that can be compared
installed    the functions and triggers in the catalog
normalize    normal forms, to compare two definitions
expression   compare two expressions as the server plans them
fingerprint  the comment that tells whether a file or the database has changed
verify       compare the files with the database
choice       choose the statements that must run
checks       check that the functions of triggers exist
execute      run statements, with file and line in errors
apply        apply what differs, in one transaction
listing      list the triggers of files and database
diff         show how their definitions differ
drop         drop triggers by name or table, or orphans
touch        the tables that a statement of a migration touches
detached     a trigger that is dropped for a while
step         keep triggers in step with migrations
add          files of the library's own triggers, whose texts are in library/
watch        apply the files whenever one is saved
cases        the tests of triggers, SQL files with expectations in comments
trial        run them, each in a transaction that is rolled back
tap          their results as TAP and as JUnit's XML
"""

from __future__ import annotations

from pgtasks.errors import PgtasksError
from pgtasks.schema.trigger.apply import Applied, apply, plan
from pgtasks.schema.trigger.diff import Diffs, diff
from pgtasks.schema.trigger.drop import Dropped, Selection, drop
from pgtasks.schema.trigger.drop import plan as plan_drop
from pgtasks.schema.trigger.listing import Listing, listing
from pgtasks.schema.trigger.sources import needed, read
from pgtasks.schema.trigger.verify import Difference, Verification, verify
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

__all__ = [
    "Applied",
    "Difference",
    "Diffs",
    "Dropped",
    "Listing",
    "Selection",
    "Verification",
    "apply",
    "diff",
    "differences",
    "drop",
    "listing",
    "needed",
    "plan",
    "plan_drop",
    "read",
    "verify",
]


def differences(project: Project, target: Target) -> tuple[str, ...]:
    """Return a warning if files and database differ, or if they cannot be compared."""
    try:
        files = read(project)
        verification = verify(files, target) if files else None
    except PgtasksError as exc:
        return (f"trigger files were not compared with the database: {exc.message}",)
    if verification is None:
        return ()
    if not verification.faults():
        return ()
    return (f"trigger files differ: {verification.sentence()}: {verification.way_out()}",)
