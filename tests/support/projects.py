"""Projects that tests run tasks in."""

from __future__ import annotations

from pathlib import Path

from psycopg2 import sql
from servers import Cluster

from pgtasks.server import connection, stamp
from pgtasks.server.identity import system_identifier
from pgtasks.settings.target import Target


def put_stamp(target: Target) -> None:
    """Stamp a target's database as its environment's, as `inv db.create` does."""
    # from outside, because a swap may be ending the sessions in it
    with connection.session(target.at(target.maintenance)) as conn:
        mark = stamp.Stamp(target.environment, target.database, system_identifier(conn))
        connection.execute(conn, stamp.comment_statement(target.database, "", mark))


def stamp_of(cluster: Cluster, database: str) -> str:
    """Return the comment of a database, with its stamp."""
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    return str(cluster.value(query, parameters=(database,)))


def put_side(cluster: Cluster, database: str, role: str, run: str, *, owner: str = "") -> str:
    """Make a side database of `database` with the stamp that a run of ours gives it."""
    name = cluster.create(f"{database}__{role}_{run}", owner=owner)
    if role == "old":
        cluster.execute(
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name))
        )
    with connection.session(cluster.target()) as conn:
        system = system_identifier(conn)
        mark = stamp.Stamp("dev", database, system, role=role, run=run)
        connection.execute(conn, stamp.comment_statement(name, "", mark))
    return name


def make_project(folder: Path, url: str, *, environment: str = "dev") -> Path:
    """Make a project whose only environment is reached by a URL."""
    (folder / "env").mkdir(parents=True)
    (folder / "tasks.py").write_text("import pgtasks\n\nns = pgtasks.namespace(__file__)\n")
    (folder / "invoke.yaml").write_text(
        "tasks:\n  executor_class: pgtasks.cli.executor.TaskExecutor\npgtasks: {}\n"
    )
    (folder / "env" / f"{environment}.yaml").write_text(f"url: '{url}'\n", encoding="utf-8")
    return folder
