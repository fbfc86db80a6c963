"""Environments: list, show, choose, check, stamp."""

from pgtasks import run, task


@task(name="list")
def list_(c, json=False):
    """List all environments, marking the chosen one."""
    from pgtasks import report
    from pgtasks.cli.context import project_of
    from pgtasks.settings import views

    report.result(views.listing(project_of(c)), json=json)


@task(
    help={
        "url": "print only the URL",
        "reveal": "show the password, which is *** otherwise",
    }
)
def show(c, env=None, url=False, reveal=False, json=False):
    """Show an environment's settings, each with its layer."""
    with run(c, env=env, json=json) as r:
        from pgtasks.errors import Refused
        from pgtasks.host import password
        from pgtasks.server import embedded
        from pgtasks.settings import views

        if reveal and json:
            raise Refused("--reveal and --json do not go together: no secret goes into a document")
        target = password.unlocked(r.target, r.project.root) if reveal else r.target
        if url:
            shown = views.Url(embedded.located(target, r.project.root), reveal)
            for line in shown.remarks():
                r.say(line)
            r.finish(shown)
        else:
            r.finish(views.shown(r.environment, target, r.choice.reason, reveal=reveal))


@task(help={"name": "the environment to choose; a protected one is refused"})
def use(c, name, json=False):
    """Choose the environment of this checkout. Example: inv env.use test"""
    with run(c, env=name, json=json, journaled=True) as r:
        from pgtasks.host import checkout

        r.finish(checkout.use(r.project, name))


@task
def status(c, json=False):
    """Show the chosen environment, and what chose it."""
    with run(c, json=json) as r:
        from pgtasks.settings import selection, views

        candidates = tuple(selection.candidates(r.project))
        r.finish(views.Status(r.choice, r.target, candidates))


@task(help={"env": "check only this environment (default: all)"})
def check(c, env=None, json=False):
    """Check the settings of all environments."""
    import invoke

    from pgtasks import report
    from pgtasks.cli.context import project_of
    from pgtasks.health import settings

    audit = settings.audit(project_of(c), env)
    report.result(audit, json=json)
    if audit.faults:
        raise invoke.Exit(code=3)


@task
def stamp(c, env=None, confirm=None, json=False, dry=False):
    """Store in the database the environment it belongs to."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.server import restamp

        with r.stamping(confirm=confirm) as lock:
            put, plan = restamp.put, restamp.plan
            r.finish(put(lock, r.identity) if lock else plan(r.target, r.identity))
