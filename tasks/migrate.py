"""Migrations with Alembic, on the database of the environment only."""

from pgtasks import run, task

_TO = "a revision, head, +1 or -1"


@task(
    short={"message": "m"},
    help={
        "message": "description of the revision, for its docstring and file name",
        "empty": "write empty functions, without comparing models and database",
    },
)
def new(c, message=None, env=None, empty=False, json=False):
    """Write a revision file of what the database lacks.

    inv migrate.new -m 'add the notes table'
    """
    with run(c, env=env, json=json, writes=True) as r:
        from pgtasks.schema import migrate

        if empty:
            r.finish(migrate.new_empty(migrate.needed(r.project), message or ""))
        else:
            r.finish(migrate.new(*_place(r), message or ""))


_SQL = "with --dry: show the SQL; the revisions' functions run in Alembic's --sql mode for it"


@task(help={"to": f"target: {_TO} (default: head)", "sql": _SQL})
def up(c, env=None, to="head", confirm=None, json=False, dry=False, sql=False):
    """Apply pending migrations. Example: inv migrate.up --dry"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        _move(r, "up", to, confirm, sql)


@task(
    help={
        "to": "target: a revision, or base for the beginning",
        "steps": "number of revisions to undo (default: 1)",
        "sql": _SQL,
    }
)
def down(
    c,
    env=None,
    to=None,
    steps=None,
    confirm=None,
    yes=False,
    json=False,
    dry=False,
    sql=False,
):
    """Undo migrations, by default the last one. Example: inv migrate.down --steps 2"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema.migrate import downward

        _move(r, "down", downward(to, steps), confirm, sql, yes=yes)


def _move(r, direction, to, confirm, sql, *, yes=None):
    from pgtasks.errors import Refused
    from pgtasks.schema import migrate, trigger
    from pgtasks.server.guard import Access

    if sql and not r.dry:
        raise Refused("--sql shows the SQL of a plan, add --dry")
    place = _place(r)
    plan = migrate.plan(*place, direction, to, exact=False)
    if r.dry:
        # with --sql functions of the project run: the guard's answer is waited for
        access = Access.WRITE if sql else _access(plan, yes)
        r.guarded(access, confirm=confirm, yes=bool(yes), ask=sql)
        r.finish(migrate.with_sql(*place, plan) if sql else plan)
        return
    plan = _agreed(r, plan, confirm, yes)
    if not plan.certain:
        # of several version tables env.py knows which one counts, and it may be asked from here on
        exact = migrate.plan(*place, direction, to, exact=True)
        plan = exact if exact.steps == plan.steps else _agreed(r, exact, confirm, yes)
    with r.lock():
        done = migrate.perform(*place, plan)
    r.finish(done.noting(trigger.differences(r.project, r.target)))


def _access(plan, yes):
    """Return what a plan does: one that takes rows away, on the way down, has no undo."""
    from pgtasks.server.guard import Access

    return Access.DESTROY if plan.loses_rows and yes is not None else Access.WRITE


def _agreed(r, plan, confirm, yes):
    if plan.steps:
        for line in plan.announcement():
            r.say(line)
        r.guarded(_access(plan, yes), confirm=confirm, yes=bool(yes))
    return plan


def _place(r):
    from pgtasks.schema import migrate

    scripts, identity = migrate.needed(r.project), r.look()
    return scripts, r.target, identity


@task(help={"check": "exit 5 unless the database is at the head of the files"})
def status(c, env=None, check=False, json=False):
    """Show applied and pending migrations. Example: inv migrate.status --check"""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import migrate

        scripts = migrate.needed(r.project)
        with r.reading() as reached:
            state = migrate.status(scripts, reached.target, r.identity)
        r.finish(state, check=state.check if check else lambda: None)


@task
def history(c, env=None, json=False):
    """List the revisions, and which of them the database has."""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import migrate

        scripts = migrate.needed(r.project)
        with r.reading() as reached:
            r.finish(migrate.history(scripts, reached.target))


@task(
    short={"message": "m"},
    help={"message": "description of the revision (default: merge A and B)"},
)
def merge(c, message=None, env=None, json=False):
    """Write a revision file that joins several heads.

    inv migrate.merge -m 'merge notes and tags'
    """
    with run(c, env=env, json=json, writes=True) as r:
        from pgtasks.schema import migrate

        r.finish(migrate.merge(migrate.needed(r.project), message or ""))


@task(
    help={
        "to": "revision to write, head or base",
        "purge": "forget the revisions that the version table has, also unknown ones",
    }
)
def stamp(c, to, env=None, purge=False, confirm=None, json=False, dry=False):
    """Write the version table without running a migration.

    inv migrate.stamp head --dry
    """
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema import migrate
        from pgtasks.server.guard import Access

        place = _place(r)
        plan = migrate.stamp_plan(*place, to, purge=purge)
        if not r.dry:
            for line in plan.announcement():
                r.say(line)
        if plan.changes:
            r.guarded(Access.WRITE, confirm=confirm)
        if r.dry or not plan.changes:
            r.finish(plan)
            return
        with r.lock():
            r.finish(migrate.stamp(*place, to, plan, purge=purge))
