"""Backups: list, show, verify, compare, drill, import, copy. `inv db.backup` creates them."""

from pgtasks import run, task

_ID = {"id": "an ID, the beginning of one, latest, or a path"}
_ON_HOST = {"on_host": "use the backup on the database host, even if this machine has it too"}


def _finder(r):
    from pgtasks.backup.find import Finder

    return Finder(r.project.folder("backups"), r.target, r.landed)


@task(
    several=True,
    name="list",
    help={
        "all": "list the backups of all environments",
        "trash": "list those that backup.prune has dropped, and when they go for good",
    },
)
def list_(c, env=None, all=False, trash=False, json=False):
    """List an environment's backups, here and on its host. Example: inv backup.list"""
    with run(c, env=env, json=json) as r:
        listing = _finder(r).listing(None if all else r.environment.name)
        if trash:
            from pgtasks.backup.dropped import TrashList

            r.finish(
                TrashList(listing.parts, r.environment.name, r.target.backup.trash),
                check=listing.check,
            )
            return
        r.finish(listing, check=listing.check)


@task(help=_ID | _ON_HOST)
def show(c, id, on_host=False, env=None, json=False):
    """Show all facts about a backup. Example: inv backup.show latest"""
    with run(c, env=env, json=json) as r:
        from pgtasks.backup import views

        r.finish(views.BackupShown(_finder(r).find(id, "there" if on_host else "nearest")))


@task(several=True, help=_ON_HOST)
def verify(c, backup=None, on_host=False, env=None, json=False):
    """Read every byte of a backup against its checksum. Example: inv backup.verify"""
    with run(c, env=env, json=json, journaled=True) as r:
        from pgtasks.backup.verify import verify
        from pgtasks.host import tools

        backup = _finder(r).find(backup, "there" if on_host else "nearest")
        options = {"toolsets": tools.available(backup.host, r.target), "jobs": r.target.jobs}
        with r.console.progress("verify", backup.manifest.size) as progress:
            verified = verify(backup, backup.host, **options, progress=progress)
        r.finish(verified)


@task(name="report", together=True)
def report_(c, env=None, json=False):
    """Show when the environments were last proven. Example: inv backup.report --env 'prod-*'"""
    from pgtasks import report
    from pgtasks.backup.audit import audit
    from pgtasks.cli.context import project_of

    audited = audit(project_of(c), env)
    if not json:
        report.result(audited, json=False)
    audited.check()
    if json:
        report.result(audited, json=True)


@task(
    several=True,
    help=_ON_HOST
    | {
        "backup": "ID, latest, ask, or a path (default: the newest complete one)",
        "server": "embedded: a throw-away server (default), or an unprotected environment's",
        "if_older": "do nothing if a drill passed within this span of time, as 12h or 7d",
        "as_superuser": "run the code in the backup with the rights of a superuser",
    },
)
def drill(
    c,
    backup=None,
    server="embedded",
    if_older=None,
    on_host=False,
    as_superuser=False,
    env=None,
    jobs=None,
    json=False,
    dry=False,
):
    """Restore a backup elsewhere, prove it, drop it. Example: inv backup.drill --if-older 7d"""
    flags = {"jobs": jobs}
    with run(c, env=env, json=json, dry=dry, journaled=True, flags=flags) as r:
        from pgtasks.backup.drill import DrillPlan, assertions, drill, due, fetch, place
        from pgtasks.backup.restore import RestoreOptions, doubt
        from pgtasks.cli.source import lent

        backups, finder = r.project.folder("backups"), _finder(r)
        checks = assertions.found(r.project.folder("sql") / "drill", r.project.root)
        if due.seconds(if_older) and (recent := due.not_due(finder.own(), if_older)):
            r.journaled = False
            r.finish(recent)
            return
        kept = finder.find(backup, "there") if on_host else finder.handy(backup)
        options = RestoreOptions(
            r.target.jobs,
            as_superuser=as_superuser,
            leave_behind=True,
            doubt=doubt(kept, backups, r.project.root),
        )
        wanted = place.Wanted(server, kept.manifest, options, dry=r.dry)
        with place.opened(wanted, lambda name: lent(r, name, flag="--server")) as there:
            if there.reached is None:
                r.finish(DrillPlan(kept, there.words, tuple(each.name for each in checks)))
                return
            with fetch.at_hand(kept, there.reached.host, backups, r.console) as at_hand:
                done = drill(there, at_hand, kept, options, checks, console=r.console)
        try:
            r.finish(done, check=done.check)
        finally:
            r.details = done.recorded()


@task(
    name="import",
    iterable=["accept", "leave_out"],
    help={
        "path": "the folder of a backup, or a dump of anybody",
        "part": "of a dump of pg_dumpall, the database whose part is imported",
        "note": "a note, stored in the backup",
        "no_owner": "omit owners and grants of a dump",
        "accept": "accept this difference, by its name in the error (repeatable)",
        "leave_out": "omit this constraint, index, trigger, or what leads outside (repeatable)",
    },
)
def import_(
    c,
    path,
    env=None,
    part="",
    note="",
    jobs=None,
    no_owner=False,
    accept=None,
    leave_out=None,
    json=False,
    dry=False,
):
    """Make a backup of any dump, or take in a stray one."""
    flags = {"jobs": jobs}
    with run(c, env=env, json=json, dry=dry, journaled=True, flags=flags) as r:
        from pathlib import Path

        from pgtasks.backup import imported
        from pgtasks.backup.restore import RestoreOptions

        finder = _finder(r)
        options = RestoreOptions(
            r.target.jobs,
            no_owner=no_owner,
            accept=tuple(accept),
            leave_out=tuple(leave_out),
            leave_behind=True,
            doubt="somebody else made it",
        )
        given = Path(path).expanduser()
        request = imported.Request(given, r.target, finder.here, options, part=part, note=note)
        if r.dry:
            r.finish(imported.plan(request))
        elif imported.is_backup(given):
            r.finish(imported.taken(request, r.console))
        else:
            r.finish(imported.imported(request, r.console))


@task(several=True, help=_ID)
def fetch(c, id, env=None, json=False):
    """Copy a backup from the database host to this machine. Example: inv backup.fetch latest"""
    with run(c, env=env, json=json, journaled=True) as r:
        finder = _finder(r)
        _copy(r, "fetch", finder.find(id, "there"), finder.here)


@task(several=True, help=_ID)
def send(c, id, env=None, json=False):
    """Copy a backup from this machine to the database host. Example: inv backup.send latest"""
    with run(c, env=env, json=json, journaled=True) as r:
        finder = _finder(r)
        store = finder.there()
        _copy(r, "send", finder.find(id, "here"), store)


@task(
    iterable=["without"],
    help=_ID
    | _ON_HOST
    | {
        "against": "another backup, in the same ways (default: the database as it is now)",
        "rows": "compare the rows of all tables (default); --no-rows compares the schema alone",
        "without": "parts to leave out: owners, grants, extensions, settings, roles (a list)",
        "text": "show how definitions differ, line by line",
    },
)
def diff(
    c, id, against=None, rows=True, without=None, text=False, on_host=False, env=None, json=False
):
    """Show what changed since a backup, or between two. Example: inv backup.diff latest"""
    with run(c, env=env, json=json) as r:
        from pgtasks.schema.inspect.diff import perform
        from pgtasks.schema.inspect.diff.compare import left_out

        options = perform.Options(left_out(without), rows=rows, text=text)
        look = "there" if on_host else "nearest"
        backup = _finder(r).find(id, look)
        if against is not None:
            found = perform.backups(backup, _finder(r).find(against, look), options)
        else:
            with r.reading() as reached:
                place = perform.Place(r.environment.name, reached, r.target.jobs)
                found = perform.with_backup(place, backup.id, backup, options, first=True)
        r.finish(found, check=found.check)


@task(
    help={
        "on_host": "the backups on the database host (ssh.backups), not those of this machine",
    }
)
def prune(c, on_host=False, env=None, confirm=None, yes=False, json=False, dry=False):
    """Drop the backups that no rule keeps. Example: inv backup.prune --dry

    The rules are the environment's own: backup: {keep: {last: 7, daily: 14, weekly: 8}}.
    """
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.backup.prune.perform import prune
        from pgtasks.backup.prune.plan import refuse_without_rules

        refuse_without_rules(r.target)
        question = r.discarding(confirm=confirm, yes=yes)
        store = _finder(r).store(on_host=on_host)
        done = prune(store, r.target, lambda p: question.agreed(p, p.warning), dry=r.dry)
        try:
            r.finish(done, check=done.check)
        finally:
            r.details.update(done.journaled())


@task(
    help={
        "id": "an ID, or the beginning of one",
        "on_host": "the backup on the database host (ssh.backups), not that of this machine",
    }
)
def drop(c, id, on_host=False, env=None, confirm=None, yes=False, json=False, dry=False):
    """Drop one backup by hand, also a damaged one."""
    with run(c, env=env, json=json, dry=dry, journaled=True) as r:
        from pgtasks.backup.prune import single

        question = r.discarding(confirm=confirm, yes=yes)
        store = _finder(r).store(on_host=on_host)
        r.finish(
            single.drop(
                store, r.target, id, lambda plan: question.agreed(plan, plan.warning), dry=r.dry
            )
        )


@task(help=_ID | _ON_HOST | {"why": "why it is kept, shown by backup.list"})
def keep(c, id, why=None, on_host=False, env=None, json=False):
    """Keep a backup from backup.prune. Example: inv backup.keep latest --why 'audit of May'"""
    with run(c, env=env, json=json, journaled=True) as r:
        from pgtasks.backup.prune import hands

        r.finish(hands.keep(_one(r, id, on_host), why))


@task(help=_ID | _ON_HOST)
def release(c, id, on_host=False, env=None, json=False):
    """Leave a kept backup to the rules again."""
    with run(c, env=env, json=json, journaled=True) as r:
        from pgtasks.backup.prune import hands

        r.finish(hands.release(_one(r, id, on_host)))


@task(help=_ID | _ON_HOST)
def acknowledge(c, id, on_host=False, env=None, json=False):
    """Acknowledge a loss that stops backup.prune."""
    with run(c, env=env, json=json, journaled=True) as r:
        from pgtasks.backup.prune import seen

        backup = _one(r, id, on_host)
        r.finish(seen.acknowledge(backup, _finder(r).store_of(backup), r.target))


@task(
    help={
        "id": "an ID, the beginning of one, or latest: the one dropped last",
        "on_host": "the trash on the database host, not that of this machine",
    }
)
def untrash(c, id, on_host=False, env=None, json=False):
    """Bring back a backup that backup.prune has dropped."""
    with run(c, env=env, json=json, journaled=True) as r:
        from pgtasks.backup.prune import hands

        store = _finder(r).store(on_host=on_host)
        r.finish(hands.untrash(store, r.target.environment, r.target.database, id))


def _one(r, id, on_host):
    return _finder(r).find(id, "there" if on_host else "nearest")


def _copy(r, what, backup, store):
    from pgtasks.backup.store import transfer

    with r.console.progress(what, backup.manifest.size) as progress:
        copied = transfer.copy(backup, store, progress=progress)
    r.finish(copied)
