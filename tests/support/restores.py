"""A database with content, its damage, and what stands beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import prefork
import pytest
from servers import Cluster

from pgtasks.database import loader

CONTENT = """
CREATE SCHEMA "odd schema";
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL UNIQUE, mood mood);
CREATE TABLE "odd schema"."it's 🐘" (n int REFERENCES people, "t" text CHECK (t <> ''));
CREATE VIEW happy AS SELECT * FROM people WHERE mood = 'ok';
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM people;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO people (name, mood) SELECT 'name ' || i, 'ok' FROM generate_series(1, 1000) i;
INSERT INTO "odd schema"."it's 🐘" SELECT i, md5(i::text) FROM generate_series(1, 1000) i;
"""


def save(project: Path, *flags: str) -> str:
    """Back up a project's database as a user does, and return the backup's folder."""
    done = prefork.run([prefork.INV, "db.backup", *flags], cwd=project, input="", seconds=120)
    assert done.returncode == 0, done.stderr
    return newest(project)


def fill(cluster: Cluster, database: str) -> None:
    cluster.execute(CONTENT, database)


@pytest.fixture(scope="module")
def plain_owner(cluster: Cluster) -> Iterator[str]:
    """Return a plain role that owns the databases here; the superuser works on them."""
    name = f"owner{os.getpid()}"
    cluster.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    cluster.execute(f"DROP ROLE {name}")


def fill_as(cluster: Cluster, database: str, owner: str) -> None:
    """Give a database to its owner, and let him fill it."""
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {owner}')
    session = cluster.connect(database, user=owner)
    with session.cursor() as cursor:
        cursor.execute(CONTENT)
    session.close()


def rows(cluster: Cluster, database: str, table: str = "people") -> int:
    return cluster.value(f"SELECT count(*) FROM {table}", database)


def sides(cluster: Cluster, database: str) -> list[str]:
    return [name for name in cluster.databases() if name.startswith(f"{database}__")]


def logins(cluster: Cluster, database: str) -> list[tuple[str]]:
    """Return the roles that loads of a database run as."""
    query = "SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)"
    return cluster.execute(query, parameters=(loader.name(database, ""),))


def damage(cluster: Cluster, database: str) -> None:
    cluster.execute(
        'DROP TABLE "odd schema"."it\'s 🐘"; DELETE FROM people WHERE id > 10', database
    )


def newest(project: Path) -> str:
    """Return the folder of the newest backup; IDs of the same second are in no order."""
    found = project.glob("backups/*/*/*/manifest.json")
    return str(max(found, key=lambda path: path.stat().st_mtime_ns).parent)
