"""Everything at once: what a fresh checkout needs."""

from pgtasks import run, task


@task(help={"scale": "how much the seed sets hold: small, or a scale that their files name"})
def setup(c, env=None, scale="small", confirm=None, json=False, dry=False):
    """Bring an environment up, from its server to its seeds.

    Safe to run again: what is done is left as it is. Example: inv setup --scale medium
    """
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema import setup
        from pgtasks.server.guard import Access

        asleep = setup.asleep(r.project, r.target) if r.dry else None
        server, target = (asleep, r.target) if asleep else setup.server(r.reached)
        r.say(server.line())
        identity = None if asleep else r.guarded(Access.READ)
        made = setup.prepare(
            *(r.project, target, identity),
            scale=scale,
            protection=r.protection(identity),
            unseen=asleep is not None,
        )
        if asleep:
            return r.finish(made.plan(server, say=r.say))
        r.guarded(Access.WRITE, confirm=confirm)
        if r.dry:
            return r.finish(made.plan(server, say=r.say))
        with r.lock() as lock:
            return r.finish(made.perform(lock, server, say=r.say))
