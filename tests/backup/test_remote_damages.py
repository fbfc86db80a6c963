"""Random damages of backups on a database host: each is found and named, over SSH."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import damages
import matrix
import pytest
from consoles import Recorder
from depots import empty, far_of, filled, make_there, reached_on
from hosts import DatabaseHost
from projects import put_stamp
from servers import Cluster

from pgtasks.backup.restore import RestoreOptions, restore
from pgtasks.backup.verify import verify
from pgtasks.server.lock import Lock
from pgtasks.server.reach import Reached

_EACH = 25  # damages in a test of torture
_LAYOUTS = ("directory", "custom")
Pairs = dict[str, tuple[str, str]]  # by layout, the folders there of two backups


@pytest.fixture(scope="session")
def pairs(db1: DatabaseHost) -> Iterator[tuple[str, Pairs]]:
    """Return a database on db1, and two backups of it in each layout, with other rows."""
    name = filled(db1, Cluster.create)
    target = db1.cluster.target(name, environment="prod")
    put_stamp(target)
    kept = f"{db1.backups}-pairs"
    found: dict[str, list[str]] = {layout: [] for layout in _LAYOUTS}
    empty(db1)
    with closing(reached_on(db1, name)) as there:
        for _ in range(2):
            db1.cluster.execute("INSERT INTO orders (total) VALUES (1)", name)
            for layout in _LAYOUTS:
                made = make_there(there, layout=layout)
                found[layout].append(str(Path(kept) / Path(made.folder).relative_to(db1.backups)))
    db1.do("cp", "-a", db1.backups, kept)
    empty(db1)
    yield name, {layout: (one, other) for layout, (one, other) in found.items()}
    db1.do("rm", "-r", kept)
    db1.cluster.drop(name)


@pytest.fixture
def reached(db1: DatabaseHost, pairs: tuple[str, Pairs], emptied: None) -> Iterator[Reached]:
    with closing(reached_on(db1, pairs[0])) as there:
        yield there


@pytest.mark.parametrize("layout", _LAYOUTS)
@pytest.mark.parametrize("number", range(matrix.rounds(1, 1)))
def test_an_interrupted_or_other_write_there_is_found(
    db1: DatabaseHost,
    pairs: tuple[str, Pairs],
    reached: Reached,
    number: int,
    layout: str,
    count: Callable[..., None],
    request: pytest.FixtureRequest,
) -> None:
    seed = getattr(request.config.option, "seed", None) or 0
    chance = random.Random(f"{seed} {number} {layout} there")
    name, backups = pairs
    one, other = backups[layout]
    folder = one.replace(f"{db1.backups}-pairs", db1.backups)
    before = db1.cluster.databases()
    trials = _EACH if matrix.whole else 6
    with Lock(reached.target, "db.restore") as lock:
        for _ in range(trials):
            put(db1, one, folder)
            damage = damages.put(db1.path(folder), db1.path(other), chance)
            db1.do("chown", "-hR", f"{db1.user}:", folder)
            damages.assert_found(lambda: verified(reached, folder), damage)
            damages.assert_found(lambda: restored(lock, reached, folder), damage)
        assert db1.cluster.databases() == before
        put(db1, one, folder)
        verified(reached, folder)
    assert db1.cluster.value("SELECT count(*) FROM orders", name) == 1002
    count(damages=trials, **{"damages over SSH": trials})


def test_a_manifest_of_another_backup_is_named(
    db1: DatabaseHost, pairs: tuple[str, Pairs], reached: Reached
) -> None:
    """Also where the backup is named by its path: it would else be taken for the other one."""
    one, other = pairs[1]["custom"]
    folder = one.replace(f"{db1.backups}-pairs", db1.backups)
    put(db1, other, folder)  # whole, in the folder of another
    damage = damages.Damage("of another backup", "manifest.json")
    damages.assert_found(lambda: verified(reached, folder), damage)


def put(db1: DatabaseHost, backup: str, folder: str) -> None:
    """Put a whole copy of a backup to its place."""
    script = 'rm -rf "$1" && mkdir -p -m 700 "${1%/*}" && cp -a "$0" "$1" && chown -R "$2" "$3"'
    db1.do("sh", "-c", script, backup, folder, f"{db1.user}:", db1.backups)


def verified(reached: Reached, folder: str) -> None:
    target = reached.target
    verify(far_of(reached).find(target.environment, target.database, folder), reached.host)


def restored(lock: Lock, reached: Reached, folder: str) -> None:
    """Restore it, agreeing to everything; the database must not be reached."""
    target = reached.target
    backup = far_of(reached).find(target.environment, target.database, folder)
    options = RestoreOptions(1)
    restore(lock, reached.host, backup, options, console=Recorder(), agreed=lambda plan: True)
