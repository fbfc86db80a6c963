"""backup.prune on the host's backups folder, over SSH: the same decisions, by scripts there."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from depots import ODD, make_there
from halting import halted
from hosts import DatabaseHost
from manifests import PLAIN, fill, whole
from waiting import PATIENCE, until

from pgtasks.backup.format import manifest
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.prune import hands, seen
from pgtasks.backup.prune.perform import prune
from pgtasks.backup.prune.plan import Pruned
from pgtasks.backup.store import transfer, trash, trash_scripts
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.faults import Dropped
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.store.remote import RemoteStore
from pgtasks.backup.verify import verify
from pgtasks.errors import Locked, Refused
from pgtasks.report import boundaries
from pgtasks.server.reach import Reached
from pgtasks.settings.blocks import Backup as Settings
from pgtasks.settings.blocks import Keep
from pgtasks.settings.target import Target

Inv = Callable[..., Any]
NOW = datetime.now(timezone.utc)
ENVIRONMENT = "field"


def ago(days: float, mark: str = "0000") -> dict[str, str]:
    """Return ID and time of a backup that was made so many days ago."""
    taken = NOW - timedelta(days=days)
    return {
        "id": f"{taken:%Y%m%dT%H%M%SZ}-{mark}",
        "snapshot_time": f"{taken:%Y-%m-%dT%H:%M:%S.000000Z}",
    }


class Folder:
    """The backups folder on a host, and the folder of one database in it."""

    def __init__(self, db1: DatabaseHost, tmp_path: Path, environment: str, database: str) -> None:
        self.db1, self.made = db1, tmp_path / "put"
        self.named = {"environment": environment, "database": database}
        home = Path(LocalStore(self.made).home(environment, database)).relative_to(self.made)
        self.home = db1.path(db1.backups) / home
        self.there = f"{db1.backups}/{home}"

    def put(self, days: float, mark: str = "0000", **more: object) -> str:
        """Put a backup there that is nothing but its manifest, and return its ID."""
        made = whole(self.made, **{**ago(days, mark), **self.named, **more})
        self.home.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made.path, self.home / made.id)
        self.give()
        return made.id

    def several(self, number: int) -> list[str]:
        return [self.put(each, f"{each:04x}") for each in range(number)]

    def give(self) -> None:
        """Give all of it to the account of the login."""
        self.db1.do("chown", "-R", f"{self.db1.user}:", self.db1.backups)

    @property
    def ids(self) -> set[str]:
        return {path.name for path in self.home.glob("[!.]*")}

    @property
    def trash(self) -> set[str]:
        return {path.name.partition(".")[0] for path in (self.home / ".trash").glob("[!.]*")}

    @property
    def hidden(self) -> list[str]:
        """Return the names of locks, and of what is being removed."""
        return [path.name for path in (self.home / ".trash").glob(".*")]

    def drop(self, id: str, days: float) -> str:
        """Move a backup into the trash, as so many days ago."""
        (self.home / ".trash").mkdir(exist_ok=True)
        name = f"{id}.dropped-{NOW - timedelta(days=days):%Y%m%dT%H%M%SZ}"
        (self.home / id).rename(self.home / ".trash" / name)
        self.give()
        return name


@pytest.fixture
def folder(db1: DatabaseHost, there: Reached, tmp_path: Path) -> Folder:
    return Folder(db1, tmp_path, there.target.environment, there.target.database)


@pytest.fixture
def target(there: Reached) -> Target:
    """Return the target, of which the last two backups stay."""
    return replace(there.target, backup=Settings(keep=Keep(last=2)))


def pruned(far: RemoteStore, target: Target) -> Pruned:
    return prune(far, target, lambda plan: False)


@pytest.fixture(params=["perl", "mv"])
def mover(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the host rename with perl, or as one that has none."""
    if request.param == "mv":
        for name in ("_MOVE", "_EMPTY"):
            script = getattr(trash_scripts, name)
            assert "command -v perl" in script
            monkeypatch.setattr(trash_scripts, name, script.replace("command -v perl", "false"))


@pytest.mark.usefixtures("mover")
class TestMoved:
    def test_each_is_named_that_cannot_be_moved(
        self, db1: DatabaseHost, folder: Folder, far: RemoteStore, target: Target
    ) -> None:
        made = folder.several(4)
        gone, link = f"{ago(9)['id']}", f"{ago(8)['id']}"
        (folder.home / link).symlink_to(made[0])
        home = (target.environment, target.database)
        with far.retaining(*home):
            (folder.home / ".trash" / trash.name(made[2], NOW)).mkdir()
            faults = far.drop(*home, [*made[1:], gone, link], NOW)
        assert faults == {
            made[2]: "is in the trash already",
            gone: "is not there any more",
            link: "is not there any more",
        }
        assert folder.ids == {made[0], made[2], link}
        assert folder.trash == {made[1], made[2], made[3]}
        listed = far.list().trash
        assert far.empty([each for each in listed if each.id != made[1]]) == {}
        assert folder.trash == {made[1]}
        assert folder.hidden == []


class TestPruned:
    def test_into_the_trash_and_back(
        self, folder: Folder, far: RemoteStore, target: Target
    ) -> None:
        made = folder.several(5)
        done = pruned(far, target)
        assert [backup.id for backup in done.dropped] == made[2:]
        assert not done.faults
        assert (folder.ids, folder.trash) == (set(made[:2]), set(made[2:]))
        assert {backup.id for backup in far.list().backups} == set(made[:2])
        back = hands.untrash(far, target.environment, target.database, made[3])
        assert back.place.endswith(f"{folder.there}/{made[3]}")
        assert (folder.ids, folder.trash) == ({*made[:2], made[3]}, {made[2], made[4]})
        with pytest.raises(Refused, match=f"no backup '{made[3]}' in the trash .* on {far.name}"):
            hands.untrash(far, target.environment, target.database, made[3])
        assert folder.hidden == []  # no lock is left

    def test_out_of_the_trash_after_days(
        self, folder: Folder, far: RemoteStore, target: Target
    ) -> None:
        made = folder.several(4)
        folder.drop(made[2], 8)
        folder.drop(made[3], 6)
        (folder.home / ".trash" / "mine").mkdir()
        cut = folder.home / ".trash" / f".{ago(9)['id']}.dropped-20250101T000000Z.removing"
        (cut / "dump").mkdir(parents=True)
        folder.give()
        done = pruned(far, target)
        assert {each.id for each in done.removed} == {made[2], ago(9)["id"]}
        assert not done.faults
        assert folder.trash == {made[3], "mine"}
        assert folder.hidden == []

    def test_many_at_once(self, folder: Folder, far: RemoteStore, target: Target) -> None:
        """More names than fit into one command."""
        made = folder.put(0, "ffff")
        model = folder.home / made
        for number in range(1, 900):
            known = replace(PLAIN, **ago(number, f"{number:04x}"), **folder.named)
            (model.parent / known.id).mkdir()
            (model.parent / known.id / manifest.NAME).write_text(manifest.text(known))
            fill(model.parent / known.id, known)
        folder.give()
        done = pruned(far, target)
        assert (len(done.dropped), done.faults) == (898, {})
        assert len(folder.trash) == 898

    def test_names_that_are_odd(
        self, db1: DatabaseHost, far: RemoteStore, target: Target, tmp_path: Path
    ) -> None:
        odd = replace(target, environment="prod", database=ODD)
        folder = Folder(db1, tmp_path, "prod", ODD)
        other = Folder(db1, tmp_path, "prod", f"{ODD}2")
        made, beside = folder.several(4), other.several(4)
        pruned(far, odd)
        assert (folder.ids, folder.trash) == (set(made[:2]), set(made[2:]))
        assert other.ids == set(beside)
        hands.keep(far.find("prod", ODD, made[1]), ODD)
        assert Retention.read(folder.home / made[1]).why == ODD
        hands.untrash(far, "prod", ODD, made[2])
        assert made[2] in folder.ids

    def test_of_no_database(self, far: RemoteStore, target: Target) -> None:
        done = pruned(far, replace(target, database="nobody"))
        assert done.lines()[0] == f"no backups of prod/nobody ({far.name})"

    def test_what_cannot_be_moved_is_named(
        self, db1: DatabaseHost, folder: Folder, far: RemoteStore, target: Target
    ) -> None:
        made = folder.several(4)
        db1.do("chown", "root:", f"{folder.there}/{made[2]}")
        db1.do("chmod", "755", f"{folder.there}/{made[2]}")
        done = pruned(far, target)
        assert done.faults == {made[2]: "cannot be moved"}
        assert (folder.ids, folder.trash) == ({*made[:3]}, {made[3]})


class TestKept:
    def test_kept_there(self, folder: Folder, far: RemoteStore, target: Target) -> None:
        made = folder.several(4)
        backup = far.find(target.environment, target.database, made[3])
        hands.keep(backup, "why")
        backup.record(intact="2026-01-01T00:00:00Z")  # as a check that began before would
        assert pruned(far, target).plan.verdicts[3].why.startswith("kept by hand: why (")
        assert folder.ids == {*made[:2], made[3]}
        [kept] = [each for each in far.list().backups if each.id == made[3]]
        assert kept.retention.why == "why"
        hands.release(kept)
        pruned(far, target)
        assert folder.ids == set(made[:2])

    @pytest.mark.parametrize("how", ["link", "closed", "folder", "large", "no JSON"])
    def test_what_cannot_be_read_keeps_the_backup(
        self, db1: DatabaseHost, folder: Folder, far: RemoteStore, target: Target, how: str
    ) -> None:
        made = folder.several(4)
        file = f"{folder.there}/{made[3]}/retention.json"
        db1.do(
            *{
                "link": ["ln", "-s", "/etc/passwd", file],
                "closed": ["install", "-m", "000", "/dev/null", file],
                "folder": ["mkdir", file],
                "large": ["truncate", "-s", "100000", file],
                "no JSON": ["install", "-o", db1.user, "/etc/hostname", file],
            }[how]
        )
        pruned(far, target)
        assert folder.ids == {*made[:2], made[3]}

    def test_one_that_lacks_a_file_takes_the_place_of_none(
        self, db1: DatabaseHost, folder: Folder, far: RemoteStore, target: Target
    ) -> None:
        made = folder.several(7)
        db1.do("rm", f"{folder.there}/{made[0]}/dump/toc.dat")
        db1.do("truncate", "-s", "1", f"{folder.there}/{made[2]}/dump/toc.dat")
        db1.do("ln", "-sf", "/etc/passwd", f"{folder.there}/{made[4]}/dump/toc.dat")
        why = [each.why for each in pruned(far, target).plan.verdicts]
        assert why[0] == "lacks a file: dump/toc.dat: missing"
        assert why[2] == "lacks a file: dump/toc.dat: 1 bytes, 3 were written"
        assert why[4].startswith("lacks a file: dump/toc.dat: ")
        assert folder.ids == {*made[:5]}

    def test_a_link_is_no_backup_of_its_own(
        self, db1: DatabaseHost, folder: Folder, far: RemoteStore, target: Target
    ) -> None:
        made = folder.several(4)
        disk = db1.do("mktemp", "-d").strip()
        db1.do("mv", f"{folder.there}/{made[3]}", disk)
        db1.do("ln", "-s", f"{disk}/{made[3]}", f"{folder.there}/{made[3]}")
        db1.do("chmod", "755", disk)
        assert pruned(far, target).plan.verdicts[3].why == "a symbolic link"
        assert folder.ids == {*made[:2], made[3]}
        db1.do("rm", "-r", disk)

    def test_a_loss_stops_it(
        self, db1: DatabaseHost, there: Reached, far: RemoteStore, target: Target, folder: Folder
    ) -> None:
        folder.put(1, rows=1_000_000)
        made = make_there(there)
        assert made.retention.stops
        with pytest.raises(Refused, match=r"% of its rows \(1,000,000 to "):
            pruned(far, target)
        seen.acknowledge(far.find(target.environment, target.database), far, target)
        assert not pruned(far, target).dropped
        assert verify(far.find(target.environment, target.database), far.host).structure == "read"


class TestTrash:
    @pytest.mark.parametrize("kind", ["link", "file", "foreign", "disk"])
    def test_that_is_no_folder_of_ours_is_refused(
        self, db1: DatabaseHost, folder: Folder, far: RemoteStore, target: Target, kind: str
    ) -> None:
        made = folder.several(4)
        trash = f"{folder.there}/.trash"
        if kind == "link":
            db1.do("install", "-d", "-o", db1.user, f"{folder.there}-elsewhere")
            db1.do("ln", "-s", f"{folder.there}-elsewhere", trash)
        elif kind == "file":
            db1.do("touch", trash)
        else:
            db1.do("mkdir", "-m", "777", trash)
        if kind == "disk":
            db1.do("mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "none", trash)
            db1.do("chown", f"{db1.user}:", trash)
        try:
            words = {"foreign": "another account", "disk": "on another disk"}
            with pytest.raises(Refused, match=words.get(kind, "is not a folder")):
                pruned(far, target)
            with pytest.raises(Refused, match="move it away"):
                hands.keep(far.find(target.environment, target.database), "x")
            assert folder.ids == set(made)
        finally:
            if kind == "disk":
                db1.do("umount", trash)

    def test_a_removal_follows_no_link(
        self, db1: DatabaseHost, folder: Folder, far: RemoteStore, target: Target
    ) -> None:
        folder.several(1)
        precious = db1.do("mktemp", "-d").strip()
        db1.do("touch", f"{precious}/file")
        db1.do("chown", "-R", f"{db1.user}:", precious)
        db1.do("install", "-d", "-o", db1.user, f"{folder.there}/.trash")
        name = f"{ago(40)['id']}.dropped-20250101T000000Z"
        db1.do("ln", "-s", precious, f"{folder.there}/.trash/{name}")
        done = pruned(far, target)
        assert not done.faults
        assert db1.do("ls", precious) == "file\n"
        db1.do("rm", "-r", precious)

    def test_two_at_once(self, folder: Folder, far: RemoteStore, target: Target) -> None:
        made = folder.several(4)
        with far.retaining(target.environment, target.database):
            with pytest.raises(Locked, match="another run keeps or drops backups"):
                pruned(far, target)
            with pytest.raises(Locked):
                hands.keep(far.find(target.environment, target.database, made[0]), "x")
            with far.retaining(target.environment, "another"):
                pass
        pruned(far, target)
        assert folder.ids == set(made[:2])


@pytest.fixture
def site(db1: DatabaseHost, shop: str, shop_project: Path, tmp_path: Path) -> Folder:
    """Return the folder there of a project's database, of which the last two backups stay."""
    file = shop_project / "env" / "field.yaml"
    file.write_text(file.read_text() + "\nbackup: {keep: 2}\n")
    return Folder(db1, tmp_path, ENVIRONMENT, shop)


class TestKilled:
    """At each step each backup is in one of the two places, whole, and the next run goes on."""

    @pytest.mark.parametrize("step", [*boundaries.PRUNE, *boundaries.UNTRASH])
    def test_at_a_step(
        self,
        site: Folder,
        db1: DatabaseHost,
        shop_project: Path,
        start_inv: Inv,
        inv: Inv,
        step: str,
    ) -> None:
        made = site.several(5)
        old = site.put(30, "aaaa")
        site.drop(old, 9)
        words = ["backup.prune", "--yes", "--on-host"]
        if step in boundaries.UNTRASH:
            site.drop(made[4], 1)
            words = ["backup.untrash", made[4], "--on-host"]
        process = halted(start_inv, step, *words, cwd=shop_project)
        busy = inv("backup.prune", "--yes", "--on-host", cwd=shop_project)
        assert busy.returncode == 6, busy.stderr
        process.kill()
        process.wait()
        db1.quiet()
        assert site.ids | site.trash >= set(made)
        assert not site.ids & site.trash
        until(lambda: self.went_on(inv, shop_project))
        assert (site.ids, site.trash) == (set(made[:2]), set(made[2:]))
        assert site.hidden == []

    def went_on(self, inv: Inv, project: Path) -> bool:
        done = inv("backup.prune", "--yes", "--on-host", cwd=project)
        assert done.returncode in (0, 6), done.stderr
        return bool(done.returncode == 0)

    def test_a_line_that_is_cut(
        self, site: Folder, db1: DatabaseHost, shop_project: Path, start_inv: Inv, inv: Inv
    ) -> None:
        made = site.several(4)
        words = ("backup.prune", "--yes", "--on-host")
        process = halted(start_inv, "prune.agreed", *words, cwd=shop_project)
        with db1.cut():
            db1.quiet()
            os.kill(process.pid, signal.SIGUSR1)
            assert process.wait(PATIENCE) == 4
        assert site.ids == set(made)
        until(lambda: self.went_on(inv, shop_project))
        assert (site.ids, site.trash) == (set(made[:2]), set(made[2:]))


class TestBeside:
    """A backup that goes while another run reads it is named, and not called damaged."""

    def test_a_verify_and_a_copy(self, made: Backup, far: RemoteStore, tmp_path: Path) -> None:
        home = (made.manifest.environment, made.manifest.database)
        with far.retaining(*home):
            assert far.drop(*home, [made.id], NOW) == {}
        assert not far.has(made)
        with pytest.raises(Refused, match="no backup of database"):
            far.find(made.manifest.environment, made.manifest.database)
        (made.path / "README.txt").unlink(missing_ok=True)
        with pytest.raises(Dropped, match=rf"backup {made.id} is not there any more.*untrash"):
            verify(made, far.host)
        with pytest.raises(Dropped, match="is not there any more"):
            transfer.copy(made, LocalStore(tmp_path / "copy"))
        [dropped] = far.list().trash
        far.bring_back(dropped)
        assert not far.list().backups[0].checks.damaged
        assert verify(made, far.host).structure == "read"
