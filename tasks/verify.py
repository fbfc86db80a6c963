"""Feature checks: try what the tasks promise, on scratch databases; check a connection."""

from pgtasks import run, task


@task(
    several=True,
    short={"verbose": "v"},
    help={"verbose": "show each setting of the connection, with the file or variable it is from"},
)
def connection(c, env=None, verbose=False, json=False):
    """Check the way to the database, step by step."""
    with run(c, env=env, json=json) as r:
        from pgtasks.health import way

        root, backups = r.project.root, r.project.folder("backups")
        start = way.Start(r.choice, r.environment, r.target, root, verbose)
        walked = way.walk(start, lambda: r.reached(reads=True), backups)
        r.finish(walked, check=walked.check)


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
    from pgtasks.report.junit import written

    with (
        written(junit, "verify.all") as cases,
        run(c, env=env, json=json, journaled=True) as r,
    ):
        from pgtasks.verify import perform

        wanted = perform.categories(only)
        perform.refuse_protected(r)
        verified = perform.verify(r, wanted, say=r.say, cases=cases)
        r.finish(verified, check=verified.check)
