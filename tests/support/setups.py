"""A project with all parts: a migration, a function, a trigger, seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from projects import make_project
from seeds import CORE, DEMO, TABLES, sets
from servers import Cluster
from triggers import ON_NOTES, TOUCH

from migrations import revision, write_env


def make_shop(cluster: Cluster, fresh_database: Callable[..., str], folder: Path) -> Path:
    """Make the project; its database does not exist yet."""
    name = fresh_database(cluster, 'it\'s a "new" 🐘')
    cluster.drop(name)
    root = make_project(folder, cluster.target(name).url())
    with (root / "env" / "dev.yaml").open("a") as file:
        file.write("seeds: [core, demo]\n")
    write_env(root / "migrations")
    tables = TABLES + "CREATE TABLE notes (id int, at timestamptz);"
    revision(root / "migrations", "one", None, f"op.execute({tables!r})")
    for kind, text in (("functions", TOUCH), ("triggers", ON_NOTES)):
        (root / "sql" / kind).mkdir(parents=True)
        (root / "sql" / kind / "touch.sql").write_text(text, encoding="utf-8")
    (root / "sql" / "seeds").mkdir()
    sets(root / "sql" / "seeds", core=CORE, demo=DEMO)
    return root
