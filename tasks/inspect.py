"""What a database holds: tables, sizes, sessions. Nothing is written."""

from pgtasks import run, task


@task
def db(c, env=None, json=False):
    """Show a database on one screen. Example: inv inspect.db"""
    with run(c, env=env, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.overview import of_triggers, overview

        triggers = of_triggers(r.project, reached.target)
        with reached.reading(r.task) as conn:
            r.finish(overview(conn, triggers))


@task(help={"schema": "only the tables of this schema"})
def tables(c, schema="", env=None, json=False):
    """List the tables and views, with rows and sizes. Example: inv inspect.tables"""
    with run(c, env=env, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.tables import tables

        with reached.reading(r.task) as conn:
            r.finish(tables(conn, schema))


@task(help={"name": "a table or view, with its schema or without"})
def table(c, name, env=None, json=False):
    """Show all facts about a table. Example: inv inspect.table users"""
    with run(c, env=env, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.table import table

        with reached.reading(r.task) as conn:
            r.finish(table(conn, name))


@task(help={"schema": "only the triggers of tables of this schema"})
def triggers(c, schema="", env=None, json=False):
    """List the triggers, when they fire, their functions. Example: inv inspect.triggers"""
    with run(c, env=env, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.triggers import triggers

        with reached.reading(r.task) as conn:
            r.finish(triggers(conn, schema))


@task(help={"schema": "only the functions of this schema"})
def functions(c, schema="", env=None, json=False):
    """List the functions and procedures with their rights. Example: inv inspect.functions"""
    with run(c, env=env, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.functions import functions

        with reached.reading(r.task) as conn:
            r.finish(functions(conn, schema))


@task
def roles(c, env=None, json=False):
    """List the roles, members, what they own and may do here. Example: inv inspect.roles"""
    with run(c, env=env, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.roles import roles

        with reached.reading(r.task) as conn:
            r.finish(roles(conn))


@task
def size(c, env=None, json=False):
    """Show where the bytes are, the largest tables first. Example: inv inspect.size"""
    with run(c, env=env, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.size import sizes

        with reached.reading(r.task) as conn:
            r.finish(sizes(conn))


@task
def activity(c, env=None, json=False):
    """Show the sessions, what they do and wait for. Example: inv inspect.activity"""
    with run(c, env=env, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.activity import activity

        with reached.reading(r.task) as conn:
            r.finish(activity(conn))
