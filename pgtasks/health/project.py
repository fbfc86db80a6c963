"""Check a database against the files of its project, its settings and its backups: db.check --all.

Nothing is written; env.py runs in a read-only session.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pgtasks import report
from pgtasks.backup import find, views
from pgtasks.errors import PgtasksError, Refused
from pgtasks.health import settings
from pgtasks.health.finding import Finding
from pgtasks.report import typed
from pgtasks.schema import migrate, seed, trigger
from pgtasks.server.identity import Identity
from pgtasks.server.reach import Reached
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target


def findings(project: Project, reached: Reached, identity: Identity) -> Iterator[Finding]:
    """Yield what differs, and what is as it should be, in one line each."""
    target = reached.target
    yield from _settings(project, target)
    yield from _migrations(project, target, identity)
    yield from _triggers(project, target)
    yield from _seeds(project, target)
    yield _backup(reached, project.folder("backups"))


def _settings(project: Project, target: Target) -> Iterator[Finding]:
    audit = settings.audit(project, target.environment)
    states = {"fault": "fault", "note": "note", "unchecked": "note"}
    for each in audit.findings:
        yield Finding("settings", states[each.level], each.message)
    if not audit.findings:
        yield Finding("settings", "ok", f"of {target.environment!r} and of the project")


def _migrations(project: Project, target: Target, identity: Identity) -> Iterator[Finding]:
    scripts = migrate.find(project)
    if scripts is None:
        yield Finding("migrations", "ok", "this project has none")
        return
    try:
        state = migrate.status(scripts, target, identity)
    except PgtasksError as exc:
        yield Finding("migrations", "fault", exc.message)
        return
    up_to_date = state.word == "up-to-date"
    way = "" if up_to_date else f": {typed.task('migrate.status')}"
    yield Finding("migrations", "ok" if up_to_date else "fault", f"{state.sentence()}{way}")
    for line in state.invalid_lines():
        yield Finding("index", "fault", line)


def _triggers(project: Project, target: Target) -> Iterator[Finding]:
    files = trigger.read(project)
    if not files:
        yield Finding("triggers", "ok", "this project has no trigger files")
        return
    try:
        verification = trigger.verify(files, target)
    except PgtasksError as exc:
        yield Finding("triggers", "fault", exc.message)
        return
    if verification.faults():
        text = f"{verification.sentence()}: {verification.way_out()}"
        yield Finding("triggers", "fault", text)
        return
    yield Finding("triggers", "ok", verification.sentence())


def _seeds(project: Project, target: Target) -> Iterator[Finding]:
    known = seed.known(project)
    for name in target.seeds:
        if name not in known:
            text = f"unknown seed set {name!r}, known: {', '.join(known) or 'none'}"
            yield Finding("seeds", "fault", text)


def _backup(reached: Reached, folder: Path) -> Finding:
    task = typed.task("db.backup")
    try:
        backup = find.Finder(folder, reached.target, lambda: reached.host).find(None, "newest")
    except Refused:
        return Finding("backup", "note", f"there is none: {task} makes one")
    except PgtasksError as exc:
        return Finding("backup", "fault", exc.message)
    age = report.age(views.age(backup))
    size = report.size(backup.manifest.size)
    checked = f"found intact {when}" if (when := backup.checks.intact) else "never read since"
    return Finding("backup", "ok", f"the newest is {age} old, {size}, {checked}")
