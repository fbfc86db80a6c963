"""Restores into a database on a host over SSH, from a backup here or there, and their faults."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from depots import empty
from halting import OLD, halted
from hosts import DatabaseHost
from matrix import matrix
from projects import make_project, put_stamp
from remains import clear, left
from restores import damage, fill, rows, save, sides
from servers import Cluster
from sessions import SILENCE, alive_of_ours, sessions
from waiting import PATIENCE, until

from pgtasks.report import boundaries

NEW = 1000
_SWAPPED = ("swap.done", "restore.swapped")

Inv = Callable[..., Any]


def settings(place: DatabaseHost, database: str, **ssh: Any) -> str:
    block = {"silence": SILENCE, "backups": place.backups, **ssh}
    return json.dumps(place.settings(database=database, ssh=block))


def fill_there(place: DatabaseHost, database: str) -> None:
    """Fill a database as the account that tasks connect as, so that it may restore all of it."""
    place.cluster.execute(f'ALTER DATABASE "{database}" OWNER TO {place.user}')
    as_user = replace(place.cluster, superuser=place.user)
    place.cluster.execute(f"GRANT CREATE ON SCHEMA public TO {place.user}", database)
    fill(as_user, database)


@pytest.fixture(scope="module")
def base(db1: DatabaseHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a project with a backup here and the same content on the host."""
    if db1.machine.lacks:
        pytest.skip(f"needs a machine of its own: {db1.machine.lacks}")
    empty(db1)  # of what tests of other files left
    name = db1.cluster.create()
    fill_there(db1, name)
    folder = tmp_path_factory.mktemp("base") / "shop"
    folder = make_project(folder, db1.cluster.url(name), environment="staging")
    (folder / "env" / "staging.yaml").write_text(settings(db1, name))
    (folder / "invoke.yaml").write_text("pgtasks: {environment: staging}\n")
    put_stamp(db1.cluster.target(name, environment="staging"))
    for flags in ((), ("--on-host",)):
        save(folder, *flags)
    yield folder
    db1.cluster.drop(name)
    db1.do("sh", "-c", f"rm -rf {db1.backups}/*")


@pytest.fixture
def shop(base: Path, db1: DatabaseHost, tmp_path: Path) -> Iterator[Path]:
    """Return the project, its database of its own damaged; nothing may be left on the host."""
    name = db1.cluster.create()
    fill_there(db1, name)
    damage(db1.cluster, name)
    put_stamp(db1.cluster.target(name, environment="staging"))
    folder = tmp_path / "shop"
    shutil.copytree(base, folder)
    (folder / "env" / "staging.yaml").write_text(settings(db1, name))
    (folder / "name").write_text(name)
    before = there(db1)
    try:
        yield folder
        db1.quiet()
        assert left(db1) == []
        assert there(db1) == before
    finally:
        clear(db1)
        db1.cluster.drop(name)


def there(place: DatabaseHost) -> list[str]:
    """Return the folders of backups on the host, those half made too."""
    return place.do("find", place.backups, "-mindepth", "3", "-maxdepth", "3").splitlines()


def name_of(shop: Path) -> str:
    return (shop / "name").read_text()


def here(shop: Path) -> str:
    """Return the path of the backup that lies on this machine."""
    (found,) = [str(path) for path in (shop / "backups").glob("*/*/[!.]*")]
    return found


def on_host(place: DatabaseHost) -> str:
    return there(place)[0].rpartition("/")[2]


def test_restores_a_backup_from_here(db1: DatabaseHost, shop: Path, inv: Inv) -> None:
    name = name_of(shop)
    done = inv("db.restore", "--backup", here(shop), cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 tables identical, 2,000 rows" in done.stdout
    assert f"sent to {db1.user}@{db1.address}: " in done.stderr
    assert rows(db1.cluster, name) == NEW
    undone = inv("db.undo", cwd=shop)
    assert undone.returncode == 0, undone.stderr
    assert rows(db1.cluster, name) == OLD
    assert inv("db.undo", cwd=shop).returncode == 0
    assert rows(db1.cluster, name) == NEW
    forgotten = inv("db.forget", "--yes", cwd=shop)
    assert forgotten.returncode == 0, forgotten.stderr
    assert sides(db1.cluster, name) == []


@pytest.mark.parametrize("where", [here, on_host])
def test_restores_in_place(
    db1: DatabaseHost, shop: Path, inv: Inv, where: Callable[[Any], str]
) -> None:
    which = where(shop) if where is here else where(db1)
    name = name_of(shop)
    done = inv("db.restore", "--backup", which, "--in-place", "--yes", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "in place: 2 of 2 tables identical, 2,000 rows" in done.stdout
    assert "may create databases: without --in-place what is replaced is kept" in done.stderr
    assert rows(db1.cluster, name) == NEW
    assert sides(db1.cluster, name) == []


def test_restores_a_backup_that_lies_there(db1: DatabaseHost, shop: Path, inv: Inv) -> None:
    done = inv("db.restore", "--backup", on_host(db1), cwd=shop)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 tables identical, 2,000 rows" in done.stdout
    assert "intact: " in done.stderr
    assert "sent to" not in done.stderr
    assert rows(db1.cluster, name_of(shop)) == NEW


def test_a_plan_sends_nothing(db1: DatabaseHost, shop: Path, inv: Inv) -> None:
    for backup in (here(shop), on_host(db1)):
        done = inv("db.restore", "--backup", backup, "--dry", cwd=shop)
        assert done.returncode == 0, done.stderr
        assert (f"go to {db1.user}@{db1.address} first" in done.stdout) == (os.sep in backup)
    assert rows(db1.cluster, name_of(shop)) == OLD


def test_the_newest_of_both_places_is_the_default(
    base: Path, db1: DatabaseHost, tmp_path: Path, inv: Inv
) -> None:
    shutil.copytree(base, tmp_path / "shop")
    done = inv("db.restore", "--dry", cwd=tmp_path / "shop")
    assert done.returncode == 0, done.stderr
    assert f"backup   {on_host(db1)} " in done.stdout
    assert "first" not in done.stdout
    made = inv("db.backup", cwd=tmp_path / "shop")
    assert made.returncode == 0, made.stderr
    done = inv("db.restore", "--dry", cwd=tmp_path / "shop")
    assert f"go to {db1.user}@{db1.address} first" in done.stdout
    unknown = inv("db.restore", "--backup", "2001", cwd=tmp_path / "shop")
    assert unknown.returncode == 2
    assert "unknown backup '2001'" in unknown.stderr


def test_a_restore_there_into_a_database_here(
    base: Path, cluster: Cluster, database: str, db1: DatabaseHost, tmp_path: Path, inv: Inv
) -> None:
    shutil.copytree(base, tmp_path / "shop")
    (tmp_path / "shop/env/dev.yaml").write_text(f"url: '{cluster.url(database)}'\n")
    cluster.execute(f"CREATE ROLE {db1.user}")
    put_stamp(cluster.target(database))
    try:
        fetched = inv("backup.fetch", on_host(db1), cwd=tmp_path / "shop")
        assert fetched.returncode == 0, fetched.stderr
        done = inv(
            *("db.restore", "--env", "dev", "--backup", on_host(db1)),
            # a superuser owns the database here, and the backup is of another environment
            *("--no-owner", "--as-superuser", "--confirm", database),
            cwd=tmp_path / "shop",
        )
        assert done.returncode == 0, done.stderr
        assert "tables identical" in done.stdout
        assert rows(cluster, database) == NEW
    finally:
        cluster.execute(f"DROP ROLE {db1.user}")


def test_a_damaged_backup_replaces_nothing(db1: DatabaseHost, shop: Path, inv: Inv) -> None:
    dump = Path(here(shop)) / "dump.pgdump"
    content = bytearray(dump.read_bytes())
    content[len(content) // 2] ^= 1
    dump.write_bytes(content)
    done = inv("db.restore", "--backup", here(shop), cwd=shop)
    assert done.returncode == 5, done.stderr
    assert "dump.pgdump" in done.stderr
    assert rows(db1.cluster, name_of(shop)) == OLD
    assert sides(db1.cluster, name_of(shop)) == []


def test_a_full_disk_there_replaces_nothing(db1: DatabaseHost, shop: Path, inv: Inv) -> None:
    with db1.full_disk(db1.backups, bytes=65536):
        done = inv("db.restore", "--backup", here(shop), cwd=shop)
    assert done.returncode == 1, done.stderr
    assert "no room for backup" in done.stderr
    assert rows(db1.cluster, name_of(shop)) == OLD
    assert sides(db1.cluster, name_of(shop)) == []


def test_tools_that_are_missing_there_replace_nothing(
    db1: DatabaseHost, shop: Path, inv: Inv
) -> None:
    with db1.hidden_tools():
        done = inv("db.restore", "--backup", here(shop), cwd=shop)
    assert done.returncode == 7, done.stderr
    assert rows(db1.cluster, name_of(shop)) == OLD


def test_restores_as_another_account(db1: DatabaseHost, shop: Path, inv: Inv) -> None:
    name = name_of(shop)
    more = {"silence": SILENCE, "sudo_user": "postgres", "backups": "/var/tmp/backups"}
    (shop / "env" / "staging.yaml").write_text(
        json.dumps(db1.settings(database=name, user="postgres", ssh=more))
    )
    restore = ("db.restore", "--backup", here(shop))
    # peer authentication lets in no login that is made for the load, and by SET ROLE none is begun
    refused = inv(*restore, cwd=shop)
    assert refused.returncode == 2, refused.stderr
    assert "Peer authentication failed" in refused.stderr
    assert rows(db1.cluster, name) == OLD
    done = inv(*restore, "--as-superuser", "--confirm", name, cwd=shop)
    db1.do("rm", "-rf", "/var/tmp/backups")
    assert done.returncode == 0, done.stderr
    assert rows(db1.cluster, name) == NEW


def kill(process: subprocess.Popen[str], place: DatabaseHost) -> ExitStack:
    os.kill(process.pid, signal.SIGKILL)
    return ExitStack()


def interrupt(process: subprocess.Popen[str], place: DatabaseHost) -> ExitStack:
    os.killpg(process.pid, signal.SIGINT)
    return ExitStack()


def cut(process: subprocess.Popen[str], place: DatabaseHost) -> ExitStack:
    cut = place.cut()
    os.kill(process.pid, signal.SIGUSR1)  # it goes on, into the silence
    return cut


def kill_sshd(process: subprocess.Popen[str], place: DatabaseHost) -> ExitStack:
    back = place.stop_sshd()
    os.kill(process.pid, signal.SIGUSR1)
    return back


_CODES = {"kill": -signal.SIGKILL, "interrupt": 130, "cut": 4, "kill_sshd": 4}
# where another thing lies on the host, or runs there, than at the step before
_STEPS = ("restore.sent", "restore.created", "restore.loading", "restore.loaded", *boundaries.SWAP)


@matrix(step=list(_STEPS), fault=[cut, kill, interrupt, kill_sshd])
def test_an_interrupted_restore_leaves_old_or_new(
    db1: DatabaseHost,
    shop: Path,
    inv: Inv,
    start_inv: Callable[..., Any],
    step: str,
    fault: Callable[..., ExitStack],
) -> None:
    name = name_of(shop)

    process = halted(start_inv, step, "db.restore", "--backup", here(shop), cwd=shop)
    with fault(process, db1):
        _, said = process.communicate(timeout=PATIENCE)
        until(lambda: not alive_of_ours(db1), lambda: f"{alive_of_ours(db1)}")
        until(lambda: not sessions(db1), lambda: sessions(db1))
        assert left(db1) == []
    # a line that is lost after the swap fails nothing that was still to do
    done = step in _SWAPPED and fault in (cut, kill_sshd)
    assert process.returncode in ((0, 4) if done else (_CODES[fault.__name__],)), said
    swapped = rows(db1.cluster, name)
    assert swapped == (NEW if step in _SWAPPED else OLD)
    healed = inv("db.recover", cwd=shop)
    assert healed.returncode == 0, healed.stderr
    assert len(sides(db1.cluster, name)) == (1 if step in _SWAPPED else 0)
    assert rows(db1.cluster, name) == swapped


def test_the_next_restore_heals_and_says_so(
    db1: DatabaseHost, shop: Path, inv: Inv, start_inv: Callable[..., Any]
) -> None:
    process = halted(start_inv, "restore.loading", "db.restore", "--backup", here(shop), cwd=shop)
    with kill(process, db1):
        process.communicate(timeout=PATIENCE)
    db1.quiet()
    left_here = f"pgtasks-*{process.pid}-*"
    assert list(Path(tempfile.gettempdir()).glob(left_here))
    done = inv("db.restore", "--backup", here(shop), cwd=shop)
    assert not list(Path(tempfile.gettempdir()).glob(left_here))
    assert done.returncode == 0, done.stderr
    assert "interrupted run left half built" in done.stderr
    assert rows(db1.cluster, name_of(shop)) == NEW


@pytest.mark.parametrize("step", ["restore.loading", "swap.ready"])
def test_a_server_that_restarts_replaces_nothing(
    db1: DatabaseHost, shop: Path, inv: Inv, start_inv: Callable[..., Any], step: str
) -> None:
    process = halted(start_inv, step, "db.restore", "--backup", here(shop), cwd=shop)
    with db1.stop_server():
        os.kill(process.pid, signal.SIGUSR1)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4, said
    assert "Traceback" not in said
    assert rows(db1.cluster, name_of(shop)) == OLD
    healed = inv("db.recover", cwd=shop)
    assert healed.returncode == 0, healed.stderr
    assert sides(db1.cluster, name_of(shop)) == []
    assert rows(db1.cluster, name_of(shop)) == OLD
