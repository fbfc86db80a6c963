"""Backups on their way between this machine and a host: fetched, sent, lent."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from depots import (
    Fresh,
    Inv,
    dat,
    everything,
    far_of,
    left_here,
    spoil,
)
from halting import halted
from hosts import DatabaseHost
from waiting import PATIENCE, until

from backups import below, differences, local_backup, restored
from pgtasks.backup.format import manifest
from pgtasks.backup.store import filestream, remote_index, staging, tarstream, transfer
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.store.remote import RemoteStore
from pgtasks.backup.store.remote_shell import Shell
from pgtasks.backup.verify import verify
from pgtasks.errors import Failed, Locked, NotProven, Refused
from pgtasks.host.local import HERE, LocalHost
from pgtasks.server.reach import Reached


class TestFetch:
    def test_comes_whole(
        self, made: Backup, tmp_path: Path, db1: DatabaseHost, fresh_database: Fresh
    ) -> None:
        done = transfer.copy(made, LocalStore(tmp_path))
        assert not done.already
        got = done.backup
        assert LocalStore(tmp_path).list().backups == [got]
        assert got.manifest == made.manifest
        assert got.checks.intact
        assert verify(got, HERE).structure == "read"
        assert differences(got, restored(got, db1.cluster, fresh_database)) == ()
        assert {path.stat().st_mode & 0o777 for path in got.path.rglob("*")} == {0o600, 0o700}
        assert transfer.copy(made, LocalStore(tmp_path)).already
        assert [name for name in below(tmp_path) if name.endswith(".partial")] == []

    def test_another_one_of_that_id(self, made: Backup, tmp_path: Path) -> None:
        got = transfer.copy(made, LocalStore(tmp_path)).backup
        changed = replace(got.manifest, note="another")
        (got.path / manifest.NAME).write_text(manifest.text(changed))
        with pytest.raises(Refused, match=f"there is another backup {made.id} in"):
            transfer.copy(made, LocalStore(tmp_path))
        shutil.rmtree(got.path)
        got.path.symlink_to(tmp_path)
        with pytest.raises(Refused, match="is a symbolic link, move it away"):
            transfer.copy(made, LocalStore(tmp_path))
        got.path.unlink()
        got.path.write_text("mine")
        with pytest.raises(Refused, match="there is another"):
            transfer.copy(made, LocalStore(tmp_path))
        assert got.path.read_text() == "mine"

    def test_damage_there(self, db1: DatabaseHost, made: Backup, tmp_path: Path) -> None:
        spoil(db1, f"{made.folder}/{dat(made)}")
        wanted = f"{made.id} is damaged on {made.host.name}: {dat(made)}: its content was changed"
        with pytest.raises(NotProven, match=wanted):
            transfer.copy(made, LocalStore(tmp_path))
        db1.do("rm", f"{made.folder}/{dat(made)}")
        with pytest.raises(NotProven, match=f"damaged on {made.host.name}: {dat(made)}: missing"):
            transfer.copy(made, LocalStore(tmp_path))
        assert LocalStore(tmp_path).list().backups == []
        assert not [name for name in below(tmp_path) if made.id in name]

    def test_damage_on_the_way(
        self, made: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = tarstream.unpack

        def unpack(source: Any) -> Any:
            data = source.read()
            at = data.index(b"PGDMP")
            return real(io.BytesIO(data[:at] + b"XXXXX" + data[at + 5 :]))

        monkeypatch.setattr(tarstream, "unpack", unpack)
        with pytest.raises(NotProven, match=r"is damaged on the way here: dump/toc\.dat"):
            transfer.copy(made, LocalStore(tmp_path))
        assert LocalStore(tmp_path).list().backups == []

    def test_two_at_once(self, made: Backup, tmp_path: Path) -> None:
        home = Path(LocalStore(tmp_path).home("prod", made.manifest.database))
        with staging.making(home, made.id), pytest.raises(Locked, match="another run is creating"):
            transfer.copy(made, LocalStore(tmp_path))

    def test_full_disk_here(
        self, db1: DatabaseHost, made: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.open

        def open_full(path: Any, flags: int, *more: Any, **options: Any) -> int:
            if str(path).endswith(".dat.gz"):
                return real("/dev/full", os.O_WRONLY)
            return real(path, flags, *more, **options)

        monkeypatch.setattr(filestream.os, "open", open_full)
        with pytest.raises(Failed, match=r"cannot write .*: No space left on device"):
            transfer.copy(made, LocalStore(tmp_path))
        assert LocalStore(tmp_path).list().backups == []
        assert not [name for name in below(tmp_path) if made.id in name]

    def test_no_room_is_said_first(
        self, made: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(LocalHost, "free_bytes", lambda self, path: 1000)
        with pytest.raises(Failed, match=f"no room for backup {made.id}: .* has 1.0 kB free"):
            transfer.copy(made, LocalStore(tmp_path))


class TestSend:
    def test_goes_whole(self, db1: DatabaseHost, far: RemoteStore, local: Backup) -> None:
        sent = transfer.copy(local, far)
        assert not sent.already
        [listed] = far.list().backups
        assert listed.folder == sent.backup.folder
        assert listed.manifest == local.manifest
        assert listed.checks.intact
        assert verify(sent.backup, far.host).structure == "read"
        modes = db1.do("find", sent.backup.folder, "-printf", "%m %U\n").splitlines()
        assert len(set(modes)) == 2
        assert transfer.copy(local, far).already
        assert not [name for name in everything(db1) if name.endswith(".partial")]

    def test_another_one_of_that_id(self, far: RemoteStore, local: Backup) -> None:
        transfer.copy(local, far)
        changed = replace(local.manifest, note="another")
        (local.path / manifest.NAME).write_text(manifest.text(changed))
        with pytest.raises(Refused, match=f"there is another backup {local.id} in '{far.prefix}"):
            transfer.copy(local_backup(local.path), far)

    def test_damage_here(self, db1: DatabaseHost, far: RemoteStore, local: Backup) -> None:
        path = local.path / dat(local)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        wanted = f"{local.id} is damaged on this machine: {dat(local)}: its content was changed"
        with pytest.raises(NotProven, match=wanted):
            transfer.copy(local, far)
        path.unlink()
        with pytest.raises(NotProven, match=f"on this machine: {dat(local)}: No such file"):
            transfer.copy(local, far)
        assert everything(db1) == []

    def test_damage_on_the_way(
        self, db1: DatabaseHost, far: RemoteStore, local: Backup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Shell.unpack

        def unpack(shell: Shell, path: str, send: Any) -> None:
            real(shell, path, send)
            spoil(db1, f"{path}/{dat(local)}")

        monkeypatch.setattr(Shell, "unpack", unpack)
        wanted = f"is damaged on the way to {far.host.name}: {dat(local)}: its content"
        with pytest.raises(NotProven, match=wanted):
            transfer.copy(local, far)
        assert everything(db1) == []

    def test_no_room_there(self, db1: DatabaseHost, far: RemoteStore, local: Backup) -> None:
        with db1.full_disk(db1.backups, 400_000):
            with pytest.raises(Failed, match=f"no room for backup {local.id}: it has .* free"):
                transfer.copy(local, far)
            assert everything(db1) == []

    def test_full_disk_there(
        self, db1: DatabaseHost, far: RemoteStore, local: Backup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(transfer, "_refuse_full", lambda *args: None)
        with db1.full_disk(db1.backups, 16384):
            with pytest.raises(Failed, match=r"cannot be written: .*No space left on device"):
                transfer.copy(local, far)
            assert everything(db1) == []

    def test_two_at_once(self, far: RemoteStore, local: Backup) -> None:
        with (
            far.draft("prod", local.manifest.database, local.id),
            pytest.raises(Locked, match="another run is creating"),
        ):
            transfer.copy(local, far)

    def test_to_and_fro(self, far: RemoteStore, local: Backup, tmp_path: Path) -> None:
        local.record(proven="2025-01-01T00:00:00Z")
        transfer.copy(local, far)
        [listed] = far.list().backups
        got = transfer.copy(listed, LocalStore(tmp_path / "other")).backup
        assert got.manifest == local.manifest
        assert got.checks.proven == "2025-01-01T00:00:00Z"


class TestLent:
    def test_lies_there_for_a_while(
        self, db1: DatabaseHost, far: RemoteStore, local: Backup
    ) -> None:
        with transfer.lent(local, far) as lent:
            assert lent.host is far.host
            sums = db1.do("sh", "-c", 'cd "$0" && sha256sum -c SHA256SUMS', lent.folder)
            assert sums.count(": OK\n") == len(local.manifest.files) - 1
            found = far.list()
            assert found.backups == []
            assert found.interrupted == []
            pg_restore = db1.bin / "pg_restore"
            assert "TABLE DATA public customers" in db1.do(pg_restore, "--list", str(lent.dump))
            assert lent.proof() == local.proof()
        assert everything(db1) == []

    def test_twice_at_once(self, far: RemoteStore, local: Backup) -> None:
        with transfer.lent(local, far) as one, transfer.lent(local, far) as two:
            assert one.folder != two.folder

    def test_one_that_lies_there_stays(self, made: Backup, far: RemoteStore) -> None:
        with transfer.lent(made, far) as lent:
            assert lent == made
        assert len(far.list().backups) == 1

    def test_damage_is_found(self, db1: DatabaseHost, far: RemoteStore, local: Backup) -> None:
        path = local.path / dat(local)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        lending = transfer.lent(local, far)
        with pytest.raises(NotProven, match="is damaged on this machine"):
            lending.__enter__()
        assert everything(db1) == []


class TestEnded:
    """The line is cut, or the run killed, on the way: nothing is listed, nothing stays."""

    @pytest.mark.parametrize(
        ("how", "verb", "step"),
        [
            ("cut", "send", "transfer.written"),
            ("cut", "fetch", "transfer.begun"),
            ("cut", "fetch", "transfer.written"),
            ("killed", "send", "transfer.begun"),
            ("killed", "fetch", "transfer.written"),
        ],
    )
    def test_on_the_way(
        self, big: Path, db1: DatabaseHost, start_inv: Inv, inv: Inv, step: str, how: str, verb: str
    ) -> None:
        made = inv("db.backup", *(["--on-host"] if verb == "fetch" else []), cwd=big)
        assert made.returncode == 0, made.stderr
        process = halted(start_inv, step, f"backup.{verb}", "latest", cwd=big)
        if how == "cut":
            with db1.cut():
                db1.quiet()
                os.kill(process.pid, signal.SIGUSR1)
                # what has come is whole without the line
                assert process.wait(PATIENCE) == (
                    0 if (verb, step) == ("fetch", "transfer.written") else 4
                )
        else:
            process.kill()
            process.wait()
        db1.quiet()
        listed = json.loads(inv("backup.list", "--json", cwd=big).stdout)
        [backup] = listed["backups"]
        whole = (verb, step, how) == ("fetch", "transfer.written", "cut")
        assert (backup["where"] == "both") is whole
        assert inv(f"backup.{verb}", "latest", cwd=big).returncode == 0
        [backup] = json.loads(inv("backup.list", "--json", cwd=big).stdout)["backups"]
        assert backup["where"] == "both"
        assert left_here(big) == []
        assert not [name for name in everything(db1) if ".partial" in name]


class TestPartials:
    def test_of_dead_runs_are_swept(
        self, db1: DatabaseHost, shop: str, reached: Callable[..., Reached]
    ) -> None:
        killed, far = reached(shop), far_of(reached(shop))
        left = far_of(killed).draft("prod", "x", "20250101T000000Z-0000")
        assert left.__enter__() is not None
        assert far.sweep() == []  # its run lives
        assert far.list().interrupted == []
        killed.host.link.transport.close()  # type: ignore[attr-defined]
        until(lambda: far.list().interrupted)  # the lifeline has ended the run
        [name] = far.list().interrupted
        assert name.endswith("/prod/x/.20250101T000000Z-0000.partial")
        assert len(far.sweep()) == 1
        assert everything(db1) == []
        left.__exit__(None, None, None)

    def test_without_a_run_s_name_after_a_minute(self, db1: DatabaseHost, far: RemoteStore) -> None:
        path = f"{db1.backups}/prod/x/.1.partial"
        db1.do("mkdir", "-p", path, user=db1.user)
        assert far.sweep() == []
        db1.do("touch", "-d", "-2 minutes", path)
        assert len(far.sweep()) == 1

    def test_folders_here_of_killed_runs(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setattr(remote_index.tempfile, "tempdir", str(tmp_path))
        (tmp_path / "pgtasks-run-4194304-x").mkdir()  # beyond the highest process ID
        (tmp_path / f"pgtasks-run-{os.getppid()}-x").mkdir()
        there: Any = type("Place", (), {})()
        assert remote_index.room(there).is_dir()
        names = {path.name.split("-")[2] for path in tmp_path.iterdir()}
        assert names == {str(os.getpid()), str(os.getppid())}
        del there
        assert len(list(tmp_path.iterdir())) == 1
