"""A project with migrations and its database, with what the tasks do inside."""

from __future__ import annotations

from pathlib import Path

from servers import Cluster

from migrations import revision, write_env
from pgtasks.schema import migrate
from pgtasks.schema.migrate.scripts import Scripts
from pgtasks.server.identity import Identity, present
from pgtasks.server.reach import identify
from pgtasks.settings.project import load
from pgtasks.settings.target import Target


class Shop:
    """A project and its database, with what the tasks do between the guard and the printing."""

    def __init__(self, cluster: Cluster, target: Target, root: Path) -> None:
        self.cluster, self.target, self.root = cluster, target, root
        self.folder = root / "migrations"

    @property
    def scripts(self) -> migrate.Scripts:
        return migrate.needed(load(self.root))

    @property
    def identity(self) -> Identity:
        return present(identify(self.target), self.target)

    def status(self) -> migrate.State:
        return migrate.status(self.scripts, self.target, self.identity)

    @property
    def place(self) -> tuple[Scripts, Target, Identity]:
        return self.scripts, self.target, self.identity

    def plan(self, direction: str, to: str, *, exact: bool = False) -> migrate.MigrationPlan:
        return migrate.plan(*self.place, direction, to, exact=exact)

    def up(self, to: str = "head") -> migrate.Migrated:
        return migrate.perform(self.scripts, self.target, self.identity, self.plan("up", to))

    def down(self, to: str = "-1") -> migrate.Migrated:
        return migrate.perform(self.scripts, self.target, self.identity, self.plan("down", to))

    def new(self, message: str) -> migrate.Written:
        return migrate.new(self.scripts, self.target, self.identity, message)

    def tables(self, database: str = "") -> list[str]:
        query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 2200"
        rows = self.cluster.execute(query + " ORDER BY 1", database or self.target.database)
        return [name for (name,) in rows]


def two_revisions(cluster: Cluster, target: Target, project: Path) -> Shop:
    """Make a project with two revisions and no alembic.ini."""
    made = Shop(cluster, target, project)
    write_env(made.folder)
    notes = "op.execute('CREATE TABLE notes (id int PRIMARY KEY, text text)')"
    revision(made.folder, "one", None, notes, "op.drop_table('notes')")
    tags = "op.execute('CREATE TABLE tags (id int PRIMARY KEY)')"
    revision(made.folder, "two", "one", tags, "op.drop_table('tags')")
    return made
