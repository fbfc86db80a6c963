"""A project whose database lives on this machine, for runs that are killed: see lives.py."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import facts as contents
import pytest
from facts import Facts
from lives import Life
from projects import make_project, put_stamp
from restores import save
from schemas import tool
from servers import Cluster

from backups import local_backup

Inv = Callable[..., Any]
Versions = dict[str, tuple[str, Facts]]


@pytest.fixture(scope="session")
def life_owner(cluster: Cluster) -> str:
    """Return a plain role that owns the databases; it goes with the server."""
    query = "SELECT count(*) FROM pg_roles WHERE rolname = 'life_owner'"
    if not cluster.value(query):  # each file of tests that uses it makes this fixture anew
        cluster.execute("CREATE ROLE life_owner LOGIN")
    return "life_owner"


@pytest.fixture(scope="session")
def versions(
    cluster: Cluster, life_owner: str, tmp_path_factory: pytest.TempPathFactory
) -> Versions:
    """Return backups of two contents, with the facts of what pg_restore makes of them."""
    found = {}
    for version in ("old", "new"):
        name = cluster.create(owner=life_owner)
        session = cluster.connect(name, user=life_owner)
        with session.cursor() as cursor:
            cursor.execute(contents.CONTENT.replace("{version}", version))
        session.close()
        put_stamp(cluster.target(name))
        folder = tmp_path_factory.mktemp(version)
        path = save(make_project(folder / "shop", cluster.url(name)))
        cluster.drop(name)
        copy = cluster.create(owner=life_owner)
        tool(cluster, "pg_restore", "-e", "-d", copy, local_backup(Path(path)).dump)
        found[version] = (path, contents.facts(cluster, copy))
        cluster.drop(copy)
    return found


@pytest.fixture
def life(
    cluster: Cluster,
    database: str,
    life_owner: str,
    versions: Versions,
    tmp_path: Path,
    inv: Inv,
    start_inv: Callable[..., Any],
    start_new_inv: Callable[..., Any],
    request: pytest.FixtureRequest,
) -> Life:
    """Return a project whose database has the old content."""
    cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {life_owner}')
    put_stamp(cluster.target(database))
    root = tmp_path / "life"
    project = make_project(root / "shop", cluster.url(database))
    (project / "env" / "dev.yaml").write_text(
        f"url: '{cluster.url(database)}'\nbackup:\n  keep: {{last: 2}}\n", encoding="utf-8"
    )
    known = {}
    for version, (path, facts) in versions.items():
        copy = shutil.copytree(path, root / version / Path(path).name)
        known[version] = (str(copy), facts)
    tool(cluster, "pg_restore", "-e", "-d", database, local_backup(Path(known["old"][0])).dump)
    seed = getattr(request.config.option, "seed", None) or 0
    chance = random.Random(f"{seed} {request.node.name}")
    return Life(cluster, database, root, inv, start_inv, start_new_inv, known, chance)
