"""Runs on a database host that are killed here: `make torture` has all steps, and many moments."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import facts as contents
import lives
import matrix
import operations
import pytest
import servers
from facts import Facts
from hosts import DatabaseHost
from lives import Life
from projects import make_project, put_stamp
from remains import clear, left
from restores import save
from schemas import tool
from servers import Cluster
from sessions import SILENCE

from backups import local_backup

Inv = Callable[..., Any]
Versions = dict[str, tuple[str, Facts]]
_STEPS = [(name, step) for name in operations.THERE for step in operations.OPERATIONS[name].steps]


def own(db1: DatabaseHost) -> Cluster:
    """Return the server on the host as the account there sees it."""
    return replace(db1.cluster, superuser=db1.user)


def empty_one(db1: DatabaseHost) -> str:
    name = db1.cluster.create(owner=db1.user)
    db1.cluster.execute(f"GRANT CREATE ON SCHEMA public TO {db1.user}", name)
    return name


def site(db1: DatabaseHost, folder: Path, name: str) -> Path:
    """Make a project whose database is on the host."""
    project = make_project(folder, db1.cluster.url(name), environment="staging")
    block = {"silence": SILENCE, "backups": db1.backups}
    (project / "env" / "staging.yaml").write_text(
        json.dumps(db1.settings(database=name, ssh=block, backup={"keep": {"last": 2}}))
    )
    (project / "invoke.yaml").write_text("pgtasks: {environment: staging}\n")
    put_stamp(db1.cluster.target(name, environment="staging"))
    return project


@pytest.fixture(scope="session")
def versions(db1: DatabaseHost, tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """Return backups of two contents, with the facts of what pg_restore makes of them."""
    if db1.machine.lacks:
        pytest.skip(f"needs a machine of its own: {db1.machine.lacks}")
    found = {}
    for version in ("old", "new"):
        name = empty_one(db1)
        own(db1).execute(contents.CONTENT.replace("{version}", version), name)
        path = save(site(db1, tmp_path_factory.mktemp(version) / "shop", name))
        db1.cluster.drop(name)
        copy = empty_one(db1)
        tool(own(db1), "pg_restore", "-e", "-d", copy, local_backup(Path(path)).dump)
        found[version] = (path, contents.facts(db1.cluster, copy))
        db1.cluster.drop(copy)
    return found


@pytest.fixture(scope="session")
def stranger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Return a backup of another server, no newer than the host's, and the URL of its database."""
    other: Cluster = request.getfixturevalue(
        "system_cluster" if servers.system_bins() else "cluster"
    )
    name = other.create()
    other.execute(contents.CONTENT.replace("{version}", "of another server"), name)
    put_stamp(other.target(name, environment="near"))
    folder = tmp_path_factory.mktemp("near") / "shop"
    project = make_project(folder, other.url(name), environment="near")
    (project / "invoke.yaml").write_text("pgtasks: {environment: near}\n")
    yield save(project), other.url(name)
    other.drop(name)


@pytest.fixture
def life(
    db1: DatabaseHost,
    emptied: None,
    versions: Versions,
    stranger: tuple[str, str],
    tmp_path: Path,
    inv: Inv,
    start_inv: Callable[..., Any],
    start_new_inv: Callable[..., Any],
    request: pytest.FixtureRequest,
) -> Iterator[Life]:
    """Return a project whose database on the host has the old content."""
    name = empty_one(db1)
    root = tmp_path / "life"
    site(db1, root / "shop", name)
    backup, url = stranger
    (root / "shop" / "env" / "near.yaml").write_text(f"url: '{url}'\n", encoding="utf-8")
    lent = str(shutil.copytree(backup, root / "near" / Path(backup).name))
    known = {}
    for version, (path, facts) in versions.items():
        copy = shutil.copytree(path, root / version / Path(path).name)
        known[version] = (str(copy), facts)
    tool(own(db1), "pg_restore", "-e", "-d", name, local_backup(Path(known["old"][0])).dump)
    seed = getattr(request.config.option, "seed", None) or 0
    chance = random.Random(f"{seed} {request.node.name}")
    try:
        runs = (inv, start_inv, start_new_inv)
        yield Life(db1.cluster, name, root, *runs, known, chance, place=db1, stranger=lent)
        db1.quiet()
        assert left(db1) == []
    finally:
        clear(db1)
        db1.cluster.drop(name)


@pytest.mark.parametrize(("name", "step"), matrix.some(_STEPS, 4))
def test_an_interrupted_run_there_at_a_step(
    life: Life, name: str, step: str, count: Callable[..., None]
) -> None:
    with lives.counted(life, count):
        lives.several(life, [name], step, number=matrix.number)


@pytest.mark.parametrize("number", range(matrix.rounds(1, 6)))
def test_an_interrupted_run_there_at_any_moment(
    life: Life, number: int, count: Callable[..., None]
) -> None:
    names = list(operations.THERE)
    life.chance.shuffle(names)
    with lives.counted(life, count):
        lives.several(life, names if matrix.whole else names[:2])
