"""A primary that is stopped, a standby that is promoted: an application on both goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from projects import make_project, put_stamp
from servers import Cluster
from units import ROWS, Load, read
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
    service = DatabaseService("dev", url=both(primary, standby, "read-write"))
    load = Load(service, THREADS)
    with load.running():
        load.await_units(10 * THREADS)
        assert primary.server is not None
        primary.server.stop()
        standby.execute("SELECT pg_promote()")
        began = time.monotonic()
        load.await_units(10 * THREADS)
        assert time.monotonic() - began < service.pool.patience
    service.dispose()
    assert [error for error in load.errors if not isinstance(error, CommitUnknown)] == []
    assert standby.value("SELECT count(*) FROM rows", DATABASE) > 0


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
