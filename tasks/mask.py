"""Masks: what copies of an environment's data read in place of values."""

from pgtasks import run, task


@task
def suggest(c, env=None, json=False):
    """Suggest rules for undecided columns, and say why. Example: inv mask.suggest --env prod"""
    with run(c, env=env, json=json) as r:
        from pgtasks.copy.mask.settings import masks
        from pgtasks.copy.mask.suggest import suggest
        from pgtasks.server import connection

        rules = masks(r.project, r.environment.name)
        with (
            r.reading() as reached,
            connection.session(reached.target, read_only=True, purpose=r.task) as conn,
        ):
            suggested = suggest(conn, rules)
        if suggested.guesses:
            r.say(suggested.summary())
        r.finish(suggested)


@task
def check(c, env=None, json=False):
    """Check that columns are decided, and nothing else leaks."""
    with run(c, env=env, json=json) as r:
        from pgtasks.copy.mask import leaks
        from pgtasks.copy.mask.settings import masks

        rules = masks(r.project, r.environment.name)
        with r.reading() as reached:
            checked = leaks.checked(reached.target, rules)
        r.finish(checked, check=checked.check)


@task(help={"table": "table whose first ten rows are shown, before and after"})
def preview(c, table, env=None):
    """Show rows before and after the masks, on a terminal."""
    with run(c, env=env) as r:
        from pgtasks.copy.mask.preview import refuse_without_terminal, shown
        from pgtasks.copy.mask.settings import masks

        refuse_without_terminal(r.console)
        rules = masks(r.project, r.environment.name)
        with r.reading() as reached:
            r.finish(shown(reached.target, rules, table))
