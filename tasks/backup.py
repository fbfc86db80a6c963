"""Backups: list, show, verify. They are made by `inv db.backup`."""

from pgtasks.task import run, task

_ID = {"id": "an ID, the beginning of one, latest, or a path"}


@task(several=True, name="list", help={"all": "those of all environments"})
def list_(c, env=None, all=False, json=False):
    """List the backups of an environment. Example: inv backup.list --env prod"""
    with run(c, "backup.list", env=env, json=json) as r:
        from pgtasks.backup import store, view

        folder = r.project.folder("backups")
        found = store.list_backups(folder, environment=None if all else r.environment.name)
        r.finish(view.Listing(found, store.unreadable(folder), store.leftovers(folder)))


@task(help=_ID)
def show(c, id, env=None, json=False):
    """Show all that is known of one backup. Example: inv backup.show latest"""
    with run(c, "backup.show", env=env, json=json) as r:
        from pgtasks.backup import store, view

        folder = r.project.folder("backups")
        found = store.find(folder, r.target.environment, r.target.database, id)
        r.finish(view.Shown(found))


@task(several=True)
def verify(c, backup=None, env=None, json=False):
    """Read every byte of a backup against its checksum, and its dump. Example: inv backup.verify"""
    with run(c, "backup.verify", env=env, json=json, journaled=True) as r:
        from pgtasks import host, report, tools
        from pgtasks.backup import store
        from pgtasks.backup.verify import verify

        folder = r.project.folder("backups")
        found = store.find(folder, r.target.environment, r.target.database, backup)
        there = host.for_target(r.target)
        toolsets = tools.available(there, r.target)
        with report.Progress("verify", found.manifest.size, quiet=r.json) as progress:
            done = verify(found, there, toolsets=toolsets, jobs=r.target.jobs, progress=progress)
        r.finish(done)
