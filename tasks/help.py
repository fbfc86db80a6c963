"""The first tasks."""

from pgtasks import run, task


@task(name="help")
def help_(c, env=None, json=False):
    """Show the environment, and the first tasks.

    Example: inv help db.restore
    """
    with run(c, env=env, json=json) as r:
        from pgtasks.cli.overview import Overview

        known = r.project.environments()
        r.finish(Overview(r.environment.name, r.choice.reason, str(r.target), known))
