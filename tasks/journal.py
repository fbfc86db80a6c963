"""The journal: who did what to which database, when, and the result."""

from pgtasks import task


@task(
    name="list",
    help={
        "limit": "number of entries, the newest ones (default: 20)",
        "env": "only the entries of this environment",
    },
)
def list_(c, limit=None, env=None, json=False):
    """List the operations, the newest last. Example: inv journal.list --env prod --limit 5"""
    from pgtasks import report
    from pgtasks.cli.context import project_of
    from pgtasks.host import journal
    from pgtasks.settings.project import normalize

    project = project_of(c)
    folder = project.folder("backups")
    shown = journal.newest(folder, limit=limit, environment=env and normalize(env))
    if env and not shown.entries and not shown.older:  # it may be one that is no more
        project.known(env)
    if shown.unreadable:
        report.say(f"warning: {report.plural(shown.unreadable, 'line')} of the journal unreadable")
    if shown.older:
        report.say(f"note: older entries were not looked at, the journal is {journal.path(folder)}")
    report.result(shown, json=json)
