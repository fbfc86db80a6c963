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


@task(help={"allow_orphans": "accept triggers that no file knows"})
def verify(c, env=None, allow_orphans=False, json=False):
    """Compare files and database; exit 5 on a difference."""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import trigger

        files = trigger.needed(r.project)
        with r.reading() as reached:
            verification = trigger.verify(files, reached.target)
        for line in verification.remarks():
            r.say(line)
        r.finish(verification, check=lambda: verification.check(orphans=not allow_orphans))


@task(name="list")
def list_(c, env=None, json=False):
    """List all triggers, with their state."""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import trigger

        files = trigger.read(r.project)
        with r.reading() as reached:
            r.finish(trigger.listing(files, reached.target))


@task
def diff(c, env=None, json=False):
    """Show what trigger.apply would change, as a diff."""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema import trigger

        files = trigger.needed(r.project)
        with r.reading() as reached:
            differences = trigger.diff(files, reached.target)
        r.finish(differences, check=differences.check)


@task(
    help={
        "name": "name of the trigger, on all tables if --table is not given",
        "table": "table, with its schema where the search_path does not have it",
        "orphans": "those that no file knows",
    }
)
def drop(
    c, name="", table="", orphans=False, env=None, confirm=None, yes=False, json=False, dry=False
):
    """Drop triggers by name or table, or orphans."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema import trigger

        selection = trigger.Selection(name, table, orphans)
        files = trigger.read(r.project)
        with r.destroying(confirm=confirm, yes=yes) as permit:
            done = trigger.plan_drop(files, r.target, selection)
            if done.triggers and permit.agreed(done):
                done = trigger.drop(r.target, done)
            r.finish(done)


@task(
    name="test",
    iterable=["file"],
    help={
        "file": "a test, by its name or the end of its path (repeatable; default: all)",
        "tap": "print TAP (Test Anything Protocol)",
        "junit": "write the results into this file, as JUnit's XML",
    },
)
def prove(c, file=None, env=None, tap=False, junit="", json=False):
    """Run the tests in sql/tests, each rolled back."""
    from pgtasks.report.junit import written

    with written(junit, "trigger.test") as results, run(c, env=env, json=json) as r:
        from pgtasks.errors import Refused
        from pgtasks.schema.trigger import cases, trial
        from pgtasks.schema.trigger.tap import Tap, junit_cases

        suites = cases.read(r.project, file)
        r.look()
        if r.protection:
            raise Refused(f"{r.protection}: tests change rows, even if they are rolled back")
        with r.writing():
            tested = trial.run(suites, r.target)
        results += junit_cases(tested)
        r.finish(Tap(tested) if tap else tested, check=tested.check)


@task(
    short={"message": "m"},
    iterable=["name"],
    help={
        "message": "description of the revision, for its docstring and file name",
        "name": "a function or trigger (repeatable; default: all files)",
    },
)
def freeze(c, message=None, name=None, env=None, json=False):
    """Write the SQL of the files into a revision.

    inv trigger.freeze -m 'freeze the triggers'
    """
    with run(c, env=env, json=json, writes=True) as r:
        from pgtasks.schema import migrate, trigger
        from pgtasks.schema.freeze import freeze

        scripts, files = migrate.needed(r.project), trigger.needed(r.project)
        r.look()
        r.finish(freeze(scripts, files, r.target, message or "", name))


@task(
    iterable=["table", "columns"],
    help={
        "kind": "timestamps, track-user, audit or password",
        "table": "table that gets the trigger (repeatable)",
        "columns": "names of the columns, if they are not the usual ones (repeatable, in order)",
        "clock": "transaction (the start of it, default) or wall (the moment of the change)",
        "setting": "the setting that names the user (default: app.user)",
    },
)
def add(
    c, kind, table=None, columns=None, clock="transaction", setting="app.user", env=None, json=False
):
    """Write files of a ready-made trigger.

    inv trigger.add timestamps --table orders --table items
    """
    with run(c, env=env, json=json, writes=True) as r:
        from pgtasks.schema.trigger import add

        options = add.Options(kind, tuple(table), tuple(columns), clock, setting)
        with r.reading() as reached:
            r.finish(add.add(r.project, reached.target, options))


@task
def watch(c, env=None):
    """Apply the files whenever one is saved, until Ctrl-C."""
    with run(c, env=env, dry=False, journaled=True) as r:
        from pgtasks.errors import PgtasksError, Refused
        from pgtasks.schema import trigger
        from pgtasks.schema.trigger.watch import watch

        r.look()
        if r.protection:
            raise Refused(f"{r.protection}: nothing is applied there without being asked for")

        def apply():
            try:
                with r.writing():
                    done = trigger.apply(trigger.read(r.project), r.target)
            except PgtasksError as exc:
                r.say(f"error: {exc.message}")
            else:
                for line in [*(f"warning: {each}" for each in done.warnings), *done.lines()]:
                    r.say(line)

        r.say("watching the files of functions and triggers, Ctrl-C ends it")
        watch(r.project, apply)
