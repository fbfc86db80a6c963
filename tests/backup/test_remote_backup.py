"""Backups of a database on a host over SSH: streamed here, kept there, found in both places."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from consoles import Recorder
from depots import (
    ODD,
    Fresh,
    Inv,
    dat,
    everything,
    far_of,
    filled,
    left_here,
    make_there,
    path_of,
    plain,
    spoil,
)
from halting import halted
from hosts import DatabaseHost
from servers import Cluster
from waiting import PATIENCE, until

from backups import SHOP, back_up_within, below, differences, make, restored
from pgtasks.backup import create
from pgtasks.backup.dump.job import DumpOptions, prepared
from pgtasks.backup.store import transfer
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.store.remote import RemoteStore
from pgtasks.backup.verify import verify
from pgtasks.errors import Failed, NotProven, VersionMismatch
from pgtasks.host.local import HERE, LocalHost
from pgtasks.server import reach
from pgtasks.server.dump import pg_dump
from pgtasks.server.dump.watch import Retry
from pgtasks.server.reach import Reached
from pgtasks.settings.ssh import Login
from pgtasks.settings.target import Target


class TestStreamed:
    def test_is_as_a_local_one(
        self,
        db1: DatabaseHost,
        there: Reached,
        local: Backup,
        tmp_path: Path,
        fresh_database: Fresh,
    ) -> None:
        made = make(there, tmp_path / "streamed")
        assert made.manifest.layout == "custom"
        assert made.proof() == local.proof()
        assert made.database() == local.database()
        assert plain(made.globals()) == plain(local.globals())
        assert made.manifest.system == local.manifest.system
        assert differences(made, restored(made, db1.cluster, fresh_database)) == ()
        verify(made, HERE)
        assert everything(db1, db1.backups) == []

    @pytest.mark.parametrize("environment", ["prod", ODD])
    def test_odd_names(
        self,
        db1: DatabaseHost,
        reached: Callable[..., Reached],
        fresh_database: Fresh,
        tmp_path: Path,
        environment: str,
    ) -> None:
        target = reached(filled(db1, fresh_database, ODD), environment)
        made = make(target, tmp_path)
        assert LocalStore(tmp_path).find(environment, ODD) == made
        proof = made.proof()
        assert proof is not None
        assert len(proof.sequences) == 2

    def test_is_one_file_whatever_was_asked_for(self, there: Reached, tmp_path: Path) -> None:
        assert make(there, tmp_path, layout="directory").manifest.layout == "custom"

    def test_the_plan_says_so(self, there: Reached, tmp_path: Path) -> None:
        shelf = LocalStore(tmp_path)
        text = "\n".join(create.plan(there, store=shelf))
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
        monkeypatch.setattr(LocalHost, "bundled", ())  # as if the wheel were not installed
        name = filled(db18, fresh_database)
        login = Login(**db18.place(bin=str(db18.bin)))
        target = Target("prod", db18.sockets, 5432, name, db18.user, ssh=login)
        old = make_folder_of_tools(tmp_path / "old", "16.1")
        with (
            closing(reach.reach(replace(target, tools=str(old)), Path())) as reached,
            pytest.raises(VersionMismatch, match="no pg_restore on this machine reads what"),
        ):
            make(reached, tmp_path / "backups")
        assert below(tmp_path / "backups") == []

    def test_what_the_tools_here_list_and_do_not_unpack(
        self, cluster: Cluster, target: Target, tmp_path: Path
    ) -> None:
        """What a pg_restore without zstd makes of an archive whose header says zstd."""
        cluster.psql(target.database, SHOP)
        made = make(target, tmp_path, layout="custom", compression="none")
        data = bytearray(made.dump.read_bytes())
        assert data[:5] == b"PGDMP"
        assert data[11] == 0
        data[11] = 3  # PG_COMPRESSION_ZSTD, in the header since pg_dump 16
        made.dump.write_bytes(data)
        found = pg_dump.sequences(pg_dump.contents(HERE, "custom", made.dump))
        assert [one.value for one in found] == [100, 1000]

    def test_a_dump_that_no_tool_here_unpacks_is_said_to_be_one(
        self, there: Reached, tmp_path: Path
    ) -> None:
        job = prepared(there, LocalStore(tmp_path), DumpOptions())
        assert not job.sealed
        assert list(create._notes(job)) == []
        sealed = replace(job, compression="zstd:1")
        [note] = create._notes(sealed)
        assert note.startswith("warning: no pg_restore on this machine unpacks zstd:1")

    def test_full_disk_here(self, big: Path) -> None:
        """A dump that grows beyond what this machine takes ends as one line."""
        done = back_up_within(500_000, big)
        assert done.returncode == 1
        assert "error: cannot write what pg_dump sends: File too large" in done.stderr
        assert left_here(big) == []
        assert LocalStore(big / "backups").list().backups == []

    def test_tools_too_old_there(self, db18: DatabaseHost, fresh_database: Fresh) -> None:
        login = Login(**db18.place())
        name = filled(db18, fresh_database)
        target = Target("prod", db18.sockets, 5432, name, db18.user, ssh=login)
        with (
            closing(reach.reach(target, Path())) as reached,
            pytest.raises(VersionMismatch, match=r"no pg_dump fits .*: wanted 18 or newer"),
        ):
            make_there(reached)


def make_folder_of_tools(folder: Path, version: str) -> Path:
    """Make tools that say a version and do nothing else."""
    folder.mkdir()
    for name in ("pg_dump", "pg_restore"):
        (folder / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        (folder / name).chmod(0o755)
    return folder


class TestOnHost:
    def test_is_as_a_local_one(
        self, db1: DatabaseHost, there: Reached, local: Backup, far: RemoteStore
    ) -> None:
        made = make_there(there, note="ünï 🐘")
        assert (made.manifest.layout, made.manifest.note) == ("directory", "ünï 🐘")
        assert made.proof() == local.proof()
        assert made.database() == local.database()
        assert made.manifest.files.keys() == local.manifest.files.keys()
        [listed] = far.list().backups
        assert listed.manifest == made.manifest
        assert listed.folder == made.folder
        assert made.folder.startswith(f"{db1.backups}/prod/")
        sums = db1.do("sh", "-c", 'cd "$0" && sha256sum -c SHA256SUMS', made.folder)
        assert sums.count(": OK\n") == len(made.manifest.files) - 1
        names = [made.folder, f"{made.dump}/toc.dat", f"{made.folder}/manifest.json"]
        modes = db1.do("stat", "-c", "%a %U", *names).splitlines()
        assert modes == [f"{mode} {db1.user}" for mode in (700, 600, 600)]
        wanted = {*made.manifest.files, "manifest.json", "dump"}
        relative = made.folder.removeprefix(f"{db1.backups}/")
        assert set(everything(db1)) == {relative, *(f"{relative}/{name}" for name in wanted)}

    def test_restores_there(self, db1: DatabaseHost, made: Backup, fresh_database: Fresh) -> None:
        name = fresh_database(db1.cluster, owner=db1.user)
        argv = (db1.bin / "pg_restore", "-e", "-h", db1.sockets, "-d", name, str(made.dump))
        db1.do(*argv, user=db1.user)
        assert differences(made, db1.cluster.target(name)) == ()

    def test_one_process_writes_a_file(self, db1: DatabaseHost, there: Reached) -> None:
        made = make_there(replace(there, target=replace(there.target, jobs=1)))
        assert made.manifest.layout == "custom"
        assert verify(made, made.host).structure == "read"

    def test_begins_anew(
        self, db1: DatabaseHost, there: Reached, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a worthless attempt wrote there is gone before the next one."""
        real, runs = create.attempt.run, []

        def run(attempt: Any) -> Any:
            runs.append(attempt)
            done = real(attempt)
            if len(runs) == 1:
                raise Retry("as if rewritten")
            return done

        monkeypatch.setattr(create.attempt, "run", run)
        console = Recorder()
        made = make_there(there, console)
        assert len(runs) == 2
        assert console.lines == ["as if rewritten: once more with a new snapshot"]
        assert verify(made, made.host).structure == "read"

    def test_odd_names_and_no_folder_yet(
        self,
        db1: DatabaseHost,
        reached: Callable[..., Reached],
        fresh_database: Fresh,
        tmp_path: Path,
    ) -> None:
        folder = '/srv/backups/it\'s a "folder" 🐘'
        target = reached(filled(db1, fresh_database, ODD), ODD, backups=folder)
        made = make_there(target)
        assert made.folder.startswith(f"{folder}/")
        assert far_of(target).find(ODD, ODD).manifest == made.manifest
        assert verify(made, made.host).structure == "read"
        got = transfer.copy(made, LocalStore(tmp_path)).backup
        assert verify(got, HERE).structure == "read"
        assert db1.do("stat", "-c", "%a", folder).strip() == "700"
        db1.do("rm", "-r", folder)

    def test_in_the_home_there_unless_said(
        self, db1: DatabaseHost, reached: Callable[..., Reached], shop: str
    ) -> None:
        home = db1.do("sh", "-c", f"echo ~{db1.user}").strip()
        for setting, wanted in (("", "pgtasks-backups"), ("~/a b", "a b"), ("c/d", "c/d")):
            made = make_there(reached(shop, backups=setting), schema_only=True)
            assert made.folder.startswith(f"{home}/{wanted}/prod/")
            db1.do("rm", "-r", f"{home}/{wanted}")

    def test_by_another_account(
        self, db1: DatabaseHost, reached: Callable[..., Reached], shop: str
    ) -> None:
        made = make_there(reached(shop, sudo_user="postgres", backups="/var/tmp/b"))
        assert db1.do("stat", "-c", "%U", made.folder).strip() == "postgres"
        assert verify(made, made.host).structure == "read"
        db1.do("rm", "-r", "/var/tmp/b")

    def test_a_folder_that_takes_nothing(
        self, db1: DatabaseHost, reached: Callable[..., Reached], shop: str
    ) -> None:
        target = reached(shop, backups="/srv/none")
        with pytest.raises(Failed, match=r"'?/srv/none'?: Permission denied.*ssh\.backups") as info:
            make_there(target)
        assert "\n" not in info.value.message
        assert far_of(target).list().backups == []

    def test_a_folder_that_may_not_be_read(
        self, db1: DatabaseHost, reached: Callable[..., Reached], shop: str
    ) -> None:
        db1.do("install", "-d", "-m", "700", "/srv/secret")
        with pytest.raises(Failed, match=r"Permission denied.*ssh\.backups"):
            far_of(reached(shop, backups="/srv/secret")).list()
        with pytest.raises(Failed, match=r"Permission denied.*ssh\.backups"):
            far_of(reached(shop, backups="/srv/secret/deeper")).list()

    def test_full_disk(
        self, db1: DatabaseHost, shop: str, reached: Callable[..., Reached], far: RemoteStore
    ) -> None:
        db1.cluster.execute(
            "CREATE TABLE big AS SELECT md5(random()::text) AS x FROM generate_series(1, 100000);"
            f"ALTER TABLE big OWNER TO {db1.user}",
            shop,
        )
        with db1.full_disk(db1.backups, 1_000_000):
            with pytest.raises(Failed) as info:
                make_there(reached(shop))
            assert "No space left on device" in info.value.message + info.value.hint
            assert everything(db1) == []
            assert far.list().backups == []

    def test_full_disk_for_the_small_files(
        self, db1: DatabaseHost, there: Reached, far: RemoteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = create.reconciled

        def fill(*args: Any) -> Any:
            done = real(*args)
            db1.run("sh", "-c", f"cat /dev/zero > {db1.backups}/fill", user=db1.user)
            return done

        monkeypatch.setattr(create, "reconciled", fill)
        with db1.full_disk(db1.backups, 2_000_000):
            with pytest.raises(Failed, match="No space left on device"):
                make_there(there)
            assert everything(db1) == []
            assert far.list().backups == []

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
        self, db1: DatabaseHost, made: Backup, there: Reached, far: RemoteStore
    ) -> None:
        seen = there.host.link.transport.packetizer  # type: ignore[attr-defined]
        done = verify(made, made.host)
        assert (done.structure, done.files) == ("read", len(made.manifest.files) + 1)
        assert seen is not None
        [listed] = far.list().backups
        assert listed.checks.intact == done.when

    def test_damage(self, db1: DatabaseHost, made: Backup, far: RemoteStore) -> None:
        name = dat(made)
        spoil(db1, f"{made.folder}/{name}")
        with pytest.raises(NotProven, match=f"damaged: {name}: its content was changed"):
            verify(made, made.host)
        [listed] = far.list().backups
        assert listed.checks.damaged
        db1.do("rm", f"{made.folder}/{name}")
        with pytest.raises(NotProven, match=f"{name}: missing"):
            verify(made, made.host)
        db1.do("touch", f"{made.folder}/{name}", f"{made.folder}/more")
        with pytest.raises(NotProven, match="more: not part of the backup"):
            verify(made, made.host)
        db1.do("rm", f"{made.folder}/more")
        db1.do("touch", f"{made.folder}/a\nb c")
        with pytest.raises(NotProven, match="not part of the backup"):
            verify(made, made.host)
        db1.do("rm", f"{made.folder}/a\nb c")
        with pytest.raises(NotProven, match=f"{name}: 0 bytes, "):
            verify(made, made.host)

    def test_a_file_that_cannot_be_read(self, db1: DatabaseHost, made: Backup) -> None:
        db1.do("chown", "root", f"{made.folder}/{dat(made)}")
        with pytest.raises(NotProven, match=f"{dat(made)}: cannot be read"):
            verify(made, made.host)

    def test_a_manifest_that_was_changed(
        self, db1: DatabaseHost, made: Backup, far: RemoteStore
    ) -> None:
        db1.do("sed", "-i", "s/prod/dev1/", f"{made.folder}/manifest.json")
        found = far.list()
        assert found.backups == []
        [broken] = found.broken
        assert broken.place == made.place
        assert broken.error.message.startswith(
            f"{made.place}/manifest.json: the manifest was changed"
        )


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
        assert there["path"].startswith(db1.backups)
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
        assert sent["to"].startswith(there["where"] + ":" + db1.backups)
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
            assert "only the backups of this machine are listed" in done.stderr
            done = inv("backup.list", "--json", cwd=shop_project)
            assert done.returncode == 4
            document = json.loads(done.stdout)
            assert [one["id"] for one in document["backups"]] == [made["id"]]
            assert document["exit_code"] == 4
            assert inv("backup.show", made["id"], cwd=shop_project).returncode == 0
            assert inv("backup.verify", cwd=shop_project).returncode == 0
            assert inv("backup.fetch", "latest", cwd=shop_project).returncode == 4


class TestEnded:
    """The line is cut, or the run killed, at a step: nothing is listed, nothing runs or stays."""

    def test_in_the_middle_of_a_stream(
        self, big: Path, db1: DatabaseHost, start_inv: Inv, inv: Inv
    ) -> None:
        with db1.slow("8mbit"):
            process = start_inv("db.backup", "--no-proof", cwd=big)
            dump = "backups/field/*/.*.partial/dump.pgdump"
            until(lambda: sum(path.stat().st_size for path in big.glob(dump)) > 200_000)
            with db1.cut():
                assert process.wait(PATIENCE) == 4
                assert "no answer in 5 s, the line is cut" in process.stderr.read()
                db1.quiet()
        assert left_here(big) == []
        assert json.loads(inv("backup.list", "--json", cwd=big).stdout)["backups"] == []

    @pytest.mark.parametrize(
        ("step", "words"),
        [
            ("backup.dumping", ("db.backup", "--on-host")),
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
        process = halted(start_inv, step, *words, cwd=big)
        if how == "cut":
            with db1.cut():
                db1.quiet()  # the silence is over
                os.kill(process.pid, signal.SIGUSR1)
                assert process.wait(PATIENCE) == (0 if words == ("db.backup",) else 4)
        else:
            process.kill()
            process.wait()
        db1.quiet()
        self.clean(big, db1, inv, finished=how == "cut" and words == ("db.backup",))

    @pytest.mark.parametrize("step", ["backup.dumping", "backup.written"])
    def test_interrupted(
        self, shop_project: Path, db1: DatabaseHost, start_inv: Inv, step: str
    ) -> None:
        process = halted(start_inv, step, "db.backup", "--on-host", cwd=shop_project)
        assert any(name.endswith(".partial") for name in everything(db1))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert everything(db1) == []  # by the run itself, not by the next one
        db1.quiet()

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
