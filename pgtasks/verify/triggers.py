"""Checks of trigger files: those of the project agree, a drift is found, a broken file is refused.

The files of roles run, too, and are rolled back: roles are the server's. The other checks use files
of their own, so that they need none of the project.
"""

from __future__ import annotations

from pgtasks import report
from pgtasks.database import wayback
from pgtasks.errors import Failed, NotProven
from pgtasks.schema import privileges, trigger
from pgtasks.schema.step import no_triggers
from pgtasks.server import connection
from pgtasks.settings.project import Project
from pgtasks.verify import rows
from pgtasks.verify.check import (
    MIGRATIONS,
    TRIGGERS,
    Check,
    Skipped,
    as_refused,
    expect,
    refusal,
    without_command,
)
from pgtasks.verify.place import Place

_FUNCTION = """CREATE OR REPLACE FUNCTION pgtasks_verify.mark() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.label := 'marked {}';
    RETURN NEW;
END $$;
"""
_TRIGGER = """CREATE OR REPLACE TRIGGER mark BEFORE UPDATE ON pgtasks_verify.items
FOR EACH ROW EXECUTE FUNCTION pgtasks_verify.mark();
"""
_BROKEN = "CREATE FUNCTION pgtasks_verify.broken() RETURNS trigger LANGUAGE plpgsql AS ;\n"
_NAMES_NOTHING = """CREATE TRIGGER lost BEFORE UPDATE ON pgtasks_verify.items
FOR EACH ROW EXECUTE FUNCTION pgtasks_verify.no_such_function();
"""


def agree(place: Place) -> str:
    """Compare the project's files with the database, as trigger.verify does."""
    files = trigger.read(place.project)
    if not files:
        raise Skipped(no_triggers(place.project))
    found = trigger.verify(files, place.first.target)
    found.check()
    return found.sentence()


def _apply(place: Place, project: Project) -> trigger.Applied:
    with place.first.run("trigger.apply") as run, run.writing():
        return trigger.apply(trigger.read(project), place.first.target)


def _verify(place: Place, project: Project) -> trigger.Verification:
    found = trigger.verify(trigger.read(project), place.first.target)
    found.check(orphans=False)
    return found


def _put(project: Project, path: str, text: str) -> None:
    (project.folder("sql") / path).write_text(text, encoding="utf-8")


def _label(place: Place) -> str:
    """Return the label that a row gets when it is changed; the change is rolled back."""
    with connection.session(place.first.target, purpose="verify") as conn:
        connection.execute(conn, "BEGIN")
        query = f"UPDATE {rows.NAME} SET amount = 0 WHERE id = 1 RETURNING label"
        label = connection.value(conn, query, into=str)
        connection.execute(conn, "ROLLBACK")
    return label


def _dropped(place: Place) -> None:
    """Drop what the checks have installed."""
    rows.run(place.first.target, "DROP FUNCTION IF EXISTS pgtasks_verify.mark() CASCADE")


def drift(place: Place) -> str:
    """Install a trigger, change its function in the database and its file, drop it."""
    project = place.with_sql("drift")
    _put(project, "functions/mark.sql", _FUNCTION.format(1))
    _put(project, "triggers/mark.sql", _TRIGGER)
    try:
        _apply(place, project)
        _verify(place, project)
        expect(_label(place) == "marked 1", "the trigger does not fire")
        rows.run(place.first.target, _FUNCTION.format(2))
        found = refusal(NotProven, "", lambda: _verify(place, project))
        _apply(place, project)
        expect(_label(place) == "marked 1", "the file was not applied again")
        _put(project, "functions/mark.sql", _FUNCTION.format(3))
        refusal(NotProven, "", lambda: _verify(place, project))
        _apply(place, project)
        expect(_label(place) == "marked 3", "the changed file was not applied")
        rows.run(place.first.target, f"DROP TRIGGER mark ON {rows.NAME}")
        refusal(NotProven, "", lambda: _verify(place, project))
        _apply(place, project)
        _verify(place, project)
    finally:
        _dropped(place)
    return f'found, as it should be: "{without_command(found)}"'


def broken(place: Place) -> str:
    """Apply a good file and a broken one: it is named with its line, and nothing is installed."""
    project = place.with_sql("broken")
    _put(project, "functions/mark.sql", _FUNCTION.format(1))
    _put(project, "triggers/broken.sql", _BROKEN)
    try:
        message = refusal(Failed, "broken.sql:1", lambda: _apply(place, project))
        expect(_label(place) != "marked 1", "a part of the files was installed")
    finally:
        _dropped(place)
    return as_refused(message.replace(f"{place.folder}/", ""))


def nothing(place: Place) -> str:
    """Apply a trigger whose function is nowhere."""
    project = place.with_sql("nothing")
    _put(project, "triggers/lost.sql", _NAMES_NOTHING)
    message = refusal(Failed, "no_such_function", lambda: _apply(place, project))
    return as_refused(message.replace(f"{place.folder}/", ""))


def roles(place: Place) -> str:
    """Run the project's files of roles in a transaction that is rolled back."""
    given = privileges.read(place.real)
    if not given:
        raise Skipped(f"no *.sql in {place.real.folder('sql').name}/{wayback.FOLDER}")
    done = privileges.rehearse(given, place.first.target)
    absent = ", ".join(map(repr, done.lacking)) if done.left else ""
    if not done.files:
        raise Skipped(f"no file ran: {absent} not there, which setup may make")
    left = f"; not {', '.join(done.left)}: {absent} not there" if absent else ""
    return f"{report.plural(len(done.files), 'file')} ran and rolled back{left}"


CHECKS = (
    Check(
        *("trigger", "the database has the files as they are", agree), needs=(MIGRATIONS, TRIGGERS)
    ),
    Check("trigger", "a drift is found and mended", drift),
    Check("trigger", "a broken file is refused, nothing is applied", broken),
    Check("trigger", "a trigger without its function is refused", nothing),
    Check("trigger", "the files of roles run", roles, needs=(MIGRATIONS, TRIGGERS)),
)
