"""Everything at once: what a fresh checkout needs."""

from pgtasks import run, task


@task(help={"scale": "how much the seed sets hold: small, or a scale that their files name"})
def setup(c, env=None, scale="small", confirm=None, json=False, dry=False):
    """Bring an environment up, from its server to its seeds.

    Safe to run again: what is done is left as it is. Example: inv setup --scale medium
    """
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema import setup

        asleep = setup.asleep(r.project, r.target) if r.dry else None
        server = asleep or setup.server(r.reached)
        r.say(server.line())
        if not asleep:
            r.look(missing=True)
        made = setup.prepare(
            *(r.project, r.target, r.identity),
            scale=scale,
            protection=r.protection,
            unseen=asleep is not None,
        )
        if asleep:
            r.finish(made.plan(server, say=r.say))
            return
        with r.writing(confirm=confirm, missing=True) as lock:
            done = made.perform(lock, server, say=r.say) if lock else made.plan(server, say=r.say)
            r.finish(done)
