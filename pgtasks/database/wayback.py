"""How a database gets the privileges that a restore or a copy has left out: from sql/roles."""

from __future__ import annotations

from pgtasks.report import typed
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

FOLDER = "roles"  # below the project's sql


def of_grants(project: Project, target: Target) -> tuple[str, ...]:
    """Return the line that a result ends with; none where the project has no files.

    A setup loads the environment's seed sets too.
    """
    folder = project.folder("sql") / FOLDER
    if not any(folder.glob("*.sql")):
        return ()
    too = f", and loads seeds: {', '.join(target.seeds)}" if target.seeds else ""
    return (
        f"grants were left out: {typed.task('setup')} gives those of {project.shown(folder)}{too}",
    )
