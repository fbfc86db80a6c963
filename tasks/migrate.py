"""Migrations: Alembic, on the database that --env names and on no other."""

from pgtasks.task import run, task

_TO = "a revision, head, or +1 and -1 from here"


@task(
    short={"message": "m"},
    help={
        "message": "what the revision does: its docstring and the name of its file",
        "empty": "write functions to fill by hand; models and database are not compared",
    },
)
def new(c, message=None, env=None, empty=False, json=False):
    """Write a revision file, from what the models have and the database has not.

    inv migrate.new -m 'add the notes table'
    """
    with run(c, "migrate.new", env=env, json=json) as r:
        from pgtasks import migrate

        if empty:
            r.finish(migrate.new_empty(migrate.needed(r.project), message or ""))
        else:
            r.finish(migrate.new(*_place(r), message or ""))


@task(help={"to": f"where to go: {_TO} (default: head)"})
def up(c, env=None, to="head", confirm=None, json=False, dry=False):
    """Apply pending migrations. Example: inv migrate.up --dry"""
    with run(c, "migrate.up", env=env, json=json, dry=dry, journaled=True) as r:
        _move(r, "up", to, confirm)


@task(
    help={
        "to": "where to go: a revision, or base for the beginning",
        "steps": "how many revisions to take back (default: 1)",
    }
)
def down(c, env=None, to=None, steps=None, confirm=None, json=False, dry=False):
    """Take migrations back, one where nothing else is said. Example: inv migrate.down --steps 2"""
    with run(c, "migrate.down", env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.migrate import downward

        _move(r, "down", downward(to, steps), confirm)


def _move(r, direction, to, confirm):
    from pgtasks import migrate, trigger
    from pgtasks.guard import Access
    from pgtasks.lock import Lock

    scripts, target, identity = _place(r)
    with_sql = r.dry or direction == "down"
    plan = migrate.plan(scripts, target, identity, direction, to, with_sql=with_sql)
    if r.dry:
        r.guarded(Access.WRITE, confirm=confirm)
        r.finish(plan)
        return
    if plan.steps:
        for line in plan.announcement():
            r.say(line)
        r.guarded(Access.WRITE, confirm=confirm)
    with Lock(target, f"migrate.{direction}"):
        done = migrate.perform(scripts, target, identity, plan)
    r.finish(done.noting(trigger.differences(r.project, target)))


def _place(r):
    from pgtasks import migrate
    from pgtasks.guard import Access
    from pgtasks.reach import present

    scripts = migrate.needed(r.project)
    target = r.reached()
    return scripts, target, present(r.guarded(Access.READ), target)


@task
def status(c, env=None, json=False):
    """Say where the database stands: up-to-date, behind, ahead, diverged or unstamped."""
    with run(c, "migrate.status", env=env, json=json) as r:
        from pgtasks import migrate

        r.finish(migrate.status(*_place(r)))
