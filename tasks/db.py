"""The database itself: create, check, back up, restore, undo."""

from pgtasks import run, task

_TABLE = "only the tables that match (repeatable; default: all)"


@task(
    several=True,
    iterable=["exclude_table_data"],
    help={
        "schema_only": "leave out all rows",
        "exclude_table_data": "leave out the rows of tables that match (repeatable)",
        "proof": "prove the content, row by row (default); --no-proof is faster, without a proof",
        "note": "a note, stored in the backup",
        "on_host": "store it on the database host (in ssh.backups), dumped by --jobs processes",
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
    """Back up the database, with a proof of its content. Example: inv db.backup --note 'x'"""
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
    iterable=["accept", "leave_out", "only_table", "map_role"],
    help={
        "accept": "accept this difference, by its name in the error (repeatable)",
        "backup": "ID, latest, ask, or the path of a backup or of any dump (default: the newest)",
        "part": "of a dump of pg_dumpall, the database whose part is restored",
        "no_owner": "omit owners and grants: everything belongs to the owner of the database",
        "keep_owners": "refuse if a role is missing, instead of giving everything to the owner",
        "as_superuser": "run the code in the backup with the rights of a superuser",
        "with_settings": "apply all settings to a new database, also of a backup of unknown origin",
        "leave_out": "omit by name what cannot be loaded or leads outside (repeatable)",
        "leave_behind": "continue without settings and grants that this role cannot apply",
        "masked": "mask the data by the rules of the backup's environment before it is swapped in",
        "only_table": "restore the rows of tables that match, and keep all else (repeatable)",
        "backup_first": "with --only-table or --in-place: back up the database before",
        "no_acl": "omit the grants, and keep the owners",
        "map_role": "A=B: what role A of the backup owned or was granted is B's (repeatable)",
        "create_roles": "create roles of the backup that the server lacks, without SUPERUSER etc.",
        "with_passwords": "with --create-roles: give them the passwords that the backup has",
        "into": "restore into a new database of this name, beside the one of the environment",
        "in_place": "replace the content in one transaction, without CREATEDB and without undo",
    },
)
def restore(
    c,
    backup=None,
    part="",
    env=None,
    jobs=None,
    no_owner=False,
    keep_owners=False,
    as_superuser=False,
    with_settings=False,
    leave_behind=False,
    accept=None,
    leave_out=None,
    masked=False,
    only_table=None,
    backup_first=False,
    into="",
    in_place=False,
    no_acl=False,
    map_role=None,
    create_roles=False,
    with_passwords=False,
    confirm=None,
    yes=False,
    json=False,
    dry=False,
):
    """Restore a backup: built beside, proven, swapped in."""
    flags = {"jobs": jobs}
    with run(c, env=env, json=json, dry=dry, journaled=True, flags=flags) as r:
        from pgtasks.backup import restoring
        from pgtasks.backup.restore import RestoreOptions, rolemap

        options = RestoreOptions(
            r.target.jobs,
            no_owner=no_owner,
            keep_owners=keep_owners,
            as_superuser=as_superuser,
            with_settings=with_settings,
            leave_behind=leave_behind,
            accept=tuple(accept),
            leave_out=tuple(leave_out),
            only_tables=tuple(only_table),
            backup_first=backup_first,
            into=into,
            in_place=in_place,
            no_acl=no_acl,
            role_map=rolemap.parsed(map_role),
            create_roles=create_roles,
            with_passwords=with_passwords,
        )
        talk = {"confirm": confirm, "yes": yes}
        restoring.perform(r, backup, options, part=part, masked=masked, **talk)


@task(
    iterable=["exclude", "exclude_data", "where", "follow", "tables"],
    help={
        "source": "environment to copy from; it is only read",
        "target": "environment to copy to; its database is replaced, and kept for db.undo",
        "unmasked": "let the data of a protected source leave it as it is, once its name is typed",
        "confirm_source": "name of the protected source's database, instead of typing it",
        "proof": "compare the copy with the source before the swap (default); --no-proof omits it",
        "analyze": "gather statistics (default); --no-analyze leaves them to autovacuum",
        "template": "let the server copy its files, also of a protected source, which is shut out",
        "delta": "begin with the server's copy of the target, copy the tables that differ",
        "rows": "copy the rows, also where the server could copy its files",
        "no_owner": "omit owners and grants: everything belongs to the owner of the database",
        "keep_owners": "refuse if a role is missing, instead of giving everything to the owner",
        "as_superuser": "run the code in the source with the rights of a superuser on the target",
        "leave_behind": "continue without settings and grants that this role cannot apply",
        "backup_first": "back up the target before anything is built",
        "rate": "most bytes of rows in a second, as 20MB, for all jobs together",
        "exclude": "leave out tables that match, and what depends on them (a list)",
        "exclude_data": "leave out the rows of tables that match (a list, or repeatable)",
        "where": "take the rows of TABLE=CONDITION, and all that they refer to (repeatable)",
        "sample": "take a percentage of the rows of each table, and all that they refer to",
        "schema_only": "take the schema, and keep the rows of the target",
        "data_only": "take the rows, and keep the schema of the target",
        "tables": "take the rows of tables that match, and keep all else of the target (a list)",
        "lossy": "leave behind rows and columns that have no place in the other schema",
        "follow": "of a subset, take rows of TABLE[:PARENT] that refer to rows taken (a list)",
    },
)
def copy(
    c,
    source,
    target,
    exclude=None,
    exclude_data=None,
    where=None,
    sample=None,
    follow=None,
    schema_only=False,
    data_only=False,
    tables=None,
    lossy=False,
    jobs=None,
    unmasked=False,
    confirm_source=None,
    proof=True,
    analyze=True,
    template=False,
    delta=False,
    rows=False,
    no_owner=False,
    keep_owners=False,
    as_superuser=False,
    leave_behind=False,
    backup_first=False,
    rate=None,
    confirm=None,
    json=False,
    dry=False,
):
    """Copy a database over another environment's. Example: inv db.copy prod dev"""
    flags = {"jobs": jobs}
    with run(c, env=target, json=json, dry=dry, journaled=True, flags=flags) as r:
        from pgtasks.copy import CopyOptions, arrive, scope_of
        from pgtasks.copy.rows.throttle import parsed
        from pgtasks.schema import copying

        options = CopyOptions(
            r.target.jobs,
            no_owner=no_owner,
            keep_owners=keep_owners,
            as_superuser=as_superuser,
            leave_behind=leave_behind,
            backup_first=backup_first,
            rate=parsed(rate),
            scope=scope_of(
                exclude=exclude,
                exclude_data=exclude_data,
                where=where,
                sample=sample,
                follow=follow,
                schema_only=schema_only,
                data_only=data_only,
                tables=tables,
                lossy=lossy,
            ),
            proof=proof,
            analyze=analyze,
            arrival=arrive.found(r.project.folder("sql") / "arrive", r.project.root),
            template=template,
            delta=delta,
            rows=rows,
        )
        masking = {"unmasked": unmasked, "confirm_source": confirm_source}
        copying.perform(r, source, options, confirm=confirm, **masking)


@task(
    help={
        "to": "name or ID of the kept database to return to (default: the newest)",
        "leave_behind": "continue although replication slots stay with the replaced database",
    }
)
def undo(c, env=None, to=None, leave_behind=False, confirm=None, json=False, dry=False):
    """Undo the last restore or copy, in milliseconds."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.database.undo import plan, undo

        with r.replacing(confirm=confirm) as permit:
            done = plan(permit.lock, to, leave_behind=leave_behind)
            if permit.agreed(done):
                done = undo(permit.lock, to, leave_behind=leave_behind, say=r.say)
            r.finish(done)


_LEAVE = "continue although slots and some properties stay with the replaced database"


@task(
    help={
        "seeds": "load the seed sets of the environment",
        "scale": "amount of seed data: small, or a scale in the files of the sets",
        "leave_behind": _LEAVE,
    }
)
def reset(
    c,
    env=None,
    seeds=True,
    scale="small",
    leave_behind=False,
    confirm=None,
    json=False,
    dry=False,
):
    """Build the database anew from its files, with an undo."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from dataclasses import replace

        from pgtasks.schema.reset import reset
        from pgtasks.schema.setup import prepare

        r.look()
        target = r.target if seeds else replace(r.target, seeds=())
        talk = {"scale": scale, "protection": r.protection}
        setup = replace(prepare(r.project, target, r.identity, **talk), target=r.target)
        with r.replacing(confirm=confirm) as permit:
            done = reset(
                *(permit.lock, setup),
                leave_behind=leave_behind,
                agreed=permit.agreed,
                console=r.console,
            )
            r.finish(done)


@task(help={"leave_behind": _LEAVE})
def drop_tables(c, env=None, leave_behind=False, confirm=None, json=False, dry=False):
    """Drop all that is in the database, with an undo."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema.reset import reset

        with r.replacing(confirm=confirm) as permit:
            done = reset(
                *(permit.lock, None),
                leave_behind=leave_behind,
                agreed=permit.agreed,
                console=r.console,
            )
            r.finish(done)


@task
def recover(c, env=None, confirm=None, json=False):
    """Clean up after an interrupted run."""
    with run(c, env=env, json=json, journaled=True) as r:
        from dataclasses import replace

        from pgtasks.backup.sweep import sweep
        from pgtasks.database import scratch
        from pgtasks.database.recover import recover
        from pgtasks.report import typed
        from pgtasks.report.interruption import telling

        again = typed.task("db.recover")
        left = f"what it had cleaned up stays so, {again} does the rest"
        with r.writing(confirm=confirm, outside=True) as lock:
            with telling(lambda: left):
                healed = recover(lock)
                swept = sweep(r.reached(), r.project.folder("backups"))
                dropped = scratch.sweep(r.target)
            r.finish(replace(healed, done=(*healed.done, *swept, *dropped)))


@task(help={"keep": "number of newest ones to keep (default: 0)"})
def forget(c, env=None, keep=None, confirm=None, yes=False, json=False, dry=False):
    """Drop replaced databases that are kept for undo."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from dataclasses import replace

        from pgtasks.database.forget import forget, number, plan

        staying = number(keep)
        with r.destroying(confirm=confirm, yes=yes) as permit:
            done = plan(permit.lock, staying)
            if done.dropped and permit.agreed(done):
                done = forget(permit.lock, staying)
            r.finish(replace(done, dry=r.dry))


@task(help={"scale": "amount of seed data: small, or a scale in the files of the sets"})
def init(c, env=None, scale="small", confirm=None, json=False, dry=False):
    """Set up an environment, as setup does."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.schema.setup import set_up

        set_up(r, scale=scale, confirm=confirm)


@task
def create(c, env=None, confirm=None, json=False, dry=False):
    """Create an empty, stamped database unless it exists."""
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


@task(help={"name": "drop the database of this name instead, which db.restore --into made"})
def drop(c, env=None, name=None, confirm=None, yes=False, json=False, dry=False):
    """Drop the database and end its sessions, without undo."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        if name is not None:
            from pgtasks.database import away

            with r.destroying(confirm=confirm, yes=yes) as permit:
                gone = away.plan(permit.lock, name)
                if permit.agreed(gone):
                    gone = away.carry_out(permit.lock, name)
                r.finish(gone)
            return
        from dataclasses import replace

        from pgtasks.database.create import drop, left_to_drop

        with r.destroying(confirm=confirm, yes=yes, ask_missing=False) as permit:
            done = left_to_drop(permit.lock)
            if done.existed and permit.agreed(done):
                done = drop(permit.lock)
            r.finish(replace(done, dry=r.dry))


@task(iterable=["table"], help={"table": _TABLE})
def vacuum(c, table=None, env=None, confirm=None, json=False, dry=False):
    """Remove dead rows, so that their space is used again."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.health.maintain import VACUUM

        _maintain(r, VACUUM, table, confirm)


@task(iterable=["table"], help={"table": _TABLE})
def analyze(c, table=None, env=None, confirm=None, json=False, dry=False):
    """Gather the statistics that the planner uses."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.health.maintain import ANALYZE

        _maintain(r, ANALYZE, table, confirm)


@task(iterable=["table"], help={"table": _TABLE})
def reindex(c, table=None, env=None, confirm=None, json=False, dry=False):
    """Build the indexes anew, while others read and write."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.health.maintain import REINDEX

        _maintain(r, REINDEX, table, confirm)


def _maintain(r, kind, table, confirm):
    from pgtasks.health import maintain

    with r.writing(confirm=confirm) as lock:
        if lock is None:
            r.finish(maintain.plan(r.target, kind, table))
            return
        done = maintain.maintain(r.target, kind, table, console=r.console)
        r.finish(done, check=done.check)


@task(help={"write": "allow writes to a protected database, after its name is given or typed"})
def shell(c, env=None, write=False, confirm=None):
    """Open psql on the database, read-only if it is protected."""
    with run(c, env=env, dry=False, journaled=write) as r:
        import sys

        from pgtasks.cli import edge
        from pgtasks.server.psql import shell

        edge.refuse_words(sys.argv, r.task)
        read_only = r.at_prompt(write=write, confirm=confirm)
        if r.dry:
            r.say("would open psql")
        else:
            shell.open_shell(r.target, read_only=read_only)


@task(
    name="run",
    iterable=["file"],
    help={
        "file": "a file with SQL and psql commands (repeatable, in order)",
        "sql": "SQL to run after the files",
        "no_transaction": "commit each statement separately: an error does not undo the others",
        "touch_files": "allow the files to read and write local files: \\copy, \\o, \\g FILE",
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
    help={
        "verbose": "check the connection step by step: name, port, server, password, database",
        "all": "check settings, migrations, trigger files, seeds and the newest backup too",
    },
)
def check(c, env=None, all=False, verbose=False, json=False):
    """Check server, database, role, stamp, tools, leftovers."""
    with run(c, env=env, json=json) as r:
        from pgtasks.health import connection, database

        steps = ()
        if verbose:
            steps = connection.diagnose(r.target, r.environment, r.project.root)
        reached, backups = r.reached(reads=True), r.project.folder("backups")
        readiness = database.examine(reached, backups, steps=steps)
        if all and readiness.content:
            from dataclasses import replace

            from pgtasks.health import project

            more = project.findings(r.project, reached, readiness.content.identity)
            readiness = replace(readiness, project=tuple(more))
        r.finish(readiness, check=readiness.check)
