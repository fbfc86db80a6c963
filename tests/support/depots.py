"""What tests of backups over SSH share: a database on db1, its backups folder, projects."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from consoles import Recorder
from hosts import DatabaseHost
from projects import make_project, put_stamp
from servers import Cluster

from backups import SHOP, below, make
from pgtasks.backup import create
from pgtasks.backup.dump.job import DumpOptions
from pgtasks.backup.store import remote
from pgtasks.backup.store.backup import Backup
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


def reached_on(db1: DatabaseHost, database: str, environment: str = "prod", **ssh: Any) -> Reached:
    """Reach a database on db1 over SSH."""
    login = Login(**db1.place(**{"backups": db1.backups, "silence": 5, **ssh}))
    user = login.sudo_user or db1.user
    target = Target(environment, db1.sockets, db1.cluster.port, database, user, ssh=login)
    return reach.reach(target, Path())


def empty(db1: DatabaseHost) -> None:
    """Remove all backups on db1."""
    db1.do("find", db1.backups, "-mindepth", "1", "-delete")


@dataclass(frozen=True)
class Stock:
    """A small database on db1 that no test changes, and two backups, of which tests get copies."""

    database: str
    here: Path  # made here, two processes writing it
    there: str  # made there, now beside `db1.backups`


@pytest.fixture(scope="module")
def stock(db1: DatabaseHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stock]:
    """Return a database with its backups, made once for all tests of a module."""
    name = filled(db1, Cluster.create)
    here, kept = tmp_path_factory.mktemp("here"), f"{db1.backups}-kept"
    make(replace(db1.cluster.target(name), environment="prod"), here)
    empty(db1)  # of what tests of other files left
    with closing(reached_on(db1, name)) as there:
        make_there(there)
    db1.do("cp", "-a", db1.backups, kept)
    empty(db1)
    yield Stock(name, here, kept)
    db1.do("rm", "-r", kept)
    db1.cluster.drop(name)


@pytest.fixture
def emptied(db1: DatabaseHost) -> Iterator[None]:
    """Remove the backups on db1, before the test those of other files, after it its own."""
    empty(db1)
    yield
    empty(db1)


@pytest.fixture
def shop(db1: DatabaseHost, fresh_database: Fresh, emptied: None) -> str:
    """Return the name of a small database on db1, for a test that changes it."""
    return filled(db1, fresh_database)


@pytest.fixture
def reached(db1: DatabaseHost) -> Iterator[Callable[..., Reached]]:
    """Return what reaches a database on db1 over SSH."""
    opened: list[Reached] = []

    def open_target(*args: Any, **ssh: Any) -> Reached:
        opened.append(reached_on(db1, *args, **ssh))
        return opened[-1]

    yield open_target
    for made in opened:
        made.close()


@pytest.fixture
def there(reached: Callable[..., Reached], stock: Stock, emptied: None) -> Reached:
    """Return the target of the database of `stock`, reached over SSH."""
    return reached(stock.database)


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
def made(db1: DatabaseHost, stock: Stock, far: RemoteStore) -> Backup:
    """Return a copy of the backup of `stock` that was made there."""
    db1.do("cp", "-a", f"{stock.there}/.", db1.backups)
    [backup] = far.list().backups
    return backup


@pytest.fixture
def local(stock: Stock, tmp_path: Path) -> Backup:
    """Return a copy of the backup of `stock` that was made here."""
    [backup] = LocalStore(shutil.copytree(stock.here, tmp_path / "here")).list().backups
    return backup


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
    """Return temporary folders in a project and beside it that nobody works with."""
    partials = [name for name in below(project / "backups") if ".partial" in name]
    return partials + [str(path) for path in tempfiles.left(tempfile.gettempdir())]
