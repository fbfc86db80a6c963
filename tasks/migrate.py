"""Migrations with Alembic, on the database of the environment only."""

from pgtasks import run, task

_TO = "a revision, head, +1 or -1"


_APP = "MODULE:FACTORY of an application that env.py needs (default: app in invoke.yaml)"


@task(
    short={"message": "m"},
    help={
        "message": "description of the revision, for its docstring and file name",
        "empty": "write empty functions, without comparing models and database",
        "backup_first": "back up the database before the file is written",
        "up": "apply the revision, as migrate.up does; a terminal asks",
        "app": _APP,
    },
)
def new(
    c,
    message=None,
    env=None,
    empty=False,
    backup_first=False,
    up=False,
    app=None,
    confirm=None,
    json=False,
):
    """Write a revision file of what the database lacks.

    inv migrate.new -m 'add the notes table'
    """
    with run(c, env=env, json=json, journaled=up or backup_first, writes=True) as r:
        from pgtasks.schema import migrate

        if backup_first:
            _back_up(r, f"before migrate.new: {message or ''}".strip(": "))
        if empty:
            written = migrate.new_empty(migrate.needed(r.project, app=app), message or "")
        else:
            written = migrate.new(*_place(r, app), message or "")
        if not up and r.console.interactive and not json:
            from pgtasks.schema.migrate.guide import guide

            scripts = migrate.needed(r.project, app=app)
            if not guide(written, scripts, lambda: _place(r, app), console=r.console):
                return
            r.journaled = up = True
        elif up:
            for line in written.lines():
                r.say(line)
        if not up:
            r.finish(written)
            return
        from pgtasks.schema.migrate.pipeline import PipelineOptions
        from pgtasks.schema.migrate.upgrade import Upgrade

        _move(r, Upgrade, PipelineOptions("head"), app, confirm, False)


def _back_up(r, note):
    from pgtasks.backup import first

    with r.reading() as reached, r.lock():
        backup = first.taken(reached, r.project.folder("backups"), note=note, console=r.console)
    r.say(f"backed up {r.target}: {backup.id}")


_SQL = "with --dry: show the SQL; the revisions' functions run in Alembic's --sql mode for it"


_WAIT = {
    "sql": _SQL,
    "backup": "back up before the first revision (default); --no-backup omits it",
    "lock_timeout": "time that a statement waits for a lock, as 5s (default), 500ms or 1min",
    "retries": "further attempts after a statement did not get its lock (default: 3)",
    "app": _APP,
}


_LINT = "print what the linter finds (default): the revisions run in --sql mode; or --no-lint"


@task(help={"to": f"target: {_TO} (default: head)", "lint": _LINT, **_WAIT})
def up(
    c,
    env=None,
    to="head",
    backup=True,
    lint=True,
    lock_timeout=None,
    retries=None,
    app=None,
    confirm=None,
    json=False,
    dry=False,
    sql=False,
):
    """Apply pending migrations. Example: inv migrate.up --dry"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema.migrate.attempts import patience
        from pgtasks.schema.migrate.pipeline import PipelineOptions
        from pgtasks.schema.migrate.upgrade import Upgrade

        options = PipelineOptions(to, backup, lint, patience(lock_timeout, retries))
        _move(r, Upgrade, options, app, confirm, sql)


@task(
    help={
        "to": "target: a revision, or base for the beginning",
        "steps": "number of revisions to undo (default: 1)",
        **_WAIT,
    }
)
def down(
    c,
    env=None,
    to=None,
    steps=None,
    backup=True,
    lock_timeout=None,
    retries=None,
    app=None,
    confirm=None,
    yes=False,
    json=False,
    dry=False,
    sql=False,
):
    """Undo migrations, by default the last one. Example: inv migrate.down --steps 2"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema.migrate import downward
        from pgtasks.schema.migrate.attempts import patience
        from pgtasks.schema.migrate.downgrade import Downgrade
        from pgtasks.schema.migrate.pipeline import PipelineOptions

        waits = patience(lock_timeout, retries)
        options = PipelineOptions(downward(to, steps), backup, False, waits)
        _move(r, Downgrade, options, app, confirm, sql, yes)


def _move(r, pipeline, options, app, confirm, sql, yes=None):
    """Plan, ask, and perform an upgrade or a downgrade, which may take rows away."""
    from pgtasks.errors import Refused
    from pgtasks.schema import migrate
    from pgtasks.schema.migrate.pipeline import Moved

    if sql and not r.dry:
        raise Refused("--sql shows the SQL of a plan, add --dry")
    place = _place(r, app)
    work = pipeline(r.project, *place, options, console=r.console)
    plan = work.plan(protection=r.protection)
    if r.dry:
        # with --sql functions of the project run: the guard's answer is waited for
        r.guarded(_access(plan, yes, sql), confirm=confirm, yes=bool(yes), ask=sql)
        r.finish(plan.with_sql(*place) if sql else plan)
        return
    plan = _agreed(r, plan, confirm, yes)
    if not plan.revisions.certain:
        # of several version tables env.py knows which one counts, and it may be asked from here on
        exact = work.plan(exact=True, protection=r.protection)
        same = exact.revisions.steps == plan.revisions.steps
        plan = exact if same else _agreed(r, exact, confirm, yes)
    if plan.is_empty:
        r.finish(Moved(migrate.nothing_to_do(plan.revisions)))
        return
    work.lint(plan.revisions)
    with r.lock() as lock:
        r.finish(work.perform(plan, lock, r.reached()))


def _access(plan, yes, sql=False):
    """Return what a plan does: one that takes rows away, on the way down, has no undo."""
    from pgtasks.server.guard import Access

    loses = plan.revisions.loses_rows and yes is not None and not sql
    return Access.DESTROY if loses else Access.WRITE


def _agreed(r, plan, confirm, yes):
    if not plan.is_empty:
        for line in plan.announcement():
            r.say(line)
        r.guarded(_access(plan, yes), confirm=confirm, yes=bool(yes))
    return plan


def _place(r, app):
    from pgtasks.schema import migrate

    scripts, identity = migrate.needed(r.project, app=app), r.look()
    return scripts, r.target, identity


@task(help={"check": "exit 5 unless the database is at the head of the files", "app": _APP})
def status(c, env=None, check=False, app=None, json=False):
    """Show applied and pending migrations. Example: inv migrate.status --check"""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import migrate

        scripts = migrate.needed(r.project, app=app)
        with r.reading() as reached:
            state = migrate.status(scripts, reached.target, r.identity)
        r.finish(state, check=state.check if check else lambda: None)


@task(
    help={
        "since": "lint the revisions after this one (default: those that are pending)",
        "at_head": "exit 5 too if the database is not at the head: models are not compared then",
        "app": _APP,
    }
)
def check(c, env=None, since=None, at_head=False, app=None, json=False):
    """Check heads, models and unreleased revisions; exit 5.

    inv migrate.check --since 0041
    """
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import migrate

        scripts = migrate.needed(r.project, app=app)
        with r.reading() as reached:
            place = scripts, reached.target, r.identity
            checked = migrate.check(*place, since=since, at_head=at_head)
        r.finish(checked, check=checked.check)


@task(
    help={
        "to": f"target: {_TO} (default: head)",
        "down": "take the revisions back and compare the schema (default); --no-down omits it",
        "app": _APP,
    }
)
def rehearse(c, env=None, to="head", down=True, app=None, confirm=None, json=False, dry=False):
    """Migrate a copy, trace its locks, migrate it back. Example: inv migrate.rehearse --dry"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema.migrate.rehearse import Rehearsed, rehearse

        scripts, _, identity = _place(r, app)
        with r.replacing(confirm=confirm) as permit:
            talk = {"agreed": permit.agreed, "console": r.console}
            done = rehearse(scripts, permit.lock, r.host, identity, to=to, back=down, **talk)
        r.finish(done, check=done.check if isinstance(done, Rehearsed) else lambda: None)


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
        "app": _APP,
    }
)
def stamp(c, to, env=None, purge=False, app=None, confirm=None, json=False, dry=False):
    """Write the version table without running a migration.

    inv migrate.stamp head --dry
    """
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema import migrate
        from pgtasks.server.guard import Access

        place = _place(r, app)
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
