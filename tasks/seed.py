"""Seed data: sets of rows that belong into an environment."""

from pgtasks import run, task

_SCALE = "how much: a scale that the set's file names"


@task(
    iterable=["set_"],
    help={
        "set": "a seed set; repeat it for more (default: those that the environment names)",
        "scale": _SCALE,
    },
)
def load(c, set_=None, env=None, scale="small", confirm=None, json=False, dry=False):
    """Load seed sets; one that is there already is no change. Example: inv seed.load --set core"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema import seed
        from pgtasks.server.guard import Access
        from pgtasks.server.reach import present

        target = r.reached().target
        protection = r.protection(present(r.guarded(Access.READ), target))
        plan = seed.plan(r.project, target, set_, scale=scale, protection=protection)
        with r.writing(confirm=confirm):
            return r.finish(plan if r.dry else plan.load(target, say=r.say))


@task(name="list")
def list_(c, env=None, json=False):
    """List the seed sets, those of the environment marked."""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import seed

        r.finish(seed.listing(r.project, r.target))
