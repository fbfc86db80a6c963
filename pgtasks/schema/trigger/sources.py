"""The sources of a project's triggers: its SQL files, and the rules of its settings."""

from __future__ import annotations

from pgtasks.errors import Refused
from pgtasks.schema.trigger import files, rules
from pgtasks.schema.trigger.files import FOLDERS, SqlFile
from pgtasks.settings.project import Project


def read(project: Project, *, base: bool = False) -> tuple[SqlFile, ...]:
    """Return the files in the order of their application: functions, rules, triggers, by name.

    With `base` these are the files of functions alone.
    """
    functions, triggers = FOLDERS
    if base:
        return tuple(files.read(project, (functions,)))
    return (
        *files.read(project, (functions,)),
        *rules.read(project),
        *files.read(project, (triggers,)),
    )


def needed(project: Project, *, base: bool = False) -> tuple[SqlFile, ...]:
    """Return the files, raising Refused if there are none."""
    sources = read(project, base=base)
    if not sources:
        sql = project.folder("sql").name
        folders = f"{sql}/functions holds" if base else f"{sql}/functions and {sql}/triggers hold"
        raise Refused(f"no trigger files here: {folders} no *.sql")
    return sources
