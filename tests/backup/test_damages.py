"""Random damages of real backups: each is found and named, before anything is touched."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import damages
import matrix
import pytest
from consoles import Recorder
from projects import make_project, put_stamp
from restores import save, sides
from servers import Cluster

from backups import SHOP, make
from pgtasks.backup.restore import RestoreOptions, restore
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.verify import verify
from pgtasks.host.local import HERE
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target

Inv = Callable[..., Any]
Layout = str
_EACH = 50  # damages in a test


@pytest.fixture(scope="session")
def pair(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Target, dict[Layout, tuple[Path, Path]]]]:
    """Return a database, and two backups of it in each layout, with other rows."""
    target = cluster.target(cluster.create())
    cluster.psql(target.database, SHOP)
    put_stamp(target)
    found: dict[Layout, list[Path]] = {"directory": [], "custom": []}
    for number in range(2):
        cluster.execute("INSERT INTO orders (total) VALUES (1)", target.database)
        for layout, paths in found.items():
            folder = tmp_path_factory.mktemp(f"{layout}{number}")
            paths.append(make(target, folder, layout=layout).path)
    yield target, {layout: (paths[0], paths[1]) for layout, paths in found.items()}
    cluster.drop(target.database)


@pytest.mark.parametrize("layout", ["directory", "custom"])
@pytest.mark.parametrize("number", range(matrix.rounds(1)))
def test_an_interrupted_or_other_write_is_found(
    cluster: Cluster,
    pair: tuple[Target, dict[Layout, tuple[Path, Path]]],
    tmp_path: Path,
    number: int,
    layout: Layout,
    count: Callable[..., None],
    request: pytest.FixtureRequest,
) -> None:
    seed = getattr(request.config.option, "seed", None) or 0
    chance = random.Random(f"{seed} {number} {layout}")
    target, backups = pair
    one, other = backups[layout]
    before = cluster.databases()
    with Lock(target, "db.restore") as lock:
        for trial in range(_EACH if matrix.whole else 20):
            folder = shutil.copytree(one, tmp_path / str(trial) / one.name)
            damage = damages.put(folder, other, chance)
            damages.assert_found(lambda: verified(folder), damage)  # noqa: B023  called at once
            damages.assert_found(lambda: restored(lock, folder), damage)  # noqa: B023
            shutil.rmtree(folder.parent)
        assert cluster.databases() == before
        whole = shutil.copytree(one, tmp_path / "whole" / one.name)
        verified(whole)
    assert cluster.value("SELECT count(*) FROM orders", target.database) == 1002
    trials = _EACH if matrix.whole else 20
    count(damages=trials, **{"damages here": trials})


def verified(folder: Path) -> None:
    verify(LocalStore(folder.parent).at(folder), HERE)


def restored(lock: Lock, folder: Path) -> None:
    """Restore it, agreeing to everything; the database must not be reached."""
    backup = LocalStore(folder.parent).at(folder)
    restore(lock, HERE, backup, RestoreOptions(1), console=Recorder(), agreed=lambda plan: True)


def test_tasks_exit_with_the_code_and_name_the_file(
    cluster: Cluster, database: str, project: Path, inv: Inv, tmp_path: Path
) -> None:
    cluster.psql(database, SHOP)
    one = Path(save(project))
    other = Path(save(make_project(tmp_path / "other", cluster.url(database))))
    chance = random.Random(5)
    for trial in range(3):
        folder = shutil.copytree(one, tmp_path / str(trial) / one.name)
        damage = damages.put(folder, other, chance)
        for task in ("backup.verify", "db.restore"):
            done = inv(task, "--backup", str(folder))
            assert done.returncode == 5, (str(damage), done.stderr)
            assert damage.name in done.stderr, (str(damage), done.stderr)
    assert sides(cluster, database) == []
