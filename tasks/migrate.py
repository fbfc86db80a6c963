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


@task(
    help={
        "to": f"target: {_TO} (default: head)",
        "sql": _SQL,
        "backup": "back up before the first revision (default); --no-backup omits it",
        "lock_timeout": "time that a statement waits for a lock, as 5s (default), 500ms or 1min",
        "retries": "further attempts after a statement did not get its lock (default: 3)",
    }
)
def up(
    c,
    env=None,
    to="head",
    backup=True,
    lock_timeout=None,
    retries=None,
    confirm=None,
    json=False,
    dry=False,
    sql=False,
):
    """Apply pending migrations. Example: inv migrate.up --dry"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema import migrate
        from pgtasks.schema.migrate import upgrade
        from pgtasks.server.guard import Access

        _with_dry(r, sql)
        options = upgrade.options(to=to, backup=backup, lock_timeout=lock_timeout, retries=retries)
        place = _place(r)
        work = upgrade.Upgrade(r.project, *place, options, console=r.console)
        plan = work.plan(protection=r.protection)
        if r.dry:
            # with --sql functions of the project run: the guard's answer is waited for
            r.guarded(Access.WRITE, confirm=confirm, ask=sql)
            r.finish(plan.with_sql(*place) if sql else plan)
            return
        plan = _agreed(r, plan, Access.WRITE, confirm)
        if not plan.revisions.certain:
            # of several version tables env.py knows which one counts, and it may be asked now
            exact = work.plan(exact=True, protection=r.protection)
            same = exact.revisions.steps == plan.revisions.steps
            plan = exact if same else _agreed(r, exact, Access.WRITE, confirm)
        if plan.is_empty:
            r.finish(upgrade.Upgraded(migrate.nothing_to_do(plan.revisions)))
            return
        with r.lock() as lock:
            r.finish(work.perform(plan, lock, r.reached()))


def _with_dry(r, sql):
    from pgtasks.errors import Refused

    if sql and not r.dry:
        raise Refused("--sql shows the SQL of a plan, add --dry")


def _agreed(r, plan, access, confirm, *, yes=False):
    """Print a plan, and let the guard decide on it, unless it has nothing to do."""
    if not plan.is_empty:
        for line in plan.announcement():
            r.say(line)
        r.guarded(access, confirm=confirm, yes=yes)
    return plan


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
        from pgtasks.schema import migrate, trigger

        _with_dry(r, sql)
        place = _place(r)
        to = migrate.downward(to, steps)
        plan = migrate.plan(*place, "down", to, exact=False)
        if r.dry:
            # with --sql functions of the project run: the guard's answer is waited for
            access = _access_down(plan, sql=sql)
            r.guarded(access, confirm=confirm, yes=yes, ask=sql)
            r.finish(migrate.with_sql(*place, plan) if sql else plan)
            return
        plan = _agreed(r, plan, _access_down(plan), confirm, yes=yes)
        if not plan.certain:
            exact = migrate.plan(*place, "down", to, exact=True)
            same = exact.steps == plan.steps
            plan = exact if same else _agreed(r, exact, _access_down(exact), confirm, yes=yes)
        with r.lock():
            done = migrate.perform(*place, plan)
        r.finish(done.noting(trigger.differences(r.project, r.target)))


def _access_down(plan, *, sql=False):
    """Return what a downgrade does: one that takes rows away has no undo."""
    from pgtasks.server.guard import Access

    return Access.DESTROY if plan.loses_rows and not sql else Access.WRITE


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
