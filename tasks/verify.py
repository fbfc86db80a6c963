"""Feature checks: try what the tasks promise, on scratch databases; check a connection."""

from pgtasks import run, task


@task(
    name="all",
    iterable=["only"],
    help={
        "only": "backup, restore, copy, migrate, trigger, env, inspect or service (a list)",
        "junit": "write the results into this file, as JUnit's XML",
    },
)
def all_(c, only=None, env=None, junit="", json=False):
    """Try what the tasks promise, on scratch databases."""
    with run(c, env=env, json=json, journaled=True) as r:
        from pathlib import Path

        from pgtasks.report.junit import refuse_unwritable
        from pgtasks.verify import perform

        wanted = perform.categories(only)
        if junit:
            refuse_unwritable(Path(junit))
        perform.refuse_protected(r)
        verified = perform.verify(r, wanted, say=r.say)
        if junit:
            verified.write_junit(Path(junit))
        try:
            r.finish(verified, check=verified.check)
        finally:
            r.details = verified.journaled()
