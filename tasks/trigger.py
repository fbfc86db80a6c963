"""Functions and triggers as files in sql/functions and sql/triggers."""

from pgtasks import run, task


@task(help={"base": "apply the files of functions alone"})
def apply(c, env=None, base=False, confirm=None, json=False, dry=False):
    """Apply what differs of functions and triggers. Example: inv trigger.apply --dry"""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema import trigger

        files = trigger.needed(r.project, base=base)
        with r.writing(confirm=confirm) as lock:
            done = (trigger.apply if lock else trigger.plan)(files, r.target)
        for warning in done.warnings:
            r.say(f"warning: {warning}")
        r.finish(done)


@task(help={"strict": "also report triggers without a file as faults"})
def verify(c, env=None, strict=False, json=False):
    """Compare files and database; exit 5 on a difference."""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import trigger

        files = trigger.needed(r.project)
        with r.reading() as reached:
            verification = trigger.verify(files, reached.target)
        for line in verification.remarks():
            r.say(line)
        r.finish(verification, check=lambda: verification.check(strict=strict))
