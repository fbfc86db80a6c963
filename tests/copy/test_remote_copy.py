"""Copies from and to servers behind SSH: on one host, on two, from there to here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from halting import Start, halted
from hosts import DatabaseHost
from projects import make_project, put_stamp
from remains import clear, left
from servers import Cluster
from sessions import SILENCE
from waiting import PATIENCE, until

Inv = Callable[..., Any]
ROWS = 80_000
CONTENT = f"""
CREATE TABLE large (id int PRIMARY KEY, "odd 🐘 ""name" text, t text DEFAULT 'x');
INSERT INTO large SELECT i, E'a\\\\b\\n\\\\.\\n' || i, repeat(md5(i::text), 8) FROM
  generate_series(1, {ROWS}) i;
CREATE TABLE small AS SELECT 1 AS n;
"""


@dataclass(frozen=True)
class Pair:
    """A project whose environments qa and dev are databases of servers."""

    folder: Path
    source: tuple[Cluster, str]
    target: tuple[Cluster, str]

    def rows(self) -> int:
        cluster, name = self.target
        return int(cluster.value("SELECT count(*) FROM large", name))

    def is_new(self) -> bool:
        """Return whether the target has the content of the source."""
        digest = "SELECT md5(string_agg(large::text, '' ORDER BY id)) FROM large"
        (source, name), (target, other) = self.source, self.target
        return bool(source.value(digest, name) == target.value(digest, other))

    def sides(self) -> list[str]:
        cluster, name = self.target
        return [each for each in cluster.databases() if each.startswith(f"{name}__")]


def text(place: DatabaseHost, database: str) -> str:
    return json.dumps(place.settings(database=database, ssh={"silence": SILENCE}))


def filled(place: DatabaseHost, content: str, environment: str) -> str:
    """Return a new database of the account that tasks connect as."""
    name = place.cluster.create()
    place.cluster.execute(f'ALTER DATABASE "{name}" OWNER TO {place.user}')
    place.cluster.execute(f"GRANT CREATE ON SCHEMA public TO {place.user}", name)
    replace(place.cluster, superuser=place.user).execute(content, name)
    put_stamp(place.cluster.target(name, environment=environment))
    return name


OLD = "CREATE TABLE large (id int); INSERT INTO large VALUES (0)"


@pytest.fixture
def on_one_host(db1: DatabaseHost, tmp_path: Path) -> Iterator[Pair]:
    """Return two databases of one host."""
    if db1.machine.lacks:
        pytest.skip(f"needs a machine of its own: {db1.machine.lacks}")
    source, target = filled(db1, CONTENT, "qa"), filled(db1, OLD, "dev")
    folder = make_project(tmp_path / "shop", "postgresql://h/d")
    (folder / "env" / "qa.yaml").write_text(text(db1, source))
    (folder / "env" / "dev.yaml").write_text(text(db1, target))
    pair = Pair(folder, (db1.cluster, source), (db1.cluster, target))
    try:
        yield pair
        db1.quiet()
        assert left(db1) == []
    finally:
        clear(db1)
        for name in (source, target, *pair.sides()):
            db1.cluster.drop(name)


def received(place: DatabaseHost) -> int:
    """Return the bytes that have come to this machine from a host."""
    route = subprocess.run(
        ["ip", "-o", "route", "get", place.address], capture_output=True, text=True, check=True
    )
    device = re.search(r" dev (\S+)", route.stdout)
    assert device
    return int(Path(f"/sys/class/net/{device[1]}/statistics/rx_bytes").read_text())


def test_on_one_host_rows_do_not_pass_through_this_machine(
    db1: DatabaseHost, on_one_host: Pair, inv: Inv
) -> None:
    before = received(db1)
    done = inv("db.copy", "qa", "dev", "--rows", cwd=on_one_host.folder)
    assert done.returncode == 0, done.stderr
    came = received(db1) - before
    assert f"large tables go from server to server on {db1.user}@{db1.address}" in done.stderr
    assert on_one_host.is_new()
    size = db1.cluster.value("SELECT pg_table_size('large')", on_one_host.source[1])
    # pg_dump, asked for the schema alone, begins with rows before it is ended
    assert came < size / 2, (came, size)


def test_with_a_rate_they_do(db1: DatabaseHost, on_one_host: Pair, inv: Inv) -> None:
    before = received(db1)
    done = inv("db.copy", "qa", "dev", "--rate", "1GB", cwd=on_one_host.folder)
    assert done.returncode == 0, done.stderr
    assert "rows pass through" in done.stderr
    assert on_one_host.is_new()
    assert received(db1) - before > db1.cluster.value(
        "SELECT pg_table_size('large') / 2", on_one_host.source[1]
    )


def test_without_psql_there_they_pass_through_this_machine(
    db1: DatabaseHost, on_one_host: Pair, inv: Inv
) -> None:
    with db1.hidden_tools("psql"):
        done = inv("db.copy", "qa", "dev", "--rows", cwd=on_one_host.folder)
    assert done.returncode == 0, done.stderr
    assert "there is no psql on" in done.stderr
    assert on_one_host.is_new()


@pytest.mark.parametrize("which", ["COPY % TO STDOUT%", "COPY % FROM STDIN%"])
def test_a_session_that_ends_in_the_middle_leaves_the_old_target(
    db1: DatabaseHost, on_one_host: Pair, start_inv: Start, which: str
) -> None:
    cluster = db1.cluster
    cluster.execute(
        "INSERT INTO large SELECT i, 'x', repeat('x', 900)"
        f" FROM generate_series({ROWS + 1}, 400000) i",
        on_one_host.source[1],
    )
    process = start_inv("db.copy", "qa", "dev", "--rows", cwd=on_one_host.folder)
    end = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE %s"
        " AND query LIKE '%%large%%' AND state = 'active' AND pid <> pg_backend_pid()"
    )
    until(lambda: cluster.execute(end, parameters=(which,)))
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, said
    assert "error: table public.large: psql" in said
    assert on_one_host.rows() == 1
    assert on_one_host.sides() == []


def test_a_lost_run_leaves_the_old_target(
    db1: DatabaseHost, on_one_host: Pair, inv: Inv, start_inv: Start
) -> None:
    process = halted(
        start_inv, "copy.loading", "db.copy", "qa", "dev", "--rows", cwd=on_one_host.folder
    )
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert on_one_host.rows() == 1
    again = until(
        lambda: (
            (done := inv("db.copy", "qa", "dev", "--rows", cwd=on_one_host.folder)).returncode != 6
            and done
        )
    )
    assert again.returncode == 0, again.stderr
    assert on_one_host.is_new()
    assert len(on_one_host.sides()) == 1


def test_on_two_hosts_rows_pass_through_this_machine(
    db1: DatabaseHost, db18: DatabaseHost, on_one_host: Pair, inv: Inv
) -> None:
    target = filled(db18, OLD, "dev")
    (on_one_host.folder / "env" / "dev.yaml").write_text(text(db18, target))
    pair = replace(on_one_host, target=(db18.cluster, target))
    try:
        done = inv("db.copy", "qa", "dev", cwd=pair.folder)
        assert done.returncode == 0, done.stderr
        assert "source and target are on two hosts: rows pass through this machine" in done.stderr
        assert pair.is_new()
    finally:
        for name in (target, *pair.sides()):
            db18.cluster.drop(name)


@pytest.mark.parametrize("way", ["from the host", "to the host"])
def test_one_end_on_this_machine(
    db1: DatabaseHost, cluster: Cluster, on_one_host: Pair, inv: Inv, way: str
) -> None:
    """The server here is of version 16, that of the host of 15 or 16."""
    outward = way == "to the host"
    name = cluster.create()
    cluster.execute(CONTENT if outward else OLD, name)
    environment = "qa" if outward else "dev"
    put_stamp(cluster.target(name, environment=environment))
    file = on_one_host.folder / "env" / f"{environment}.yaml"
    file.write_text(f"url: '{cluster.url(name)}'\n")
    here = (cluster, name)
    pair = replace(on_one_host, **{"source" if outward else "target": here})
    if outward and cluster.major > db1.cluster.major:
        cluster.drop(name)
        pytest.skip("a copy goes into the same or a newer version")
    flags = () if outward else ("--as-superuser", "--confirm", name)
    try:
        done = inv("db.copy", "qa", "dev", *flags, cwd=pair.folder)
        assert done.returncode == 0, done.stderr
        assert pair.is_new()
    finally:
        for each in (name, *(pair.sides() if not outward else ())):
            cluster.drop(each)


def test_a_lost_connection_leaves_the_old_target(
    db1: DatabaseHost, on_one_host: Pair, inv: Inv, start_inv: Start
) -> None:
    process = halted(
        start_inv, "copy.loading", "db.copy", "qa", "dev", "--rows", cwd=on_one_host.folder
    )
    with db1.cut():
        os.kill(process.pid, signal.SIGUSR1)
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4, said
    assert on_one_host.rows() == 1
    healed = until(
        lambda: (
            (done := inv("db.recover", "--env", "dev", cwd=on_one_host.folder)).returncode != 6
            and done
        )
    )
    assert healed.returncode == 0, healed.stderr
    assert on_one_host.sides() == []
