"""The database itself: create, check, back up, restore, undo."""

from pgtasks.task import run, task


@task(help={"note": "a line of text that is kept with the backup"})
def backup(c, env=None, jobs=None, note=None, json=False, dry=False):
    """Back up the database, with the proof of its content. Example: inv db.backup --note 'x'"""
    with run(c, "db.backup", env=env, json=json, dry=dry, journaled=True, flags={"jobs": jobs}):
        raise NotImplementedError
