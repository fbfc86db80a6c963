"""Backups of a database on a host over SSH: streamed here, kept there, brought to and fro."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hosts import DatabaseHost

from backups import SHOP, below, differences, make, restored
from pgtasks import reach
from pgtasks.backup import archive, depot, manifest, store, transfer
from pgtasks.backup.depot import Depot
from pgtasks.backup.store import Backup
from pgtasks.errors import Failed, Locked, NotProven, Refused, VersionMismatch
from pgtasks.ssh.login import Login
from pgtasks.target import Target

BACKUPS = "/srv/backups"


@pytest.fixture
def shop(db1: DatabaseHost, fresh_database: Callable[..., str]) -> str:
    """Return the name of a small database on db1."""
    name = fresh_database(db1.cluster, owner=db1.user)
    db1.cluster.psql(name, f"SET ROLE {db1.user};{SHOP}")
    return name


@pytest.fixture
def there(db1: DatabaseHost, shop: str) -> Iterator[Target]:
    """Return the target of `shop`, reached over SSH."""
    place = Login(**db1.place(backups=BACKUPS, silence=5))
    target = Target("prod", db1.sockets, db1.cluster.port, shop, db1.user, ssh=place)
    target = reach.reach(target, Path())
    yield target
    target.close()
    db1.do("sh", "-c", f"rm -rf {BACKUPS}/* {BACKUPS}/.??*")


@pytest.fixture
def far(there: Target) -> Depot:
    """Return the backups folder on db1."""
    found = depot.of(there)
    assert found is not None
    return found


@pytest.fixture
def local(db1: DatabaseHost, shop: str, tmp_path: Path) -> Backup:
    """Return a backup of `shop` that was made here, two processes writing it."""
    target = replace(db1.cluster.target(shop), environment="prod")
    return make(target, tmp_path / "here")


def everything(db1: DatabaseHost) -> list[str]:
    """Return the names of all that lies in the backups folder on db1."""
    return db1.do("find", BACKUPS, "-mindepth", "1", "-printf", "%P\\n").splitlines()


class TestLent:
    def test_lies_there_for_a_while(self, db1: DatabaseHost, far: Depot, local: Backup) -> None:
        with transfer.lent(local, far) as lent:
            assert lent.host is far.host
            there = db1.do("sh", "-c", 'cd "$0" && sha256sum -c SHA256SUMS', lent.folder)
            assert there.count(": OK\n") == len(local.manifest.files) - 1
            assert far.mirror().backups() == []
            assert db1.do("stat", "-c", "%a %U", lent.folder, f"{lent.dump}/toc.dat").split() == [
                *("700", db1.user),
                *("600", db1.user),
            ]
            pg_restore = db1.bin / "pg_restore"
            assert "TABLE DATA public customers" in db1.do(pg_restore, "--list", str(lent.dump))
            assert lent.proof() == local.proof()
        assert not [name for name in everything(db1) if name.count("/") > 1]

    def test_damage_is_found(self, far: Depot, local: Backup) -> None:
        data = next(local.dump.glob("*.dat.gz"))
        data.write_bytes(data.read_bytes()[:-1] + b"x")
        with pytest.raises(NotProven, match=r"is damaged on this machine: dump/\d+.dat.gz: its"):
            with transfer.lent(local, far):
                pass
