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


@task(
    iterable=["without"],
    help={
        "left": "an environment; or a backup, a schema file (.sql), the word models",
        "right": "an environment; or a backup: an ID, latest, a path; a file; the word models",
        "rows": "compare the rows of all tables, too",
        "without": "parts to leave out: owners, grants, extensions, settings, roles (a list)",
        "text": "show how definitions differ, line by line",
        "sql": "print the SQL that makes the left one like the right one, where nothing is lost",
    },
)
def diff(c, left, right, rows=False, without=None, text=False, sql=False, json=False):
    """Compare environments, backups, schema file, models.

    inv inspect.diff dev prod
    """
    from pgtasks.cli import context
    from pgtasks.schema.inspect.diff import sources

    named = sources.environment(context.project_of(c), left, right)
    with run(c, env=named, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.diff.compare import left_out
        from pgtasks.schema.inspect.diff.perform import Options

        options = Options(left_out(without), rows=rows, text=text, sql=sql)
        found = sources.compare(r, reached, (left, right), options)
        r.finish(found, check=found.check)


@task(
    help={
        "schema": "only the tables of this schema",
        "table": "only a table, and the tables near to it",
        "depth": "how many foreign keys away those may be (default: 1)",
        "columns": "all or keys (default: keys, for more than 25 tables)",
        "svg": "print SVG instead of text for Mermaid",
    }
)
def diagram(c, schema="", table="", depth="1", columns="", svg=False, env=None, json=False):
    """Draw tables and foreign keys. Example: inv inspect.diagram --svg > shop.svg"""
    with run(c, env=env, json=json) as r, r.reading() as reached:
        from pgtasks.schema.inspect.diagram.picture import columns_of, depth_of, picture

        shown = {"depth": depth_of(depth), "columns": columns_of(columns), "as_svg": svg}
        with reached.reading(r.task) as conn:
            title = f"{r.target.database} ({r.environment.name})"
            r.finish(picture(conn, title=title, schema=schema, table=table, **shown))
