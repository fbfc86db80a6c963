"""The limit of --rate: for all workers together, and none without it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from servers import Cluster
from test_copy import KEEP, copied, pair
from waiting import PATIENCE

from pgtasks.copy.rows import throttle
from pgtasks.copy.rows.throttle import Throttle
from pgtasks.errors import Refused

BYTES = 3_000_000
RATE = 2_000_000.0


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20MB", 2e7),
        ("500 kB/s", 5e5),
        ("1.5gb", 1.5e9),
        (None, None),
    ],
)
def test_a_rate_in_words(text: str | None, rate: float | None) -> None:
    assert throttle.parsed(text) == rate


@pytest.mark.parametrize("text", ["20", "", "MB", "0MB", "-1MB", "1kB", "20 MiB", "fast"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"--rate .*: expected bytes per second"):
        throttle.parsed(text)


def test_workers_share_the_limit() -> None:
    limit = Throttle(1e6)
    began = time.monotonic()
    workers = [
        threading.Thread(target=lambda: [limit.take(50_000) for _ in range(5)]) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert time.monotonic() - began >= 0.45


def test_the_end_of_a_copy_does_not_wait() -> None:
    limit = Throttle(1.0)
    worker = threading.Thread(target=limit.take, args=(10_000_000,))
    worker.start()
    limit.end()
    worker.join(PATIENCE)
    assert not worker.is_alive()


def test_a_copy_takes_as_long_as_its_rate_says(
    cluster: Cluster, fresh_database: Callable[..., str]
) -> None:
    source, target = pair(cluster, cluster, fresh_database)
    for name in ("a", "b"):
        cluster.execute(
            f"CREATE TABLE {name} (t text); ALTER TABLE {name} ALTER t SET STORAGE PLAIN;"
            f"INSERT INTO {name} SELECT repeat('x', 1000) FROM generate_series(1, {BYTES // 2000})",
            source.database,
        )
    done: Any = copied(source, target, KEEP, rate=RATE)
    assert done.built.loaded.seconds["rows and indexes"] >= 0.9 * BYTES / RATE


def test_without_a_rate_nothing_waits() -> None:
    worker = threading.Thread(target=Throttle().take, args=(10**15,), daemon=True)
    worker.start()
    worker.join(PATIENCE)
    assert not worker.is_alive()
