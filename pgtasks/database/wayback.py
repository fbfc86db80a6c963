"""How a database gets the privileges that a restore or a copy has left out: from sql/roles."""

from __future__ import annotations

from pgtasks.host import sources
from pgtasks.report import typed
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target

FOLDER = "roles"  # below the project's sql


def of_grants(project: Project, target: Target) -> tuple[str, ...]:
    """Return the line that a result ends with; none where the project has no files.

    A setup loads the environment's seed sets too. The work is done: nothing is raised any more.
    """
    folder = project.folder("sql") / FOLDER
    try:
        if not sources.listed(folder, ".sql"):
            return ()
    except OSError as exc:
        return (f"grants were left out, {project.shown(folder)} cannot be read: {exc.strerror}",)
    too = f", and loads seeds: {', '.join(target.seeds)}" if target.seeds else ""
    return (
        f"grants were left out: {typed.task('setup')} gives those of {project.shown(folder)}{too}",
    )
