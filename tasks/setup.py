"""Set up an environment."""

from pgtasks import run, task


@task(help={"scale": "amount of seed data: small, or a scale in the files of the sets"})
def setup(c, env=None, scale="small", confirm=None, json=False, dry=False):
    """Set up an environment, from its server to its seeds.

    It can be repeated: completed steps are skipped. Example: inv setup --scale medium
    """
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema.setup import set_up

        set_up(r, scale=scale, confirm=confirm)
