"""What to begin with."""

from pgtasks import run, task


@task(name="help")
def help_(c, env=None, json=False):
    """Say where you are, and which tasks to begin with.

    Example: inv help db.restore
    """
    with run(c, env=env, json=json) as r:
        from pgtasks.cli.overview import Overview

        known = r.project.environments()
        r.finish(Overview(r.environment.name, r.choice.reason, str(r.target), known))
