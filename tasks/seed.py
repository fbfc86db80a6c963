"""Seed data: sets of rows for an environment."""

from pgtasks import run, task

_SCALE = "amount of data: a scale in the file of the set"


@task(
    iterable=["set_"],
    help={
        "set": "a seed set (repeatable; default: those of the environment)",
        "scale": _SCALE,
        "again": "load sets that were loaded before, too",
    },
)
def load(c, set_=None, env=None, scale="small", again=False, confirm=None, json=False, dry=False):
    """Load seed sets that the database lacks. Example: inv seed.load --set core"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema import seed

        r.look()
        plan = seed.plan(r.project, r.target, set_, scale=scale, protection=r.protection)
        with r.writing(confirm=confirm) as lock:
            r.finish(plan.load(r.target, say=r.say, again=again) if lock else plan)


@task(name="list")
def list_(c, env=None, json=False):
    """List the seed sets, marking those of the environment."""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import seed

        r.finish(seed.listing(r.project, r.target))
