"""What tests of backups over SSH share: a database on db1, its backups folder, projects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from consoles import Recorder
from hosts import DatabaseHost
from projects import make_project, put_stamp

from backups import SHOP, below, make
from pgtasks.backup import create
from pgtasks.backup.dump.job import DumpOptions
from pgtasks.backup.store import remote
from pgtasks.backup.store.base import Backup
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.store.remote import RemoteStore
from pgtasks.host import tempfiles
from pgtasks.report import Console
from pgtasks.server import reach
from pgtasks.server.reach import Reached
from pgtasks.settings.ssh import Login
from pgtasks.settings.target import Target

ODD = 'it\'s "a" größe 🐘/x=y %41'
Fresh = Callable[..., str]
Inv = Callable[..., Any]


def filled(db1: DatabaseHost, fresh_database: Fresh, name: str = "") -> str:
    """Make a small database on db1 that its account owns, and return its name."""
    made = fresh_database(db1.cluster, name, owner=db1.user)
    db1.cluster.execute(f"SET ROLE {db1.user};{SHOP}", made)
    return made


@pytest.fixture
def shop(db1: DatabaseHost, fresh_database: Fresh) -> Iterator[str]:
    """Return the name of a small database on db1; backups there go with it."""
    yield filled(db1, fresh_database)
    db1.do("find", db1.backups, "-mindepth", "1", "-delete")


@pytest.fixture
def reached(db1: DatabaseHost) -> Iterator[Callable[..., Reached]]:
    """Return what reaches a database on db1 over SSH."""
    opened: list[Reached] = []

    def open_target(database: str, environment: str = "prod", **ssh: Any) -> Reached:
        login = Login(**db1.place(**{"backups": db1.backups, "silence": 5, **ssh}))
        user = login.sudo_user or db1.user
        there = Target(environment, db1.sockets, db1.cluster.port, database, user, ssh=login)
        opened.append(reach.reach(there, Path()))
        return opened[-1]

    yield open_target
    for made in opened:
        made.close()


@pytest.fixture
def there(reached: Callable[..., Reached], shop: str) -> Reached:
    """Return the target of `shop`, reached over SSH."""
    return reached(shop)


@pytest.fixture
def far(there: Reached) -> RemoteStore:
    """Return the backups folder on db1."""
    return far_of(there)


def far_of(reached: Reached) -> RemoteStore:
    found = remote.of(reached.host, reached.target.ssh)
    assert found is not None
    return found


def make_there(reached: Reached, console: Console | None = None, **more: Any) -> Backup:
    """Make a backup that stays on the host."""
    return create.create(
        reached,
        store=far_of(reached),
        options=DumpOptions(**more),
        console=console or Recorder(),
    )


@pytest.fixture
def local(db1: DatabaseHost, shop: str, tmp_path: Path) -> Backup:
    """Return a backup of `shop` that was made here, two processes writing it."""
    target = replace(db1.cluster.target(shop), environment="prod")
    return make(target, tmp_path / "here")


def everything(db1: DatabaseHost, folder: str = "") -> list[str]:
    """Return the names of all that lies below the folders of databases on db1."""
    found = db1.do("find", folder or db1.backups, "-mindepth", "3", "-printf", "%P\n")
    return sorted(found.splitlines())


def spoil(db1: DatabaseHost, path: str) -> None:
    """Change the last byte of a file there, not its size."""
    db1.do("sh", "-c", 'truncate -s -1 "$0" && printf "\\001" >> "$0"', path)


def plain(dump: str) -> list[str]:
    """Return the lines of a script but for the random word that psql is guarded by."""
    return [line for line in dump.splitlines() if "restrict" not in line]


def dat(backup: Backup) -> str:
    return next(name for name in backup.manifest.files if name.endswith(".dat.gz"))


@pytest.fixture
def shop_project(db1: DatabaseHost, shop: str, tmp_path: Path) -> Path:
    """Return a project whose `field` is `shop` on db1, stamped, and its default environment."""
    settings = db1.settings(ssh={"silence": 5, "backups": db1.backups}, database=shop)
    target = replace(db1.cluster.target(shop), environment="field")
    return make_site(tmp_path / 'it\'s a "project" 🐘', settings, target)


def make_site(folder: Path, settings: dict[str, Any], target: Target) -> Path:
    put_stamp(target)
    made = make_project(folder, "postgresql://nobody@nowhere/none")
    (made / "env" / "field.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (made / "invoke.yaml").write_text(
        "tasks:\n  executor_class: pgtasks.cli.executor.TaskExecutor\n"
        "pgtasks:\n  environment: field\n"
    )
    return made


@pytest.fixture
def big(db1: DatabaseHost, shop: str, shop_project: Path) -> Path:
    """Return a project whose database takes a while."""
    db1.cluster.execute(
        "CREATE TABLE big AS SELECT md5(random()::text) AS x FROM generate_series(1, 200000);"
        f"ALTER TABLE big OWNER TO {db1.user}",
        shop,
    )
    return shop_project


def path_of(project: Path, made: dict[str, Any]) -> Path:
    return Path(LocalStore(project / "backups").home("field", made["database"])) / made["id"]


def left_here(project: Path) -> list[str]:
    """Return temporary folders in a project and below /tmp that nobody works with."""
    partials = [name for name in below(project / "backups") if ".partial" in name]
    return partials + [str(path) for path in tempfiles.left("/tmp")]
