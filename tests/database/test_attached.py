"""What hangs on a database's OID: subscriptions, replication slots, prepared transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
from conftest import Inv
from projects import make_project, put_side
from psycopg2 import sql
from roles import as_role
from servers import Cluster
from waiting import PATIENCE, until

from pgtasks.database import attached


@dataclass(frozen=True)
class Subscribed:
    """A subscription of `database` on a publisher of the same server, and the publisher's slot."""

    cluster: Cluster
    database: str
    publisher: str
    slot: str

    def create(self, database: str, *, connect: bool) -> None:
        """Make the subscription; without `connect` as pg_restore does."""
        place = f"host={self.cluster.host} port={self.cluster.port} dbname={self.publisher}"
        options = "create_slot = false" if connect else "connect = false"
        self.cluster.execute(
            f"CREATE SUBSCRIPTION hq CONNECTION '{place} user=postgres' PUBLICATION tariffs"
            f" WITH ({options}, slot_name = '{self.slot}')",
            database,
        )

    def end(self, database: str) -> None:
        """Drop the subscription, if it is there, and let the slot be."""
        for subscription in self.read(database):
            for statement in attached.statements(subscription):
                self.cluster.execute(statement, database)

    def read(self, database: str) -> tuple[attached.Subscription, ...]:
        """Return the subscriptions of a database."""
        conn = self.cluster.connect()
        try:
            return attached.read(conn, database).subscriptions
        finally:
            conn.close()

    def slots(self) -> list[str]:
        """Return the slots of the publisher."""
        query = "SELECT slot_name FROM pg_replication_slots WHERE database = %s"
        return [name for (name,) in self.cluster.execute(query, parameters=(self.publisher,))]


@pytest.fixture
def subscribed(
    cluster: Cluster, database: str, fresh_database: Callable[..., str]
) -> Iterator[Subscribed]:
    publisher = fresh_database(cluster)
    made = Subscribed(cluster, database, publisher, f"slot_{database}")
    cluster.execute(
        "CREATE TABLE tariff (id int PRIMARY KEY); INSERT INTO tariff VALUES (1)", publisher
    )
    cluster.execute("CREATE PUBLICATION tariffs FOR TABLE tariff", publisher)
    cluster.execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", publisher, (made.slot,)
    )
    cluster.execute("CREATE TABLE tariff (id int PRIMARY KEY)", database)
    yield made
    for name in [name for name in cluster.databases() if name.startswith(database)]:
        if made.read(name):
            cluster.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            made.end(name)
    drop = (
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s"
    )
    cluster.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
        " WHERE database = %s AND active_pid IS NOT NULL",
        parameters=(publisher,),
    )
    deadline = time.monotonic() + PATIENCE
    while made.slots() and time.monotonic() < deadline:
        try:
            cluster.execute(drop, parameters=(publisher,))
        except psycopg2.errors.ObjectInUse:
            time.sleep(0.05)


def test_a_subscription_is_neither_lost_nor_in_the_way(
    cluster: Cluster, subscribed: Subscribed, project: Path, inv: Inv
) -> None:
    name = subscribed.database
    subscribed.create(name, connect=True)
    assert inv("db.backup").returncode == 0
    refused = inv("db.restore")
    assert refused.returncode == 2
    assert f"in {name!r}, ALTER SUBSCRIPTION hq DISABLE" in refused.stderr
    dropping = inv("db.drop", "--yes")
    assert dropping.returncode == 2
    assert f"in {name!r}, DROP SUBSCRIPTION hq;" in dropping.stderr
    assert "SET (slot_name = NONE)" in dropping.stderr

    cluster.execute("ALTER SUBSCRIPTION hq DISABLE", name)
    restored = inv("db.restore")
    assert restored.returncode == 0, restored.stderr
    assert [found.enabled for found in subscribed.read(name)] == [False]
    assert "subscription 'hq' is disabled, as pg_dump saves it" in restored.stdout
    go_on(subscribed)
    undone = inv("db.undo")
    assert undone.returncode == 2
    assert "cannot undo: subscription 'hq'" in undone.stderr

    forgotten = inv("db.forget", "--yes")
    assert forgotten.returncode == 0, forgotten.stderr
    assert f"slot {subscribed.slot!r} stays on its publisher" in forgotten.stdout
    assert subscribed.slots() == [subscribed.slot]
    assert [found.enabled for found in subscribed.read(name)] == [True]


def go_on(subscribed: Subscribed) -> None:
    """Let a restored subscription go on as docs/restore.md says, and wait for its rows."""
    cluster, name = subscribed.cluster, subscribed.database
    cluster.execute("INSERT INTO tariff VALUES (2)", subscribed.publisher)
    cluster.execute("TRUNCATE tariff", name)
    cluster.execute("ALTER SUBSCRIPTION hq ENABLE", name)
    cluster.execute("ALTER SUBSCRIPTION hq REFRESH PUBLICATION", name)
    until(lambda: cluster.value("SELECT count(*) FROM tariff", name) == 2)
    cluster.execute("INSERT INTO tariff VALUES (3)", subscribed.publisher)
    until(lambda: cluster.value("SELECT count(*) FROM tariff", name) == 3)


def test_recover_drops_a_half_built_one_and_lets_the_publisher_s_slot_be(
    cluster: Cluster, subscribed: Subscribed, project: Path, inv: Inv
) -> None:
    half = put_side(cluster, subscribed.database, "new", "26010203040506")
    subscribed.create(half, connect=False)
    recovered = inv("db.recover")
    assert recovered.returncode == 0, recovered.stderr
    assert f"dropped {half!r}" in recovered.stdout
    assert half not in cluster.databases()
    assert subscribed.slots() == [subscribed.slot]


def test_a_role_that_may_not_drop_a_subscription_says_so_and_goes_on(
    cluster: Cluster,
    subscribed: Subscribed,
    tmp_path: Path,
    inv: Inv,
    plain: Callable[..., str],
) -> None:
    role, name = plain("CREATEDB"), subscribed.database
    cluster.execute(
        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(*map(sql.Identifier, (name, role)))
    )
    half = put_side(cluster, name, "new", "26010203040506", owner=role)
    subscribed.create(half, connect=False)
    project = make_project(tmp_path / "p", as_role(cluster, role, name))
    recovered = inv("db.recover", "--confirm", name, cwd=project)
    assert recovered.returncode == 0, recovered.stderr
    assert "as a role that may: ALTER SUBSCRIPTION hq DISABLE;" in recovered.stdout
    assert half in cluster.databases()
    subscribed.end(half)


def test_drop_names_prepared_transactions_and_templates(
    cluster: Cluster, database: str, project: Path, inv: Inv
) -> None:
    cluster.execute("BEGIN; CREATE TABLE p (i int); PREPARE TRANSACTION 'pinned'", database)
    cluster.execute(f'ALTER DATABASE "{database}" IS_TEMPLATE true')
    refused = inv("db.drop", "--yes")
    cluster.execute("ROLLBACK PREPARED 'pinned'", database)
    cluster.execute(f'ALTER DATABASE "{database}" IS_TEMPLATE false')
    assert refused.returncode == 2
    assert "2 things stand in the way" in refused.stderr
    assert "('pinned'): finish with COMMIT PREPARED or ROLLBACK PREPARED" in refused.stderr
    assert f"ALTER DATABASE {database} IS_TEMPLATE false" in refused.stderr
