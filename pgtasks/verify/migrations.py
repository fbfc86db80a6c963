"""Checks of migrations: at the head, one taken back and applied again, an unknown one refused."""

from __future__ import annotations

from pgtasks.errors import PgtasksError, Refused
from pgtasks.schema import migrate
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.server.identity import present
from pgtasks.verify import copies, rows
from pgtasks.verify.check import MIGRATIONS, TRIGGERS, Check, Skipped, as_refused, expect, refusal
from pgtasks.verify.place import Place
from pgtasks.verify.scratch import Scratch


def _scripts(place: Place) -> Scripts:
    scripts = migrate.find(place.project)
    if scripts is None:
        raise Skipped("the project has no migrations")
    return scripts


def _moved(place: Place, scratch: Scratch, direction: str, to: str) -> migrate.Migrated:
    """Move a database to a revision, as migrate.up and migrate.down do."""
    scripts, target = _scripts(place), scratch.target
    with scratch.run(f"migrate.{direction}") as run, run.writing():
        identity = present(run.identity, target)
        plan = migrate.plan(scripts, target, identity, direction, to, exact=True)
        return migrate.perform(scripts, target, identity, plan)


def at_head(place: Place) -> str:
    """Compare the revision of the database with the files, as migrate.status --check does."""
    scripts, target = _scripts(place), place.first.target
    with place.first.run("migrate.status") as run, run.reading():
        state = migrate.status(scripts, target, present(run.identity, target))
    state.check()
    return state.sentence()


def down_and_up(place: Place) -> str:
    """Take the last revision back in the second database, and apply it again."""
    scripts, second = _scripts(place), place.second
    copies.copied(place.first, second)
    with second.run("migrate.status") as run, run.reading():
        before = migrate.status(scripts, second.target, present(run.identity, second.target))
    if not before.current:
        raise Skipped("no revision is applied")
    try:
        down = _moved(place, second, "down", "-1")
    except PgtasksError as exc:
        if "NotImplementedError" in f"{exc.message} {exc.hint}":
            raise Skipped("the last revision cannot be taken back: NotImplementedError") from None
        raise
    expect(down.applied, "nothing was taken back")
    expect(down.state.word == "behind" or not down.state.current, down.state.sentence())
    if copies.differences(place.first, second, rows=False).equal:
        raise Skipped(f"the downgrade of {down.applied[0].revision.id} changes nothing")
    up = _moved(place, second, "up", "head")
    expect(up.state.current == before.current, up.state.sentence())
    return f"{down.applied[0].revision} in both directions"


def unknown(place: Place) -> str:
    """Ask for a revision that no file has."""
    before = rows.content(place.first.target)
    first, name = place.first, "no_such_revision"
    message = refusal(Refused, name, lambda: _moved(place, first, "up", name))
    expect(rows.content(place.first.target) == before, "the database has changed")
    return as_refused(message)


CHECKS = (
    Check("migrate", "the database is at the head of the files", at_head, needs=(MIGRATIONS,)),
    Check(
        *("migrate", "the last revision goes down and up again", down_and_up),
        needs=(MIGRATIONS, TRIGGERS),  # a migration that loses a trigger makes it again
    ),
    Check("migrate", "an unknown revision is refused", unknown, needs=(MIGRATIONS,)),
)
