"""Set up an environment."""

from pgtasks import run, task


@task(help={"scale": "amount of seed data: small, or a scale in the files of the sets"})
def setup(c, env=None, scale="small", confirm=None, json=False, dry=False):
    """Set up an environment, from its server to its seeds.

    It can be repeated: completed steps are skipped. Example: inv setup --scale medium
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
