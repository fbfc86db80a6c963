"""Clones of a database for development: copies by its server, to go back to."""

from pgtasks import run, task

_NAME = "name of the clone"
_BRANCH = "name it after the git branch that is checked out"


@task(
    unless={"name": "branch"},
    help={
        "name": _NAME,
        "branch": _BRANCH,
        "again": "replace the clone of that name, once the new one is taken",
        "end_sessions": "end the sessions in the database: the server copies it only alone",
    },
)
def take(
    c,
    name,
    branch=False,
    again=False,
    end_sessions=False,
    env=None,
    confirm=None,
    json=False,
    dry=False,
):
    """Take a clone of the database. Example: inv clone.take before-import"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.copy.clone.clones import name_of
        from pgtasks.copy.clone.take import take

        name = name_of(name, branch=branch, root=r.project.root)
        with r.replacing(confirm=confirm) as permit:
            done = take(
                *(permit.lock, r.host, name),
                again=again,
                end_sessions=end_sessions,
                agreed=permit.agreed,
                console=r.console,
            )
            r.finish(done)


@task(name="list")
def list_(c, env=None, json=False):
    """List the clones of the database."""
    with run(c, env=env, json=json) as r:
        from pgtasks.copy.clone.clones import listing
        from pgtasks.server.guard import Access

        r.guarded(Access.READ, outside=True)
        r.finish(listing(r.reached().maintenance(), r.target, r.project.root))


@task(
    unless={"name": "branch"},
    help={
        "name": _NAME,
        "branch": "the clone that is named as the git branch that is checked out",
        "give_up": "swap in the clone itself instead of a copy of it: it is gone then",
        "leave_behind": "continue although replication slots stay with the replaced database",
    },
)
def back(
    c,
    name,
    branch=False,
    give_up=False,
    leave_behind=False,
    env=None,
    confirm=None,
    json=False,
    dry=False,
):
    """Go back to a clone; db.undo takes that back."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.copy.clone.back import back
        from pgtasks.copy.clone.clones import name_of

        name = name_of(name, branch=branch, root=r.project.root)
        with r.replacing(confirm=confirm) as permit:
            done = back(
                *(permit.lock, r.host, name),
                give_up=give_up,
                leave_behind=leave_behind,
                agreed=permit.agreed,
                console=r.console,
            )
            r.finish(done)


@task(
    unless={"name": "branch"},
    help={"name": _NAME, "branch": "the clone that is named as the git branch"},
)
def drop(c, name, branch=False, env=None, confirm=None, yes=False, json=False, dry=False):
    """Drop a clone."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.copy.clone.clones import name_of
        from pgtasks.copy.clone.discard import discard, plan

        name = name_of(name, branch=branch, root=r.project.root)
        with r.destroying(confirm=confirm, yes=yes) as permit:
            done = plan(permit.lock, name)
            if permit.agreed(done):
                done = discard(permit.lock, done)
            r.finish(done)
