"""Fill the scratch database from the project's files: what all other checks stand on."""

from __future__ import annotations

from dataclasses import replace

from pgtasks import report
from pgtasks.database import create
from pgtasks.errors import Failed
from pgtasks.schema import migrate, seed, setup, trigger
from pgtasks.schema.step import no_triggers
from pgtasks.server import connection
from pgtasks.server.identity import present
from pgtasks.verify import rows
from pgtasks.verify.check import MIGRATIONS, SETUP, TRIGGERS, Check, Skipped, expect
from pgtasks.verify.place import Place
from pgtasks.verify.scratch import Scratch


def databases(place: Place) -> str:
    """Make both databases, as db.create does."""
    _may_create(place)
    place.lacking = "the scratch databases were not made"  # until they are
    for each in (place.first, place.second):
        if each.identity() is not None:
            raise Failed(f"{each.target.database!r} exists already, and is left as it is")
        place.made.append(each)
        with each.run("db.create") as run, run.writing(missing=True) as lock:
            assert lock is not None
            create.create(lock)
    for each in (place.first, place.second):
        identity = present(each.identity(), each.target)
        expect(
            identity.stamp and identity.stamp.environment == each.name,
            f"{each.target.database!r} has no stamp of {each.name!r}",
        )
    rows.put(place.first.target)
    place.lacking = ""
    return f"{place.first.target.database!r} and its second, on {_server(place.first)}"


def _may_create(place: Place) -> None:
    """Raise Skipped if the role may not create databases, or the server only reads."""
    user, standby, may = connection.rows(
        place.server.maintenance(),
        "SELECT rolname, pg_is_in_recovery(), rolcreatedb OR rolsuper FROM pg_roles"
        " WHERE rolname = current_user",
        into=tuple[str, bool, bool],
    )[0]
    if standby:
        place.lacking = "the server is a standby, which only reads"
    elif not may:
        place.lacking = f"role {user!r} may not create databases (ALTER ROLE ... CREATEDB)"
    if place.lacking:
        raise Skipped(place.lacking)


def _server(scratch: Scratch) -> str:
    with connection.session(scratch.target, read_only=True, purpose="verify") as conn:
        version = connection.value(conn, "SHOW server_version", into=str)
    return f"PostgreSQL {version.split()[0]}"


def migrations(place: Place) -> str:
    """Apply all migrations, as setup does; the trigger files, which it also reads, come next."""
    scripts = migrate.find(place.project)
    if scripts is None:
        raise Skipped("the project has no migrations")
    scripts = replace(scripts, project=None)
    target = place.first.target
    with place.first.run("migrate.up") as run, run.writing():
        identity = present(run.identity, target)
        plan = migrate.plan(scripts, target, identity, "up", "head", exact=True)
        done = migrate.perform(scripts, target, identity, plan)
    done.state.check()
    return f"{report.plural(len(done.applied), 'revision')} applied, {done.state.sentence()}"


def triggers(place: Place) -> str:
    """Apply the files of functions and triggers, as trigger.apply does."""
    files = trigger.read(place.project)
    if not files:
        raise Skipped(no_triggers(place.project))
    with place.first.run("trigger.apply") as run, run.writing():
        done = trigger.apply(files, place.first.target)
    return done.sentence()


def seeds(place: Place) -> str:
    """Load the seed sets of the environment, as seed.load does."""
    target = place.first.target
    if not target.seeds:
        raise Skipped(f"environment {place.chosen.name!r} names no seeds")
    planned = replace(target, environment=place.chosen.name)
    with place.first.run("seed.load") as run, run.writing():
        plan = seed.plan(place.project, planned, (), scale="small", protection="")
        plan.load(target, say=lambda line: None)
    return f"{plan.sentence()}: {setup.count(target)}"


def needed(check: Check, place: Place) -> None:
    """Raise Skipped or Failed where a check has no database, or not what it needs in it."""
    if check.bare:
        return
    if place.lacking:
        raise Skipped(place.lacking)
    for each in check.needs:
        if each in place.failed:
            raise Skipped(f"needs {each}, which failed above")
    if place.first.identity() is None:
        raise Failed(f"there is no database {place.first.target.database!r}")


CHECKS = (
    Check(SETUP, "scratch databases are made and stamped", databases, bare=True),
    Check(SETUP, "all migrations apply to an empty database", migrations, gives=MIGRATIONS),
    Check(SETUP, "the trigger files apply", triggers, gives=TRIGGERS, needs=(MIGRATIONS,)),
    Check(SETUP, "the seeds load", seeds, needs=(MIGRATIONS, TRIGGERS)),
)
