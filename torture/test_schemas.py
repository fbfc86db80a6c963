"""Every kind of change between load and proof is noticed, on every server."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rewriting
import schemas
from projects import put_stamp
from schemas import Restored
from servers import Cluster

from backups import make
from pgtasks.backup.restore import RestoreOptions, restore
from pgtasks.errors import NotProven
from pgtasks.host.local import HERE
from pgtasks.report import CONSOLE
from pgtasks.server.lock import Lock
from pgtasks.server.proof import entries

SERVERS = ["cluster15", "cluster", "cluster18"]


@pytest.fixture(scope="module", params=SERVERS)
def restored(request: pytest.FixtureRequest) -> Iterator[Restored]:
    cluster: Cluster = request.getfixturevalue(request.param)
    names = [cluster.create() for _ in range(3)]
    yield Restored(cluster, *names)
    for name in names:
        cluster.drop(name)


def test_what_is_as_it_was_has_no_difference(restored: Restored) -> None:
    assert restored.differences(restored.copy) == ()


@pytest.mark.parametrize("statement", schemas.changes(18))
def test_each_change_is_noticed(restored: Restored, statement: str) -> None:
    """In a restored database by the archive, and in a dump that was made anew by the proof."""
    if statement not in schemas.changes(restored.cluster.major):
        pytest.skip("this server does not know it")
    changed = restored.changed(statement)
    assert restored.compared(changed)
    recorded = entries.record(schemas.contents(restored.archive))
    assert list(entries.altered(recorded, schemas.contents(changed)))


@pytest.mark.parametrize("server", SERVERS)
def test_no_rewritten_dump_is_restored(
    server: str,
    fresh_database: Callable[..., str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    seed: int,
) -> None:
    cluster: Cluster = request.getfixturevalue(server)
    target = cluster.target(fresh_database(cluster))
    cluster.psql(target.database, schemas.EVERYTHING)
    put_stamp(target)
    made = make(target, tmp_path, layout="directory")
    raw = (made.dump / "toc.dat").read_bytes()
    accepted, refused = [], []
    with Lock(target, "db.restore") as lock:
        for what, changed in rewriting.rewritten(raw, random.Random(seed + cluster.major), 200):
            backup = rewriting.put(made, changed)
            try:
                restore(
                    lock, HERE, backup, RestoreOptions(1), console=CONSOLE, agreed=lambda plan: True
                )
            except NotProven as exc:
                refused.append(exc.message)
            else:
                accepted.append(what)
    assert accepted == []
    assert all("differs from the proof of the backup" in message for message in refused)
    assert [name for name in cluster.databases() if name.startswith(f"{target.database}__")] == []
