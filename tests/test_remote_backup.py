"""Backups of a database on a host over SSH: streamed here, kept there, brought to and fro."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hosts import DatabaseHost
from projects import make_project, put_stamp

from backups import SHOP, below, differences, make, restored, until
from pgtasks import host, reach
from pgtasks.backup import archive, create, depot, manifest, mirror, store, streams, transfer
from pgtasks.backup.depot import Depot
from pgtasks.backup.job import Options
from pgtasks.backup.shelf import FarShelf
from pgtasks.backup.store import Backup
from pgtasks.backup.verify import verify
from pgtasks.errors import Failed, Locked, NotProven, Refused, VersionMismatch
from pgtasks.host import HERE, Command
from pgtasks.ssh.login import Login
from pgtasks.target import Target

BACKUPS = "/srv/backups"
ODD = 'it\'s "a" größe 🐘/x=y %41'
Fresh = Callable[..., str]
Inv = Callable[..., Any]


def filled(db1: DatabaseHost, fresh_database: Fresh, name: str = "") -> str:
    """Make a small database on db1 that its account owns, and return its name."""
    made = fresh_database(db1.cluster, name, owner=db1.user)
    db1.cluster.execute(f"SET ROLE {db1.user};{SHOP}", made)
    return made


@pytest.fixture
def shop(db1: DatabaseHost, fresh_database: Fresh) -> Iterator[str]:
    """Return the name of a small database on db1; backups there go with it."""
    yield filled(db1, fresh_database)
    db1.do("find", BACKUPS, "-mindepth", "1", "-delete")


@pytest.fixture
def reached(db1: DatabaseHost) -> Iterator[Callable[..., Target]]:
    """Return what reaches a database on db1 over SSH."""
    targets: list[Target] = []

    def open_target(database: str, environment: str = "prod", **ssh: Any) -> Target:
        login = Login(**db1.place(**{"backups": BACKUPS, "silence": 5, **ssh}))
        user = login.sudo_user or db1.user
        there = Target(environment, db1.sockets, db1.cluster.port, database, user, ssh=login)
        targets.append(reach.reach(there, Path()))
        return targets[-1]

    yield open_target
    for target in targets:
        target.close()


@pytest.fixture
def there(reached: Callable[..., Target], shop: str) -> Target:
    """Return the target of `shop`, reached over SSH."""
    return reached(shop)


@pytest.fixture
def far(there: Target) -> Depot:
    """Return the backups folder on db1."""
    return far_of(there)


def far_of(target: Target) -> Depot:
    found = depot.of(target)
    assert found is not None
    return found


def make_there(target: Target, say: Callable[[str], None] | None = None, **more: Any) -> Backup:
    """Make a backup that stays on the host."""
    return create.create(
        target,
        shelf=FarShelf(far_of(target)),
        host=host.for_target(target),
        options=Options(**more),
        say=say,
        quiet=True,
    )


@pytest.fixture
def local(db1: DatabaseHost, shop: str, tmp_path: Path) -> Backup:
    """Return a backup of `shop` that was made here, two processes writing it."""
    target = replace(db1.cluster.target(shop), environment="prod")
    return make(target, tmp_path / "here")


def everything(db1: DatabaseHost, folder: str = BACKUPS) -> list[str]:
    """Return the names of all that lies below the folders of databases on db1."""
    found = db1.do("find", folder, "-mindepth", "3", "-printf", "%P\n")
    return sorted(found.splitlines())


def spoil(db1: DatabaseHost, path: str) -> None:
    """Change the last byte of a file there, not its size."""
    db1.do("sh", "-c", 'truncate -s -1 "$0" && printf "\\001" >> "$0"', path)


def plain(dump: str) -> list[str]:
    """Return the lines of a script but for the random word that psql is guarded by."""
    return [line for line in dump.splitlines() if "restrict" not in line]


def dat(backup: Backup) -> str:
    return next(name for name in backup.manifest.files if name.endswith(".dat.gz"))


class TestStreamed:
    def test_is_as_a_local_one(
        self, db1: DatabaseHost, there: Target, local: Backup, tmp_path: Path, fresh_database: Fresh
    ) -> None:
        made = make(there, tmp_path / "streamed")
        assert made.manifest.layout == "custom"
        assert made.proof() == local.proof()
        assert made.database() == local.database()
        assert plain(made.globals()) == plain(local.globals())
        assert made.manifest.system == local.manifest.system
        assert differences(made, restored(made, db1.cluster, fresh_database)) == ()
        verify(made, HERE)
        assert everything(db1, BACKUPS) == []

    @pytest.mark.parametrize("environment", ["prod", ODD])
    def test_odd_names(
        self,
        db1: DatabaseHost,
        reached: Callable[..., Target],
        fresh_database: Fresh,
        tmp_path: Path,
        environment: str,
    ) -> None:
        target = reached(filled(db1, fresh_database, ODD), environment)
        made = make(target, tmp_path)
        assert store.find(tmp_path, environment, ODD) == made
        proof = made.proof()
        assert proof is not None
        assert len(proof.sequences) == 2

    def test_the_plan_says_so(self, there: Target, tmp_path: Path) -> None:
        from pgtasks.backup.shelf import LocalShelf

        shelf = LocalShelf(tmp_path)
        text = "\n".join(create.plan(there, shelf=shelf, host=host.for_target(there)))
        assert "--format=custom" in text
        assert "its output comes here" in text
        assert below(tmp_path) == []

    def test_what_no_tool_here_reads_is_not_begun(
        self,
        db18: DatabaseHost,
        fresh_database: Fresh,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(host.LocalHost, "bundled", ())  # as if the wheel were not installed
        name = filled(db18, fresh_database)
        login = Login(**db18.place(bin=str(db18.bin)))
        target = Target("prod", db18.sockets, 5432, name, db18.user, ssh=login)
        old = make_folder_of_tools(tmp_path / "old", "16.1")
        target = replace(reach.reach(target, Path()), tools=str(old))
        try:
            with pytest.raises(VersionMismatch, match="no pg_restore on this machine reads what"):
                make(target, tmp_path / "backups")
        finally:
            target.close()
        assert below(tmp_path / "backups") == []


def make_folder_of_tools(folder: Path, version: str) -> Path:
    """Make tools that say a version and do nothing else."""
    folder.mkdir()
    for name in ("pg_dump", "pg_restore"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


class TestOnHost:
    def test_is_as_a_local_one(
        self, db1: DatabaseHost, there: Target, local: Backup, far: Depot
    ) -> None:
        made = make_there(there, note="ünï 🐘")
        assert (made.manifest.layout, made.manifest.note) == ("directory", "ünï 🐘")
        assert made.proof() == local.proof()
        assert made.database() == local.database()
        assert made.manifest.files.keys() == local.manifest.files.keys()
        [listed] = far.mirror().backups()
        assert listed.manifest == made.manifest
        assert listed.folder == made.folder
        assert made.folder.startswith(f"{BACKUPS}/prod/")
        sums = db1.do("sh", "-c", 'cd "$0" && sha256sum -c SHA256SUMS', made.folder)
        assert sums.count(": OK\n") == len(made.manifest.files) - 1
        names = [made.folder, f"{made.dump}/toc.dat", f"{made.folder}/manifest.json"]
        modes = db1.do("stat", "-c", "%a %U", *names).splitlines()
        assert modes == [f"{mode} {db1.user}" for mode in (700, 600, 600)]
        wanted = {*made.manifest.files, "manifest.json", "dump"}
        relative = made.folder.removeprefix(f"{BACKUPS}/")
        assert set(everything(db1)) == {relative, *(f"{relative}/{name}" for name in wanted)}

    def test_restores_there(self, db1: DatabaseHost, there: Target, fresh_database: Fresh) -> None:
        made = make_there(there)
        name = fresh_database(db1.cluster, owner=db1.user)
        argv = (db1.bin / "pg_restore", "-e", "-h", db1.sockets, "-d", name, str(made.dump))
        db1.do(*argv, user=db1.user)
        assert differences(made, db1.cluster.target(name)) == ()

    def test_one_process_writes_a_file(self, db1: DatabaseHost, there: Target) -> None:
        made = make_there(replace(there, jobs=1))
        assert made.manifest.layout == "custom"
        assert verify(made, made.host).structure == "read"

    def test_begins_anew(
        self, db1: DatabaseHost, there: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a worthless attempt wrote there is gone before the next one."""
        real, runs = create.attempt.run, []

        def run(attempt: Any) -> Any:
            runs.append(attempt)
            done = real(attempt)
            if len(runs) == 1:
                raise create.Again("as if rewritten")
            return done

        monkeypatch.setattr(create.attempt, "run", run)
        lines: list[str] = []
        made = make_there(there, lines.append)
        assert len(runs) == 2
        assert lines == ["as if rewritten: once more with a new snapshot"]
        assert verify(made, made.host).structure == "read"

    def test_odd_names_and_no_folder_yet(
        self,
        db1: DatabaseHost,
        reached: Callable[..., Target],
        fresh_database: Fresh,
        tmp_path: Path,
    ) -> None:
        folder = '/srv/backups/it\'s a "folder" 🐘'
        target = reached(filled(db1, fresh_database, ODD), ODD, backups=folder)
        made = make_there(target)
        assert made.folder.startswith(f"{folder}/")
        assert far_of(target).mirror().find(ODD, ODD).manifest == made.manifest
        assert verify(made, made.host).structure == "read"
        got = transfer.fetch(made, tmp_path).backup
        assert verify(got, HERE).structure == "read"
        assert db1.do("stat", "-c", "%a", folder).strip() == "700"
        db1.do("rm", "-r", folder)

    def test_in_the_home_there_unless_said(
        self, db1: DatabaseHost, reached: Callable[..., Target], shop: str
    ) -> None:
        home = db1.do("sh", "-c", f"echo ~{db1.user}").strip()
        for setting, wanted in (("", "pgtasks-backups"), ("~/a b", "a b"), ("c/d", "c/d")):
            made = make_there(reached(shop, backups=setting), schema_only=True)
            assert made.folder.startswith(f"{home}/{wanted}/prod/")
            db1.do("rm", "-r", f"{home}/{wanted}")

    def test_by_another_account(
        self, db1: DatabaseHost, reached: Callable[..., Target], shop: str
    ) -> None:
        made = make_there(reached(shop, sudo_user="postgres", backups="/var/tmp/b"))
        assert db1.do("stat", "-c", "%U", made.folder).strip() == "postgres"
        assert verify(made, made.host).structure == "read"
        db1.do("rm", "-r", "/var/tmp/b")

    def test_a_folder_that_takes_nothing(
        self, db1: DatabaseHost, reached: Callable[..., Target], shop: str
    ) -> None:
        target = reached(shop, backups="/srv/none")
        with pytest.raises(Failed, match=r"'?/srv/none'?: Permission denied.*ssh\.backups") as info:
            make_there(target)
        assert "\n" not in info.value.message
        assert far_of(target).mirror().backups() == []

    def test_a_folder_that_may_not_be_read(
        self, db1: DatabaseHost, reached: Callable[..., Target], shop: str
    ) -> None:
        db1.do("install", "-d", "-m", "700", "/srv/secret")
        with pytest.raises(Failed, match=r"Permission denied.*ssh\.backups"):
            far_of(reached(shop, backups="/srv/secret")).mirror()
        with pytest.raises(Failed, match=r"Permission denied.*ssh\.backups"):
            far_of(reached(shop, backups="/srv/secret/deeper")).mirror()

    def test_full_disk(self, db1: DatabaseHost, shop: str, there: Target, far: Depot) -> None:
        db1.cluster.execute(
            "CREATE TABLE big AS SELECT md5(random()::text) AS x FROM generate_series(1, 100000);"
            f"ALTER TABLE big OWNER TO {db1.user}",
            shop,
        )
        with db1.full_disk(BACKUPS, 1_000_000):
            with pytest.raises(Failed) as info:
                make_there(there)
            assert "No space left on device" in info.value.message + info.value.hint
            assert everything(db1) == []
            assert far.mirror().backups() == []

    def test_full_disk_for_the_small_files(
        self, db1: DatabaseHost, there: Target, far: Depot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = create.reconciled

        def fill(*args: Any) -> Any:
            done = real(*args)
            db1.run("sh", "-c", f"cat /dev/zero > {BACKUPS}/fill", user=db1.user)
            return done

        monkeypatch.setattr(create, "reconciled", fill)
        with db1.full_disk(BACKUPS, 2_000_000):
            with pytest.raises(Failed, match="No space left on device"):
                make_there(there)
            assert everything(db1) == []
            assert far.mirror().backups() == []

    def test_tools_missing_there(self, db1: DatabaseHost, shop: str, reached: Any) -> None:
        with db1.hidden_tools(), pytest.raises(VersionMismatch, match="no pg_dump fits"):
            make_there(reached(shop))
        assert everything(db1) == []

    def test_needs_a_host(self, project: Path, inv: Inv) -> None:
        done = inv("db.backup", "--on-host")
        assert done.returncode == 2
        assert "environment 'dev' has no ssh" in done.stderr
        assert inv("backup.fetch", "latest").returncode == 2


class TestVerify:
    def test_what_lies_there_is_read_there(
        self, db1: DatabaseHost, there: Target, far: Depot
    ) -> None:
        made = make_there(there)
        seen = there.place.link.transport.packetizer  # type: ignore[union-attr]
        done = verify(made, made.host)
        assert (done.structure, done.files) == ("read", len(made.manifest.files) + 1)
        assert seen is not None
        [listed] = far.mirror().backups()
        assert listed.checks.intact == done.when

    def test_damage(self, db1: DatabaseHost, there: Target, far: Depot) -> None:
        made = make_there(there)
        name = dat(made)
        spoil(db1, f"{made.folder}/{name}")
        with pytest.raises(NotProven, match=f"damaged: {name}: its content was changed"):
            verify(made, made.host)
        [listed] = far.mirror().backups()
        assert listed.checks.damaged
        db1.do("rm", f"{made.folder}/{name}")
        with pytest.raises(NotProven, match=f"{name}: missing"):
            verify(made, made.host)
        db1.do("touch", f"{made.folder}/{name}", f"{made.folder}/more")
        with pytest.raises(NotProven, match="more: not part of the backup"):
            verify(made, made.host)
        db1.do("rm", f"{made.folder}/more")
        with pytest.raises(NotProven, match=f"{name}: 0 bytes, "):
            verify(made, made.host)

    def test_a_file_that_cannot_be_read(self, db1: DatabaseHost, there: Target) -> None:
        made = make_there(there)
        db1.do("chown", "root", f"{made.folder}/{dat(made)}")
        with pytest.raises(NotProven, match=f"{dat(made)}: cannot be read"):
            verify(made, made.host)

    def test_a_manifest_that_was_changed(
        self, db1: DatabaseHost, there: Target, far: Depot
    ) -> None:
        made = make_there(there)
        db1.do("sed", "-i", "s/prod/dev1/", f"{made.folder}/manifest.json")
        found = far.mirror()
        assert found.backups() == []
        [(path, why)] = found.unreadable()
        assert path == made.place
        assert why.startswith(f"{made.place}/manifest.json: the manifest was changed")


class TestFetch:
    def test_comes_whole(
        self, there: Target, tmp_path: Path, db1: DatabaseHost, fresh_database: Fresh
    ) -> None:
        made = make_there(there)
        done = transfer.fetch(made, tmp_path)
        assert not done.already
        got = done.backup
        assert store.list_backups(tmp_path) == [got]
        assert got.manifest == made.manifest
        assert got.checks.intact
        assert verify(got, HERE).structure == "read"
        assert differences(got, restored(got, db1.cluster, fresh_database)) == ()
        assert {path.stat().st_mode & 0o777 for path in got.path.rglob("*")} == {0o600, 0o700}
        assert transfer.fetch(made, tmp_path).already
        assert [name for name in below(tmp_path) if name.endswith(".partial")] == []

    def test_another_one_of_that_id(self, there: Target, tmp_path: Path) -> None:
        made = make_there(there)
        got = transfer.fetch(made, tmp_path).backup
        changed = replace(got.manifest, note="another")
        (got.path / manifest.NAME).write_text(manifest.text(changed))
        with pytest.raises(Refused, match=f"there is another backup {made.id} in"):
            transfer.fetch(made, tmp_path)
        (got.path / manifest.NAME).unlink()
        with pytest.raises(Refused, match="another"):
            transfer.fetch(made, tmp_path)

    def test_damage_there(self, db1: DatabaseHost, there: Target, tmp_path: Path) -> None:
        made = make_there(there)
        spoil(db1, f"{made.folder}/{dat(made)}")
        wanted = f"{made.id} is damaged on {made.host.name}: {dat(made)}: its content was changed"
        with pytest.raises(NotProven, match=wanted):
            transfer.fetch(made, tmp_path)
        db1.do("rm", f"{made.folder}/{dat(made)}")
        with pytest.raises(NotProven, match=f"damaged on {made.host.name}: {dat(made)}: missing"):
            transfer.fetch(made, tmp_path)
        assert store.list_backups(tmp_path) == []
        assert not [name for name in below(tmp_path) if made.id in name]

    def test_damage_on_the_way(
        self, there: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = make_there(there)
        real = archive.unpack

        def unpack(source: Any, folder: Path, tell: Any = None) -> Any:
            data = source.read()
            at = data.index(b"PGDMP")
            return real(io.BytesIO(data[:at] + b"XXXXX" + data[at + 5 :]), folder, tell)

        monkeypatch.setattr(archive, "unpack", unpack)
        with pytest.raises(NotProven, match=r"is damaged on the way here: dump/toc\.dat"):
            transfer.fetch(made, tmp_path)
        assert store.list_backups(tmp_path) == []

    def test_two_at_once(self, there: Target, tmp_path: Path) -> None:
        from pgtasks.backup import partial

        made = make_there(there)
        home = store.home(tmp_path, "prod", there.database)
        with partial.making(home, made.id), pytest.raises(Locked, match="another run is making"):
            transfer.fetch(made, tmp_path)

    def test_full_disk_here(
        self, db1: DatabaseHost, there: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = make_there(there)
        real = os.open

        def open_full(path: Any, flags: int, *more: Any, **options: Any) -> int:
            if str(path).endswith(".dat.gz"):
                return real("/dev/full", os.O_WRONLY)
            return real(path, flags, *more, **options)

        monkeypatch.setattr(archive.os, "open", open_full)
        with pytest.raises(Failed, match=r"cannot write .*: No space left on device"):
            transfer.fetch(made, tmp_path)
        assert store.list_backups(tmp_path) == []
        assert not [name for name in below(tmp_path) if made.id in name]

    def test_no_room_is_said_first(
        self, there: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = make_there(there)
        monkeypatch.setattr(host.LocalHost, "free_bytes", lambda self, path: 1000)
        with pytest.raises(Failed, match=f"no room for backup {made.id}: .* has 1.0 kB free"):
            transfer.fetch(made, tmp_path)


class TestSend:
    def test_goes_whole(self, db1: DatabaseHost, far: Depot, local: Backup) -> None:
        sent = transfer.send(local, far)
        assert not sent.already
        [listed] = far.mirror().backups()
        assert listed.folder == sent.backup.folder
        assert listed.manifest == local.manifest
        assert listed.checks.intact
        assert verify(sent.backup, far.host).structure == "read"
        modes = db1.do("find", sent.backup.folder, "-printf", "%m %U\n").splitlines()
        assert len(set(modes)) == 2
        assert transfer.send(local, far).already
        assert not [name for name in everything(db1) if name.endswith(".partial")]

    def test_another_one_of_that_id(self, far: Depot, local: Backup) -> None:
        transfer.send(local, far)
        changed = replace(local.manifest, note="another")
        (local.path / manifest.NAME).write_text(manifest.text(changed))
        with pytest.raises(Refused, match=f"there is another backup {local.id} on"):
            transfer.send(store.load(local.path), far)

    def test_damage_here(self, db1: DatabaseHost, far: Depot, local: Backup) -> None:
        path = local.path / dat(local)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        wanted = f"{local.id} is damaged on this machine: {dat(local)}: its content was changed"
        with pytest.raises(NotProven, match=wanted):
            transfer.send(local, far)
        path.unlink()
        with pytest.raises(NotProven, match=f"on this machine: {dat(local)}: No such file"):
            transfer.send(local, far)
        assert everything(db1) == []

    def test_damage_on_the_way(
        self, db1: DatabaseHost, far: Depot, local: Backup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = far.unpack

        def unpack(path: str, send: Any) -> None:
            real(path, send)
            spoil(db1, f"{path}/{dat(local)}")

        monkeypatch.setattr(far, "unpack", unpack)
        wanted = f"is damaged on the way to {far.host.name}: {dat(local)}: its content"
        with pytest.raises(NotProven, match=wanted):
            transfer.send(local, far)
        assert everything(db1) == []

    def test_no_room_there(self, db1: DatabaseHost, far: Depot, local: Backup) -> None:
        with db1.full_disk(BACKUPS, 400_000):
            with pytest.raises(Failed, match=f"no room for backup {local.id}: it has .* free"):
                transfer.send(local, far)
            assert everything(db1) == []

    def test_full_disk_there(
        self, db1: DatabaseHost, far: Depot, local: Backup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transfer, "_refuse_full", lambda *args: None)
        with db1.full_disk(BACKUPS, 16384):
            with pytest.raises(Failed, match=r"cannot be written: .*No space left on device"):
                transfer.send(local, far)
            assert everything(db1) == []

    def test_two_at_once(self, far: Depot, local: Backup) -> None:
        with (
            far.making("prod", local.manifest.database, local.id),
            pytest.raises(Locked, match="another run is making"),
        ):
            transfer.send(local, far)

    def test_to_and_fro(self, far: Depot, local: Backup, tmp_path: Path) -> None:
        local.record(proven="2025-01-01T00:00:00Z")
        transfer.send(local, far)
        [listed] = far.mirror().backups()
        got = transfer.fetch(listed, tmp_path / "other").backup
        assert got.manifest == local.manifest
        assert got.checks.proven == "2025-01-01T00:00:00Z"


class TestLent:
    def test_lies_there_for_a_while(self, db1: DatabaseHost, far: Depot, local: Backup) -> None:
        with transfer.lent(local, far) as lent:
            assert lent.host is far.host
            sums = db1.do("sh", "-c", 'cd "$0" && sha256sum -c SHA256SUMS', lent.folder)
            assert sums.count(": OK\n") == len(local.manifest.files) - 1
            found = far.mirror()
            assert found.backups() == []
            assert found.leftovers() == []
            pg_restore = db1.bin / "pg_restore"
            assert "TABLE DATA public customers" in db1.do(pg_restore, "--list", str(lent.dump))
            assert lent.proof() == local.proof()
        assert everything(db1) == []

    def test_twice_at_once(self, far: Depot, local: Backup) -> None:
        with transfer.lent(local, far) as one, transfer.lent(local, far) as two:
            assert one.folder != two.folder

    def test_one_that_lies_there_stays(self, there: Target, far: Depot) -> None:
        made = make_there(there)
        with transfer.lent(made, far) as lent:
            assert lent == made
        assert len(far.mirror().backups()) == 1

    def test_damage_is_found(self, db1: DatabaseHost, far: Depot, local: Backup) -> None:
        path = local.path / dat(local)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        lending = transfer.lent(local, far)
        with pytest.raises(NotProven, match="is damaged on this machine"):
            lending.__enter__()
        assert everything(db1) == []


@pytest.fixture
def shop_project(db1: DatabaseHost, shop: str, tmp_path: Path) -> Path:
    """Return a project whose `field` is `shop` on db1, stamped, and its default environment."""
    settings = db1.settings(ssh={"silence": 5, "backups": BACKUPS}, database=shop)
    target = replace(db1.cluster.target(shop), environment="field")
    return make_site(tmp_path / 'it\'s a "project" 🐘', settings, target)


def make_site(folder: Path, settings: dict[str, Any], target: Target) -> Path:
    put_stamp(target)
    made = make_project(folder, "postgresql://nobody@nowhere/none")
    (made / "env" / "field.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (made / "invoke.yaml").write_text(
        "tasks:\n  executor_class: pgtasks.executor.TaskExecutor\npgtasks:\n  environment: field\n"
    )
    return made


class TestTasks:
    def test_both_places(self, shop_project: Path, inv: Inv, db1: DatabaseHost) -> None:
        def run(*words: str, code: int = 0) -> Any:
            done = inv(*words, "--json", cwd=shop_project)
            assert done.returncode == code, done.stderr
            return json.loads(done.stdout)

        here = run("db.backup")
        there = run("db.backup", "--on-host", "--note", "stays")
        assert (here["where"], here["layout"]) == ("here", "custom")
        assert (there["where"], there["layout"]) == (db1.user + "@" + db1.address, "directory")
        assert there["path"].startswith(BACKUPS)
        assert [one["where"] for one in run("backup.list")["backups"]] == [there["where"], "here"]
        text = inv("backup.list", cwd=shop_project).stdout.splitlines()
        assert text[0].split()[:2] == ["backup", "where"]
        assert text[2].split()[:2] == [there["id"], there["where"]]
        assert run("backup.show", there["id"])["files"].keys() == set(
            json.loads(db1.do("cat", f"{there['path']}/manifest.json"))["files"]
        )
        assert run("backup.verify", "--on-host")["backup"] == there["id"]
        assert run("backup.verify")["backup"] == here["id"]
        assert run("backup.verify", "--backup", there["id"])["structure"] == "read"
        fetched = run("backup.fetch", there["id"][:-2])
        assert (fetched["already"], fetched["to"]) == (False, str(path_of(shop_project, there)))
        assert run("backup.fetch", "latest")["already"] is True
        sent = run("backup.send", here["id"])
        assert sent["to"].startswith(there["where"] + ":" + BACKUPS)
        assert run("backup.send", here["id"])["already"] is True
        listed = run("backup.list")["backups"]
        assert [one["where"] for one in listed] == ["both", "both"]
        assert listed[0]["there"] == there["path"]
        spoil(db1, f"{there['path']}/database.json")
        assert "damaged" in run("backup.verify", "--on-host", code=5)["error"]
        listed = run("backup.list")["backups"]
        assert sorted(one["where"] for one in listed) == ["both", there["where"], "here"]
        run("backup.verify", "--backup", there["id"])
        assert "unknown backup 'nope'" in run("backup.show", "nope", code=2)["error"]
        assert left_here(shop_project) == []

    def test_a_host_that_is_gone(self, shop_project: Path, inv: Inv, db1: DatabaseHost) -> None:
        made = json.loads(inv("db.backup", "--json", cwd=shop_project).stdout)
        with db1.stop_sshd():
            done = inv("backup.list", cwd=shop_project)
            assert done.returncode == 4
            assert made["id"] in done.stdout
            assert "of this machine alone are listed" in done.stderr
            done = inv("backup.list", "--json", cwd=shop_project)
            assert done.returncode == 4
            document = json.loads(done.stdout)
            assert [one["id"] for one in document["backups"]] == [made["id"]]
            assert document["exit_code"] == 4
            assert inv("backup.show", made["id"], cwd=shop_project).returncode == 0
            assert inv("backup.verify", cwd=shop_project).returncode == 0
            assert inv("backup.fetch", "latest", cwd=shop_project).returncode == 4


def path_of(project: Path, made: dict[str, Any]) -> Path:
    return store.home(project / "backups", "field", made["database"]) / made["id"]


def left_here(project: Path) -> list[str]:
    """Return temporary folders in a project and below /tmp that nobody works with."""
    partials = [name for name in below(project / "backups") if ".partial" in name]
    mirrors = Path("/tmp").glob(f"pgtasks-*{mirror._MARK}")
    return partials + [str(path) for path in mirrors if not mirror._alive(path.name.split("-")[1])]


class TestEnded:
    """The line is cut, or the run killed, at a step: nothing is listed, nothing runs or stays."""

    @pytest.fixture
    def big(self, db1: DatabaseHost, shop: str, shop_project: Path) -> Path:
        """Return a project whose database takes a while."""
        db1.cluster.execute(
            "CREATE TABLE big AS SELECT md5(random()::text) AS x FROM generate_series(1, 200000);"
            f"ALTER TABLE big OWNER TO {db1.user}",
            shop,
        )
        return shop_project

    def halted(self, start_inv: Inv, project: Path, step: str, *words: str) -> Any:
        process = start_inv(*words, cwd=project, env={"PGTASKS_HALT_AT": step})
        for line in process.stderr:
            if line.strip() == f"halted at {step}":
                return process
        raise AssertionError(f"ended before {step}, with {process.wait()}")

    def test_in_the_middle_of_a_stream(
        self, big: Path, db1: DatabaseHost, start_inv: Inv, inv: Inv
    ) -> None:
        with db1.slow("8mbit"):
            process = start_inv("db.backup", "--no-proof", cwd=big)
            dump = "backups/field/*/.*.partial/dump.pgdump"
            until(lambda: sum(path.stat().st_size for path in big.glob(dump)) > 200_000)
            with db1.cut():
                assert process.wait(60) == 4
                assert "no answer in 5 s, the line is cut" in process.stderr.read()
                db1.quiet()
        assert left_here(big) == []
        assert json.loads(inv("backup.list", "--json", cwd=big).stdout)["backups"] == []

    @pytest.mark.parametrize(
        ("step", "words"),
        [
            ("backup.dumping", ("db.backup", "--on-host")),
            ("backup.dumped", ("db.backup", "--on-host")),
            ("backup.written", ("db.backup", "--on-host")),
            ("backup.dumped", ("db.backup",)),
        ],
    )
    @pytest.mark.parametrize("how", ["cut", "killed"])
    def test_at_a_step(
        self,
        big: Path,
        db1: DatabaseHost,
        start_inv: Inv,
        inv: Inv,
        step: str,
        words: tuple[str, ...],
        how: str,
    ) -> None:
        process = self.halted(start_inv, big, step, *words)
        if how == "cut":
            with db1.cut():
                db1.quiet()  # the silence is over
                os.kill(process.pid, signal.SIGUSR1)
                assert process.wait(60) == (0 if words == ("db.backup",) else 4)
        else:
            process.kill()
            process.wait()
        db1.quiet()
        self.clean(big, db1, inv, finished=how == "cut" and words == ("db.backup",))

    @pytest.mark.parametrize("step", ["send.begun", "send.written", "fetch.begun", "fetch.written"])
    @pytest.mark.parametrize("how", ["cut", "killed"])
    def test_on_the_way(
        self, big: Path, db1: DatabaseHost, start_inv: Inv, inv: Inv, step: str, how: str
    ) -> None:
        verb = step.partition(".")[0]
        made = inv("db.backup", *(["--on-host"] if verb == "fetch" else []), cwd=big)
        assert made.returncode == 0, made.stderr
        process = self.halted(start_inv, big, step, f"backup.{verb}", "latest")
        if how == "cut":
            with db1.cut():
                db1.quiet()
                os.kill(process.pid, signal.SIGUSR1)
                # what has come is whole without the line
                assert process.wait(60) == (0 if step == "fetch.written" else 4)
        else:
            process.kill()
            process.wait()
        db1.quiet()
        listed = json.loads(inv("backup.list", "--json", cwd=big).stdout)
        [backup] = listed["backups"]
        whole = step == "fetch.written" and how == "cut"
        assert (backup["where"] == "both") is whole
        assert inv(f"backup.{verb}", "latest", cwd=big).returncode == 0
        [backup] = json.loads(inv("backup.list", "--json", cwd=big).stdout)["backups"]
        assert backup["where"] == "both"
        assert left_here(big) == []
        assert not [name for name in everything(db1) if ".partial" in name]

    def clean(self, project: Path, db1: DatabaseHost, inv: Inv, *, finished: bool) -> None:
        """Look that nothing is listed, and that the next run leaves nothing of the last one."""
        listed = json.loads(inv("backup.list", "--json", cwd=project).stdout)
        assert len(listed["backups"]) == finished
        for place in ((), ("--on-host",)):
            assert inv("db.backup", "--no-proof", *place, cwd=project).returncode == 0
        listed = json.loads(inv("backup.list", "--json", cwd=project).stdout)
        assert len(listed["backups"]) == 2 + finished
        assert listed["interrupted"] == []
        assert left_here(project) == []
        assert not [name for name in everything(db1) if ".partial" in name]


class TestPartials:
    def test_of_dead_runs_are_swept(
        self, db1: DatabaseHost, shop: str, reached: Callable[..., Target]
    ) -> None:
        killed, far = reached(shop), far_of(reached(shop))
        left = far_of(killed).making("prod", "x", "20250101T000000Z-0000")
        assert left.__enter__() is not None
        assert far.sweep() == []  # its run lives
        assert far.mirror().leftovers() == []
        killed.place.link.transport.close()  # type: ignore[union-attr]
        until(lambda: not db1.run("ls", killed.place.link.room).stdout)  # type: ignore[union-attr]
        [name] = far.mirror().leftovers()
        assert name.endswith("/prod/x/.20250101T000000Z-0000.partial")
        assert len(far.sweep()) == 1
        assert everything(db1) == []
        left.__exit__(None, None, None)

    def test_without_a_run_s_name_after_a_minute(self, db1: DatabaseHost, far: Depot) -> None:
        path = f"{BACKUPS}/prod/x/.1.partial"
        db1.do("mkdir", "-p", path, user=db1.user)
        assert far.sweep() == []
        db1.do("touch", "-d", "-2 minutes", path)
        assert len(far.sweep()) == 1

    def test_folders_here_of_killed_runs(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(mirror.tempfile, "tempdir", str(tmp_path))
        (tmp_path / "pgtasks-4194304-x.backups").mkdir()  # beyond the highest process ID
        (tmp_path / f"pgtasks-{os.getppid()}-x.backups").mkdir()
        there: Any = type("Place", (), {})()
        assert mirror.room(there).is_dir()
        names = {path.name.split("-")[1] for path in tmp_path.iterdir()}
        assert names == {str(os.getpid()), str(os.getppid())}
        del there
        assert len(list(tmp_path.iterdir())) == 1


class TestArchive:
    def stream(self, *members: tuple[tarfile.TarInfo, bytes], **options: Any) -> io.BytesIO:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", **options) as tar:
            for info, data in members:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return io.BytesIO(file.getvalue())

    @pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "a/.."])
    def test_names_that_lead_elsewhere(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(Failed, match="lies elsewhere"):
            archive.unpack(self.stream((tarfile.TarInfo(name), b"x")), tmp_path)
        assert below(tmp_path) == []

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
    def test_what_is_no_file(self, tmp_path: Path, kind: bytes) -> None:
        info = tarfile.TarInfo("x")
        info.type, info.linkname = kind, "/etc/passwd"
        with pytest.raises(Failed, match="no plain file"):
            archive.unpack(self.stream((info, b"")), tmp_path)
        assert below(tmp_path) == []

    def test_a_name_that_comes_twice(self, tmp_path: Path) -> None:
        members = [(tarfile.TarInfo("x"), b"1"), (tarfile.TarInfo("x"), b"2")]
        with pytest.raises(FileExistsError):
            archive.unpack(self.stream(*members), tmp_path)

    @pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
    def test_long_names(self, tmp_path: Path, format: int) -> None:
        name = "/".join(["a" * 60] * 3)
        archive.unpack(self.stream((tarfile.TarInfo(name), b"x" * 600), format=format), tmp_path)
        assert (tmp_path / name).read_bytes() == b"x" * 600

    @pytest.mark.parametrize("size", [1, 511, 512, 700, 1024])
    def test_cut_short(self, tmp_path: Path, size: int) -> None:
        data = self.stream((tarfile.TarInfo("x"), b"x" * 600)).getvalue()
        with pytest.raises(archive.CutShort):
            archive.unpack(io.BytesIO(data[:size]), tmp_path)

    def test_no_archive(self, tmp_path: Path) -> None:
        with pytest.raises(Failed, match="no archive"):
            archive.unpack(io.BytesIO(b"Welcome!" * 100), tmp_path)

    def test_there_and_back(self, tmp_path: Path) -> None:
        source, copy = tmp_path / "a", tmp_path / "b"
        (source / "dump").mkdir(parents=True)
        contents = {"x": b"", "dump/1": b"1" * 512, "dump/2": os.urandom(3_000_001)}
        for name, data in contents.items():
            (source / name).write_bytes(data)
        stream = io.BytesIO()
        told: list[int] = []
        sent = archive.pack(stream, source, contents, told.append)
        copy.mkdir()
        assert archive.unpack(io.BytesIO(stream.getvalue()), copy, told.append) == sent
        assert {name: (copy / name).read_bytes() for name in contents} == contents
        assert sum(told) == 2 * sum(map(len, contents.values()))

    def test_a_file_that_shrinks(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"x" * 3_000_000)

        class Sink(io.BytesIO):
            def write(self, data: Any) -> int:
                os.truncate(path, 2_000_000)
                return super().write(data)

        with pytest.raises(archive.Unread, match="x: 1,000,000 bytes went missing"):
            archive.pack(Sink(), tmp_path, ["x"])


class TestStreams:
    @pytest.mark.parametrize(
        ("script", "words"),
        [
            ("echo why >&2; exit 3", "sh failed: exit code 3"),
            # it closes its stdin and ends well all the same
            ("exec <&-; exec sleep 0.2", "did not read all of it"),
        ],
    )
    def test_writing_to_what_stops_early(self, script: str, words: str) -> None:
        def write() -> None:
            with streams.writing(HERE, Command(("/bin/sh", "-c", script))) as sink:
                while True:
                    sink.write(b"x" * 65536)

        with pytest.raises(Failed, match=words):
            write()

    def test_reading_what_fails(self, tmp_path: Path) -> None:
        def read() -> None:
            script = "head -c 700 /dev/zero | tr '\\0' x; echo why >&2; exit 3"
            with streams.reading(HERE, Command(("/bin/sh", "-c", script))) as source:
                archive._exactly(source, 1000)

        with pytest.raises(Failed, match="sh failed: exit code 3") as info:
            read()
        assert info.value.hint == "why"
