"""Functions and triggers as files: applied in one transaction, compared with the database.

files       the project's SQL files of functions and triggers
expected    what the files say that a database has
installed   what the catalog says that it has
normalize   what two definitions must have in common to be the same
expression  whether two expressions are the same to the server
verify      files and database compared
apply       the files applied, in one transaction
"""

from __future__ import annotations

from pgtasks.schema.trigger.apply import Applied, apply, plan
from pgtasks.schema.trigger.files import needed, read
from pgtasks.schema.trigger.verify import Finding, Verification, verify
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

__all__ = [
    "Applied",
    "Finding",
    "Verification",
    "apply",
    "differences",
    "needed",
    "plan",
    "read",
    "verify",
]


def differences(project: Project, target: Target) -> tuple[str, ...]:
    """Return a line for who has just migrated, nothing where files and database agree."""
    files = read(project)
    if not files:
        return ()
    found = verify(files, target)
    if not found.faults():
        return ()
    return (f"trigger files differ: {found.sentence()}: {found.way_out()}",)
