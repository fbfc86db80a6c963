"""A primary that is stopped, a standby that is promoted: an application on both goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from projects import make_project, put_stamp
from servers import Cluster
from sqlalchemy import text
from sqlalchemy.exc import InternalError
from units import ROWS, Load, let_wait, read
from waiting import until

from pgtasks.service import CommitUnknown, DatabaseService, check_health

THREADS = 4
DATABASE = "shop"


@pytest.fixture
def pair(cluster: Cluster) -> Iterator[tuple[Cluster, Cluster]]:
    with servers.running(cluster.bin) as primary:
        primary.create(DATABASE)
        put_stamp(primary.target(DATABASE))
        primary.execute(ROWS, DATABASE)
        with servers.running(cluster.bin, standby_of=primary) as standby:
            position = primary.value("SELECT pg_current_wal_lsn()")
            replayed = "SELECT pg_last_wal_replay_lsn() >= %s"
            until(lambda: standby.value(replayed, parameters=(position,)))
            yield primary, standby


def both(primary: Cluster, standby: Cluster, kind: str) -> str:
    """Return a URL of two servers, of which one fits."""
    hosts, ports = f"{primary.host},{standby.host}", f"{primary.port},{standby.port}"
    return (
        f"postgresql://{primary.superuser}@/{DATABASE}"
        f"?host={hosts}&port={ports}&target_session_attrs={kind}"
    )


def test_units_wait_for_the_promotion(
    pair: tuple[Cluster, Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, standby = pair
    monkeypatch.chdir(make_project(tmp_path / "shop", primary.url(DATABASE)))
    let_wait(monkeypatch)
    service = DatabaseService("dev", url=both(primary, standby, "read-write"))
    load = Load(service, THREADS)
    with load.running():
        load.await_units(10)
        assert primary.server is not None
        primary.server.stop()
        standby.execute("SELECT pg_promote()")
        load.await_units(10)
    service.dispose()
    assert [error for error in load.errors if not isinstance(error, CommitUnknown)] == []
    assert standby.value("SELECT count(*) FROM rows", DATABASE) > 0


def test_units_leave_a_server_that_only_reads_now(
    pair: tuple[Cluster, Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A demoted server may keep its sessions open, and answers their pings."""
    primary, standby = pair
    monkeypatch.chdir(make_project(tmp_path / "shop", primary.url(DATABASE)))
    service = DatabaseService("dev", url=both(primary, standby, "read-write"))
    reads = text("SHOW transaction_read_only")
    write = text("INSERT INTO rows SELECT FROM generate_series(1, 0)")
    service.run(lambda session: session.execute(write))
    primary.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    primary.execute("SELECT pg_reload_conf()")
    standby.execute("SELECT pg_promote()")
    with service.engine.connect() as connection:
        until(lambda: connection.execute(reads).scalar() == "on" or connection.rollback())
    service.run(lambda session: session.execute(write))
    pool = service.engine.pool
    with pytest.raises(InternalError), service.session(read_only=True) as session:
        session.execute(write)
    assert pool.checkedin() == 1  # that was the wish of the block
    service.dispose()


def test_a_standby_is_read_and_refuses_writes(
    pair: tuple[Cluster, Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, standby = pair
    monkeypatch.chdir(make_project(tmp_path / "shop", primary.url(DATABASE)))
    service = DatabaseService("dev", url=both(primary, standby, "standby"))
    assert service.run(read, read_only=True) == 0
    health = check_health(service)
    assert (health.ok, health.read_only) == (True, True)
    service.dispose()
    primary_too = DatabaseService("dev", url=both(primary, standby, "prefer-standby"))
    assert check_health(primary_too).read_only
    primary_too.dispose()
    assert not check_health(DatabaseService("dev")).read_only
