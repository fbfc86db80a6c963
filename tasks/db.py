"""The database itself: create, check, back up, restore, undo."""

from pgtasks import run, task


@task(
    several=True,
    iterable=["exclude_table_data"],
    help={
        "schema_only": "leave out all rows",
        "exclude_table_data": "leave out the rows of tables that match (repeatable)",
        "proof": "prove the content, row by row (default); --no-proof is faster and proves nothing",
        "note": "a line of text that is kept with the backup",
        "on_host": "let it lie on the database host (in ssh.backups), dumped by --jobs at once",
    },
)
def backup(
    c,
    env=None,
    jobs=None,
    schema_only=False,
    exclude_table_data=None,
    proof=True,
    note="",
    on_host=False,
    json=False,
    dry=False,
):
    """Back up the database, with the proof of its content. Example: inv db.backup --note 'x'"""
    flags = {"jobs": jobs}
    with run(c, env=env, json=json, dry=dry, journaled=True, flags=flags) as r:
        from pgtasks.backup import create, views
        from pgtasks.backup.dump import job
        from pgtasks.backup.store import destination

        destination.check(r.target, on_host=on_host)
        with r.reading(keep=True) as reached:
            options = job.for_target(
                reached.target,
                schema_only=schema_only,
                exclude_table_data=tuple(exclude_table_data),
                proof=proof,
                note=note,
            )
            store = destination.of(reached, r.project.folder("backups"), on_host=on_host)
            if r.dry:
                r.finish(views.BackupPlan(create.plan(reached, store=store, options=options)))
                return
            with r.lock():
                made = create.create(reached, store=store, options=options, console=r.console)
            r.finish(views.BackupMade(made))


@task(
    iterable=["accept", "leave_out"],
    help={
        "accept": "swap in spite of this difference, as the error names it (repeatable)",
        "backup": "ID, latest, ask, or a path (default: the newest complete one)",
        "no_owner": "leave owners and grants out: everything belongs to the database's owner",
        "keep_owners": "refuse where a role is missing, in place of mapping all to the owner",
        "as_superuser": "let what the backup holds run with the rights of a superuser",
        "with_settings": "lay all settings on a new database, of a backup that nobody here made",
        "leave_out": "go without this constraint, index, trigger or REFRESH (repeatable)",
        "leave_behind": "go on without settings and grants that this role cannot carry over",
    },
)
def restore(
    c,
    backup=None,
    env=None,
    jobs=None,
    no_owner=False,
    keep_owners=False,
    as_superuser=False,
    with_settings=False,
    leave_behind=False,
    accept=None,
    leave_out=None,
    confirm=None,
    json=False,
    dry=False,
):
    """Restore a backup: built beside, proven, swapped in."""
    flags = {"jobs": jobs}
    with run(c, env=env, json=json, dry=dry, journaled=True, flags=flags) as r:
        from dataclasses import replace

        from pgtasks.backup.find import Finder
        from pgtasks.backup.restore import RestoreOptions, doubt, restore

        options = RestoreOptions(
            r.target.jobs,
            no_owner=no_owner,
            keep_owners=keep_owners,
            as_superuser=as_superuser,
            with_settings=with_settings,
            leave_behind=leave_behind,
            accept=tuple(accept),
            leave_out=tuple(leave_out),
        )
        permit = r.replacing(confirm=confirm, insists=options.insists)
        backups = r.project.folder("backups")
        chosen = Finder(backups, r.target, r.landed).find(backup, "newest")
        options = replace(options, doubt=doubt(chosen, backups, r.project.root))
        with permit:
            talk = {"console": r.console, "agreed": permit.agreed}
            r.finish(restore(permit.lock, r.host, chosen, options, **talk))


@task(
    help={
        "to": "name or ID of the kept database to return to (default: the newest)",
        "leave_behind": "go on though replication slots stay with what is put away",
    }
)
def undo(c, env=None, to=None, leave_behind=False, confirm=None, json=False, dry=False):
    """Take the last restore back, in milliseconds."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.database.undo import plan, undo

        with r.replacing(confirm=confirm) as permit:
            done = plan(permit.lock, to, leave_behind=leave_behind)
            if permit.agreed(done):
                done = undo(permit.lock, to, leave_behind=leave_behind, say=r.say)
            r.finish(done)


@task
def recover(c, env=None, confirm=None, json=False):
    """Heal what an interrupted run left behind."""
    with run(c, env=env, json=json, journaled=True) as r:
        from dataclasses import replace

        from pgtasks.backup.sweep import sweep
        from pgtasks.database.recover import recover

        with r.writing(confirm=confirm, outside=True) as lock:
            healed = recover(lock)
            swept = sweep(r.reached(), r.project.folder("backups"))
            r.finish(replace(healed, done=(*healed.done, *swept)))


@task(help={"keep": "how many of them stay, the newest (default: none)"})
def forget(c, env=None, keep=None, confirm=None, yes=False, json=False, dry=False):
    """Drop the databases that restores replaced, kept for undo."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from dataclasses import replace

        from pgtasks.database.forget import forget, number, plan

        staying = number(keep)
        with r.destroying(confirm=confirm, yes=yes) as permit:
            done = plan(permit.lock, staying)
            if done.dropped and permit.agreed(done):
                done = forget(permit.lock, staying)
            r.finish(replace(done, dry=r.dry))


@task
def create(c, env=None, confirm=None, json=False, dry=False):
    """Create the database, empty and stamped, unless it is there."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from dataclasses import replace

        from pgtasks.database.create import create, left_to_do

        identity = r.look(missing=True)
        plan = left_to_do(r.target, identity)
        if r.dry or not plan.changes:
            r.finish(replace(plan, dry=r.dry))
            return
        with r.writing(confirm=confirm, missing=True) as lock:
            r.finish(create(lock))


@task
def drop(c, env=None, confirm=None, yes=False, json=False, dry=False):
    """Drop the database, whoever is connected. There is no undo."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from dataclasses import replace

        from pgtasks.database.create import drop, left_to_drop

        with r.destroying(confirm=confirm, yes=yes, ask_missing=False) as permit:
            done = left_to_drop(permit.lock)
            if done.existed and permit.agreed(done):
                done = drop(permit.lock)
            r.finish(replace(done, dry=r.dry))


@task(help={"write": "let a protected database be written to, its name given or typed"})
def shell(c, env=None, write=False, confirm=None):
    """Open psql on the database; a protected one is only read."""
    with run(c, env=env, journaled=write) as r:
        import sys

        from pgtasks.cli import edge
        from pgtasks.server.psql import shell

        edge.refuse_words(sys.argv, r.task)
        read_only = r.at_prompt(write=write, confirm=confirm)
        shell.open_shell(r.target, read_only=read_only)


@task(
    name="run",
    iterable=["file"],
    help={
        "file": "a file of SQL and psql's own commands; repeat it for more, they run in order",
        "sql": "SQL to run behind the files",
        "no_transaction": "each statement for itself: what ran before an error stays",
        "touch_files": "let the files read and write files of this machine: \\copy, \\o, \\g FILE",
    },
)
def run_files(
    c,
    file=None,
    sql="",
    no_transaction=False,
    touch_files=False,
    env=None,
    confirm=None,
    dry=False,
):
    """Run SQL files, all or nothing. Example: inv db.run --file a.sql --file b.sql"""
    with run(c, env=env, dry=dry, journaled=True) as r:
        from pgtasks.server.psql import script

        wanted = script.checked(
            file, sql=sql, transaction=not no_transaction, touch_files=touch_files
        )
        r.details.update(wanted.as_json())
        with r.writing(confirm=confirm):
            return r.finish(wanted) if r.dry else r.say(script.run(r.target, wanted))


@task(
    several=True,
    help={"verbose": "take the connection step by step: name, port, server, password, database"},
)
def check(c, env=None, verbose=False, json=False):
    """Check server, database, role, stamp, tools, leftovers."""
    with run(c, env=env, json=json) as r:
        from pgtasks.health import connection, database

        steps = ()
        if verbose:
            steps = connection.diagnose(r.target, r.environment, r.project.root)
        reached, backups = r.reached(reads=True), r.project.folder("backups")
        readiness = database.examine(reached, backups, steps=steps)
        r.finish(readiness, check=readiness.check)
