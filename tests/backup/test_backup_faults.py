"""Backups that are interrupted: nothing is listed, nothing is left, nothing runs on."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import servers
from halting import halted, unlocked
from projects import make_project, put_stamp
from servers import Cluster
from waiting import PATIENCE, meanwhile, until

from backups import SHOP, back_up_within, below, processes_with
from pgtasks.backup.store.local import LocalStore
from pgtasks.report import boundaries

PASSWORD = "s3cret:with\\odd 'characters' ü"
Inv = Callable[..., Any]


def sessions(cluster: Cluster, database: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    return int(cluster.value(query, parameters=(database,)))


def partials(folder: Path) -> list[str]:
    return [name for name in below(folder) if name.endswith(".partial")]


@pytest.fixture
def shop(cluster: Cluster, database: str, project: Path) -> Path:
    """Return a project whose database has something in it."""
    cluster.psql(database, SHOP)
    return project


class TestKilled:
    @pytest.mark.parametrize("step", boundaries.BACKUP)
    def test_at_each_step(
        self, cluster: Cluster, database: str, shop: Path, start_inv: Inv, inv: Inv, step: str
    ) -> None:
        folder = shop / "backups"
        process = halted(start_inv, step, "db.backup")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        until(lambda: not processes_with(str(folder)))
        until(lambda: not sessions(cluster, database))
        finished = step == "backup.renamed"
        whole = step == "backup.written"  # its name alone is missing
        listed = json.loads(inv("backup.list", "--json").stdout)
        assert len(listed["backups"]) == finished
        assert len(listed["interrupted"]) == (not finished)
        done = unlocked(inv, "db.backup")
        assert done.returncode == 0, done.stderr
        assert ("an interrupted backup" in done.stderr) is not (finished or whole)
        assert ("completed backup " in done.stderr) is whole
        assert partials(folder) == []
        assert len(LocalStore(folder).list().backups) == 1 + (finished or whole)
        for backup in LocalStore(folder).list().backups:
            assert inv("backup.verify", "--backup", backup.id).returncode == 0

    def test_recover_sweeps_too(self, shop: Path, start_inv: Inv, inv: Inv) -> None:
        process = halted(start_inv, "backup.dumped", "db.backup")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(partials(shop / "backups")) == 1
        done = unlocked(inv, "db.recover")
        assert done.returncode == 0, done.stderr
        assert partials(shop / "backups") == []

    def test_another_run_leaves_a_living_one_alone(
        self, shop: Path, start_inv: Inv, inv: Inv
    ) -> None:
        process = halted(start_inv, "backup.dumped", "db.backup")
        [name] = partials(shop / "backups")
        assert json.loads(inv("backup.list", "--json").stdout)["interrupted"] == []
        assert LocalStore(shop / "backups").sweep() == []
        assert inv("db.backup").returncode == 6
        assert partials(shop / "backups") == [name]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


class TestInterrupted:
    @pytest.mark.parametrize(
        ("step", "sign"),
        [
            ("backup.begun", signal.SIGINT),
            ("backup.dumping", signal.SIGINT),
            ("backup.dumping", signal.SIGTERM),
            ("backup.dumping", signal.SIGHUP),
            ("backup.written", signal.SIGINT),
        ],
    )
    def test_in_order(
        self,
        cluster: Cluster,
        database: str,
        shop: Path,
        start_inv: Inv,
        step: str,
        sign: signal.Signals,
    ) -> None:
        process = halted(start_inv, step, "db.backup")
        os.killpg(process.pid, sign)
        assert process.wait(PATIENCE) == 130
        assert partials(shop / "backups") == []
        assert LocalStore(shop / "backups").list().backups == []
        # the workers of pg_dump end after it: each cancels its query before
        until(lambda: not processes_with(str(shop / "backups")))
        until(lambda: sessions(cluster, database) == 0)
        [entry] = (shop / "backups" / "journal.jsonl").read_text().splitlines()
        assert json.loads(entry)["result"] == "interrupted: no backup was kept"

    def test_while_pg_dump_waits_for_a_lock(
        self, cluster: Cluster, database: str, shop: Path, start_inv: Inv
    ) -> None:
        blocker = cluster.connect(database)
        with blocker.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE orders")
            process = start_inv("db.backup")
            until(lambda: cluster.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(PATIENCE) == 130
            until(lambda: not cluster.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        blocker.close()
        assert partials(shop / "backups") == []


class TestFullDisk:
    def test_is_said_in_the_tool_s_words(
        self, cluster: Cluster, database: str, shop: Path, tmp_path: Path
    ) -> None:
        cluster.execute(
            "CREATE TABLE big AS SELECT md5(random()::text) AS x FROM generate_series(1, 100000)",
            database,
        )
        done = back_up_within(500_000, shop)
        assert done.returncode == 1
        assert "pg_dump failed" in done.stderr
        assert partials(shop / "backups") == []
        assert LocalStore(shop / "backups").list().backups == []

    def test_of_our_own_files(self, cluster: Cluster, database: str, shop: Path) -> None:
        # the dump is smaller than what stands beside it: JSON needs two characters for a quote
        quotes = '"' * 60_000
        cluster.execute(f"ALTER DATABASE \"{database}\" SET app.quotes = '{quotes}'", database)
        assert back_up_within(200_000, shop).returncode == 0
        done = back_up_within(100_000, shop)
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert partials(shop / "backups") == []
        assert len(LocalStore(shop / "backups").list().backups) == 1


@contextmanager
def watched() -> Iterator[set[bytes]]:
    """Collect argv and environment of all processes for the length of a block."""
    seen: set[bytes] = set()

    def look() -> None:
        for entry in Path("/proc").glob("[0-9]*"):
            for part in ("cmdline", "environ"):
                with suppress(OSError):
                    seen.add((entry / part).read_bytes())

    with meanwhile(look, pause=0.002):
        yield seen


class TestPassword:
    @pytest.fixture(params=["socket", "tcp"])
    def place(self, request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, str, int]]:
        """Return a server that wants a password, and how it is reached.

        The tools of the wheel have no TLS and serve sockets only.
        """
        if request.param == "socket":
            cluster = request.getfixturevalue("password_cluster")
            yield cluster, cluster.host, cluster.port
            return
        found = {major: bin for major, bin in servers.system_bins().items() if 14 <= major <= 18}
        if not found:
            pytest.skip("this system has no PostgreSQL of its own, whose tools serve TCP")
        with servers.running(found[max(found)], password=PASSWORD, tcp=True) as cluster:
            yield cluster, "127.0.0.1", cluster.tcp_port

    def test_is_in_no_place(
        self, place: tuple[Cluster, str, int], tmp_path: Path, inv: Inv
    ) -> None:
        cluster, host, port = place
        name = cluster.create()
        cluster.execute(SHOP, name)
        # long enough for pg_dump to be seen
        cluster.execute(
            "CREATE TABLE large AS SELECT md5(n::text) AS x FROM generate_series(1, 300000) n", name
        )
        put_stamp(cluster.target(name))
        project = make_project(
            tmp_path / "shop", f"postgresql://postgres@/{name}?host={host}&port={port}"
        )
        secret = cluster.password
        (project / "env" / "dev.env").write_text(
            f"DEV_DATABASE_URL='postgresql://postgres:{quote(secret, safe='')}@/{name}"
            f"?host={quote(host, safe='')}&port={port}'\n"
        )
        (project / "env" / "dev.env").chmod(0o600)
        with watched() as seen:
            done = inv("db.backup", "--json", cwd=project)
            dry = inv("db.backup", "--dry", cwd=project)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["rows"] == 301_100
        assert any(b"pg_dump" in text and b"--snapshot" in text for text in seen)
        needles = [secret.encode(), quote(secret, safe="").encode(), b"s3cret"]
        for needle in needles:
            assert not [text for text in seen if needle in text and b"pytest" not in text]
            for output in (done.stdout, done.stderr, dry.stdout, dry.stderr):
                assert needle.decode() not in output
            for path in (project / "backups").rglob("*"):
                assert path.is_dir() or needle not in path.read_bytes(), path

    def test_a_wrong_one(
        self, password_cluster: Cluster, fresh_database: Callable[..., str], tmp_path: Path,
        inv: Inv,
    ) -> None:  # fmt: skip
        name = fresh_database(password_cluster)
        cluster = password_cluster
        project = make_project(
            tmp_path / "shop",
            f"postgresql://postgres:wr0ng@/{name}?host={cluster.host}&port={cluster.port}",
        )
        done = inv("db.backup", cwd=project)
        assert done.returncode == 4
        assert "password authentication failed" in done.stderr
        assert "wr0ng" not in done.stderr
        assert not list((project / "backups").glob("dev"))


def test_what_is_said_on_the_way_is_no_data(shop: Path, inv: Inv) -> None:
    done = inv("db.backup", "--json")
    assert done.returncode == 0
    json.loads(done.stdout)
    assert re.match(r"^dev: .*/\S+$", done.stderr.splitlines()[0])
