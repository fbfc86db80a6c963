"""backup.prune on this machine: what goes, the trash, the way back, and what may not go wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from halting import halted
from manifests import PLAIN, whole
from projects import make_project
from servers import Cluster
from terminal import answer
from waiting import PATIENCE

from backups import SHOP, make
from pgtasks.backup.format import manifest
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.retention import Retention
from pgtasks.backup.store import transfer
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.faults import Dropped
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.verify import verify
from pgtasks.errors import NotProven, VersionMismatch
from pgtasks.host.local import HERE
from pgtasks.report import boundaries

Inv = Callable[..., Any]
INV = Path(sys.executable).parent / "inv"
HOME = Path("backups") / "dev" / "shop"
NOW = datetime.now(timezone.utc)


def ago(days: float, mark: str = "0000") -> dict[str, str]:
    """Return ID and time of a backup that was made so many days ago."""
    taken = NOW - timedelta(days=days)
    return {
        "id": f"{taken:%Y%m%dT%H%M%SZ}-{mark}",
        "snapshot_time": f"{taken:%Y-%m-%dT%H:%M:%S.000000Z}",
    }


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a project that keeps the last two backups of a database that nobody can reach."""
    made = make_project(tmp_path / "p", "postgresql://nobody@127.0.0.1:1/shop")
    ruled(made, "{last: 2}")
    return made


def ruled(site: Path, keep: str, more: str = "") -> None:
    url = "postgresql://nobody@127.0.0.1:1/shop"
    (site / "env" / "dev.yaml").write_text(f"url: {url}\n{more}backup:\n  keep: {keep}\n")


def backups(site: Path, number: int, **more: object) -> list[str]:
    """Put backups of the last days into a project, and return their IDs, the newest first."""
    return [
        whole(site / "backups", **{**ago(each, f"{each:04x}"), **more}).id for each in range(number)
    ]


def ids(site: Path) -> set[str]:
    return {path.name for path in (site / HOME).glob("[!.]*")}


def trash(site: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in (site / HOME / ".trash").glob("[!.]*")}


def listed(inv: Inv, site: Path) -> set[str]:
    return {
        each["id"] for each in json.loads(inv("backup.list", "--json", cwd=site).stdout)["backups"]
    }


class TestPlan:
    def test_says_for_every_backup_what_keeps_or_drops_it(self, site: Path, inv: Inv) -> None:
        made = backups(site, 4)
        dry = inv("backup.prune", "--dry", cwd=site)
        assert dry.returncode == 0
        assert re.search(rf"^{made[1]} .* stays +last 2 of 2$", dry.stdout, re.MULTILINE)
        assert re.search(rf"^{made[2]} .* goes +no rule keeps it$", dry.stdout, re.MULTILINE)
        assert "would drop 2 backups of dev/shop (6 B), 2 backups stay" in dry.stdout
        assert ids(site) == set(made)
        assert not (site / HOME / ".trash").exists()
        document = json.loads(inv("backup.prune", "--dry", "--json", cwd=site).stdout)
        assert [each["stays"] for each in document["backups"]] == [True, True, False, False]

    def test_drops_what_it_said_and_says_it_in_the_journal(self, site: Path, inv: Inv) -> None:
        made = backups(site, 4)
        done = inv("backup.prune", "--yes", cwd=site)
        assert done.returncode == 0, done.stderr
        assert ids(site) == set(made[:2])
        assert trash(site) == set(made[2:])
        assert f"inv backup.untrash {made[2]} brings one back" in done.stdout
        entry = json.loads((site / "backups" / "journal.jsonl").read_text().splitlines()[-1])
        assert [each["id"] for each in entry["details"]["backups"]] == made[2:]
        again = inv("backup.prune", "--yes", cwd=site)
        assert "nothing was dropped, 2 backups of dev/shop" in again.stdout

    @pytest.mark.parametrize("keep", ["0", "{proven: 3}", "{last: 0, daily: 0}", ""])
    def test_without_rules_it_refuses_and_says_how(self, site: Path, inv: Inv, keep: str) -> None:
        made = backups(site, 3)
        ruled(site, keep)
        done = inv("backup.prune", cwd=site)  # without rules there is nothing to confirm
        assert done.returncode == 2
        assert "environment 'dev' has no rules for its backups, nothing was dropped" in done.stderr
        assert "backup: {keep: {last: 7" in done.stderr
        assert ids(site) == set(made)

    def test_other_databases_and_environments_are_not_looked_at(self, site: Path, inv: Inv) -> None:
        made = backups(site, 3)
        others = [
            *(whole(site / "backups", **ago(each, "aaaa"), database="shop2") for each in (5, 6, 7)),
            *(
                whole(site / "backups", **ago(each, "bbbb"), environment="dev2")
                for each in (5, 6, 7)
            ),
            *(whole(site / "backups", **ago(each, "cccc"), database="Shop") for each in (5, 6, 7)),
        ]
        inv("backup.prune", "--yes", cwd=site)
        assert all(other.path.exists() for other in others)
        assert ids(site) == set(made[:2])

    def test_a_stranger_in_the_folder_is_named_and_left(self, site: Path, inv: Inv) -> None:
        made = backups(site, 3)
        other = whole(site / "backups", **ago(9, "dddd"), database="shop2")
        moved = site / HOME / other.id
        other.path.rename(moved)
        elsewhere = whole(site / "backups", **ago(9, "eeee"))
        away = site / "backups" / "dev" / "shop2" / elsewhere.id
        elsewhere.path.rename(away)
        broken = site / HOME / ago(10)["id"]
        broken.mkdir()
        renamed = whole(site / "backups", **ago(11, "ffff"))
        wrong = renamed.path.rename(site / HOME / ago(12)["id"])
        done = inv("backup.prune", "--yes", cwd=site)
        assert f"left {str(moved)!r} alone: its manifest is of dev/shop2" in done.stdout
        assert f"left {str(away)!r} alone: it is not in the folder of this database" in done.stdout
        assert f"left {str(broken)!r} alone, it cannot be read" in done.stdout
        assert f"left {str(wrong)!r} alone, it cannot be read" in done.stdout
        assert ids(site) == {*made[:2], other.id, broken.name, wrong.name}
        assert away.exists()

    def test_what_is_not_whole_stays_and_counts_as_none(self, site: Path, inv: Inv) -> None:
        made = backups(site, 4)
        schema = whole(site / "backups", **ago(0.1, "aaaa"), schema_only=True).id
        partial = whole(site / "backups", **ago(0.2, "bbbb"), excluded_data=("log",)).id
        Checks(damaged="2026-01-01T00:00:00Z", damage="x").write(site / HOME / made[0])
        Checks(failed="2026-01-01T00:00:00Z", failure="x").write(site / HOME / made[1])
        (site / HOME / made[2] / "retention.json").write_text("{")
        future = whole(site / "backups", **ago(-3, "cccc")).id
        more = [whole(site / "backups", **ago(each, "dddd")).id for each in (7, 8, 9)]
        done = inv("backup.prune", "--yes", cwd=site)
        assert ids(site) == {schema, partial, future, *made, more[0]}
        for words in ("schema only", "without rows of log", "damaged", "its drill failed"):
            assert f"stays  {words}" in done.stdout
        assert "stays  dated in the future" in done.stdout
        assert "stays  left alone: retention.json: " in done.stdout

    @pytest.mark.parametrize("how", ["missing", "cut", "link"])
    def test_one_that_lacks_a_file_takes_the_place_of_none(
        self, site: Path, inv: Inv, how: str
    ) -> None:
        made = backups(site, 6)
        file = site / HOME / made[1] / "dump" / "toc.dat"
        file.unlink()
        if how == "cut":
            file.write_text("x")
        elif how == "link":
            file.symlink_to("/etc/passwd")
        (site / HOME / made[3] / "dump" / "toc.dat").unlink()
        done = inv("backup.prune", "--yes", cwd=site)
        assert "stays  lacks a file: dump/toc.dat: " in done.stdout
        assert ids(site) == {*made[:4]}

    def test_a_link_is_no_backup_of_its_own(self, site: Path, inv: Inv, tmp_path: Path) -> None:
        made = backups(site, 3)
        linked = tmp_path / "disk" / made[0]
        (site / HOME / made[0]).rename(tmp_path / "x")
        linked.parent.mkdir()
        (tmp_path / "x").rename(linked)
        (site / HOME / made[0]).symlink_to(linked)
        done = inv("backup.prune", "--yes", cwd=site)
        assert "a symbolic link" in done.stdout
        assert ids(site) == set(made)
        assert linked.exists()

    def test_a_linked_folder_of_the_database_is_the_folder(
        self, site: Path, inv: Inv, tmp_path: Path
    ) -> None:
        made = backups(site, 3)
        (site / "backups" / "dev").rename(tmp_path / "disk")
        (site / "backups" / "dev").symlink_to(tmp_path / "disk")
        inv("backup.prune", "--yes", cwd=site)
        assert ids(site) == set(made[:2])
        assert trash(site) == {made[2]}

    def test_the_newest_proven_one_stays(self, site: Path, inv: Inv) -> None:
        made = backups(site, 5)
        Checks(proven="2026-01-01T00:00:00Z").write(site / HOME / made[3])
        Checks(proven="2026-01-01T00:00:00Z").write(site / HOME / made[4])
        done = inv("backup.prune", "--yes", cwd=site)
        assert ids(site) == {*made[:2], made[3]}
        assert "the newest proven one" in done.stdout


class TestNarrowTerminal:
    def test_the_reason_is_whole_and_what_matters_is_there(self, site: Path) -> None:
        made = backups(site, 3, revision="0001", note="the great release of May")
        Checks(intact=f"{NOW:%Y-%m-%dT%H:%M:%SZ}", proven=f"{NOW:%Y-%m-%dT%H:%M:%SZ}").write(
            site / HOME / made[1]
        )
        Retention(kept="2026-01-01T00:00:00Z", why="audit " * 20, kept_by="ann").write(
            site / HOME / made[2]
        )
        planned = answer([INV, "backup.prune", "--dry"], [], cwd=site, columns=80).screen
        assert " ".join(planned.split()).count("audit") == 20
        shown = answer([INV, "backup.list"], [], cwd=site, columns=80).screen
        assert max(map(len, shown.splitlines())) <= 80
        heading = next(line for line in shown.splitlines() if line.lstrip().startswith("backup "))
        assert {"rows", "intact", "proven", "note"} <= set(heading.split())
        assert f"{NOW:%Y-%m-%d}  {NOW:%Y-%m-%d}  the " in shown


class TestAsk:
    def test_shows_what_is_known_newest_content_first(self, site: Path) -> None:
        moved = whole(site / "backups", **{**ago(9), "id": ago(0.5, "ffff")["id"]}).id
        made = backups(site, 4)
        Checks(failed="2026-01-01T00:00:00Z", failure="x").write(site / HOME / made[1])
        Checks(damaged="2026-01-01T00:00:00Z", damage="x").write(site / HOME / made[2])
        Retention(kept="2026-01-01T00:00:00Z", why="audit", kept_by="ann").write(
            site / HOME / made[3]
        )
        asked = [(r"which one\?", "5\n")]
        done = answer([INV, "backup.show", "ask"], asked, cwd=site, columns=120)
        assert done.code == 0, done.screen
        rows = [line.split() for line in done.screen.splitlines() if re.match(r" *[1-5] +2", line)]
        assert [row[1] for row in rows] == [*made, moved]
        for row, word in zip(rows, ("latest;", "FAILED", "DAMAGED", "audit;"), strict=False):
            assert word in row
        assert done.screen.count("latest;") == 1
        assert re.search(rf"backup +{moved}", done.screen)


class TestQuestion:
    def test_without_a_terminal_it_wants_yes(self, site: Path, inv: Inv) -> None:
        made = backups(site, 3)
        done = inv("backup.prune", cwd=site)
        assert done.returncode == 2
        assert "this drops backups and there is no terminal to ask on" in done.stderr
        assert ids(site) == set(made)

    @pytest.mark.parametrize(("typed", "code"), [("n\n", 2), ("y\n", 0)])
    def test_the_plan_comes_before_the_question(self, site: Path, typed: str, code: int) -> None:
        made = backups(site, 3)
        words = r"this drops 1 backup \(3 B\), stays in the trash for 7d, go on\?"
        asked = [(rf"goes +no rule(.|\n)*{words}", typed)]
        done = answer([INV, "backup.prune"], asked, cwd=site, columns=120)
        assert done.code == code, done.screen
        assert ids(site) == set(made if code else made[:2])

    def test_what_changes_during_the_question_counts(self, site: Path, inv: Inv) -> None:
        made = backups(site, 4)

        class Asked(str):
            """An answer before which somebody finds the newest backup damaged."""

            def encode(self, *args: Any) -> bytes:
                Checks(damaged="2026-01-01T00:00:00Z", damage="x").write(site / HOME / made[0])
                return str.encode(self, *args)

        asked = [(r"go on\?", Asked("y\n"))]
        done = answer([INV, "backup.prune"], asked, cwd=site, columns=120)
        assert done.code == 0, done.screen
        assert ids(site) == set(made[:3])

    def test_a_protected_environment_wants_the_name(self, site: Path, inv: Inv) -> None:
        made = backups(site, 3)
        ruled(site, "2", "protected: true\n")
        for flags in (["--yes"], [], ["--confirm", "shop2"]):
            done = inv("backup.prune", *flags, cwd=site)
            assert done.returncode == 2, done.stdout
            assert ids(site) == set(made)
        assert inv("backup.prune", "--confirm", "shop", cwd=site).returncode == 0
        assert ids(site) == set(made[:2])


class TestTrash:
    def test_the_way_back(self, site: Path, inv: Inv) -> None:
        made = backups(site, 4)
        whole = (site / HOME / made[2] / "manifest.json").read_bytes()
        inv("backup.prune", "--yes", cwd=site)
        assert listed(inv, site) == set(made[:2])
        assert (
            "in the trash: 2 backups, see inv backup.list --trash"
            in inv("backup.list", cwd=site).stdout
        )
        for task in (["backup.show", made[2]], ["backup.verify", "--backup", made[2][:15]]):
            way = f"backup {made[2]} is in the trash: inv backup.untrash {made[2]} brings it back"
            shown = inv(*task, cwd=site)
            assert (shown.returncode, way in shown.stderr) == (2, True), shown.stderr
        done = inv("backup.untrash", made[2][:15], cwd=site)
        assert done.returncode == 0, done.stderr
        assert (site / HOME / made[2] / "manifest.json").read_bytes() == whole
        assert listed(inv, site) == set(made[:3])
        assert trash(site) == {made[3]}

    def test_is_listed(self, site: Path, inv: Inv) -> None:
        made = backups(site, 4)
        assert "the trash is empty" in inv("backup.list", "--trash", cwd=site).stdout
        inv("backup.prune", "--yes", cwd=site)
        shown = inv("backup.list", "--trash", cwd=site).stdout
        for id in made[2:]:
            line = rf"^{id} +dev/shop +here +\d+ m?s ago +in [67] d, with inv backup.prune$"
            assert re.search(line, shown, re.MULTILINE), shown
        document = json.loads(inv("backup.list", "--trash", "--json", cwd=site).stdout)
        assert [each["backup"] for each in document["trash"]] == made[2:]
        assert inv("backup.untrash", "latest", cwd=site).returncode == 0
        assert trash(site) == {made[3]}

    def test_one_backup_stays_in_it(self, site: Path, inv: Inv) -> None:
        made = backups(site, 3)
        done = inv("backup.prune", "--yes", cwd=site).stdout
        back = f"inv backup.untrash {made[2]} brings it back"
        assert f"it stays in the trash for 7d: {back}" in done

    def test_no_way_back_to_a_place_that_is_taken(self, site: Path, inv: Inv) -> None:
        made = backups(site, 3)
        inv("backup.prune", "--yes", cwd=site)
        whole(site / "backups", **ago(2, "0002"), note="another")
        done = inv("backup.untrash", made[2], cwd=site)
        assert done.returncode == 2
        assert f"there is a backup {made[2]} in " in done.stderr
        assert trash(site) == {made[2]}

    def test_what_is_not_in_it(self, site: Path, inv: Inv) -> None:
        backups(site, 4)
        assert (
            "in the trash of this database, it is empty"
            in inv("backup.untrash", "2", cwd=site).stderr
        )
        inv("backup.prune", "--yes", cwd=site)
        assert (
            "is the beginning of 2 IDs in the trash" in inv("backup.untrash", "2", cwd=site).stderr
        )
        assert "there is 2" in inv("backup.untrash", "x", cwd=site).stderr
        assert "ID is empty" in inv("backup.untrash", "", cwd=site).stderr

    def test_empties_itself_after_days(self, site: Path, inv: Inv) -> None:
        made = backups(site, 4)
        inv("backup.prune", "--yes", cwd=site)
        old = site / HOME / ".trash"
        for id, days in ((made[2], 8), (made[3], 6)):
            [path] = old.glob(f"{id}.*")
            path.rename(old / f"{id}.dropped-{NOW - timedelta(days=days):%Y%m%dT%H%M%SZ}")
        dry = inv("backup.prune", "--dry", cwd=site)
        assert "1 backup leaves the trash for good, after 7d" in dry.stdout
        assert trash(site) == set(made[2:])
        cut = old / f".{made[1]}.dropped-{NOW:%Y%m%dT%H%M%SZ}.removing"
        (cut / "dump").mkdir(parents=True)
        done = inv("backup.prune", "--yes", cwd=site)
        assert "removed 2 backups from the trash" in done.stdout
        assert trash(site) == {made[3]}
        assert not cut.exists()

    def test_what_is_strange_in_it_stays(self, site: Path, inv: Inv, tmp_path: Path) -> None:
        backups(site, 1)
        folder = site / HOME / ".trash"
        old = f"{NOW - timedelta(days=99):%Y%m%dT%H%M%SZ}"
        for name in ("mine", f"{ago(3)['id']}.dropped-99999999T999999Z", f"x.dropped-{old}"):
            (folder / name).mkdir(parents=True)
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "file").write_text("mine")
        (folder / f"{ago(4)['id']}.dropped-{old}").symlink_to(tmp_path / "precious")
        done = inv("backup.prune", "--yes", cwd=site)
        assert done.returncode == 0, done.stderr
        assert len([*folder.glob("[!.]*")]) == 3
        assert (tmp_path / "precious" / "file").read_text() == "mine"

    @pytest.mark.parametrize("kind", ["link", "file"])
    def test_a_trash_that_is_no_folder_is_refused(
        self, site: Path, inv: Inv, tmp_path: Path, kind: str
    ) -> None:
        made = backups(site, 3)
        folder = site / HOME / ".trash"
        if kind == "link":
            (tmp_path / "elsewhere").mkdir()
            folder.symlink_to(tmp_path / "elsewhere")
        else:
            folder.write_text("")
        for task in (["prune", "--yes"], ["keep", made[0], "--why", "x"], ["untrash", "2"]):
            done = inv(f"backup.{task[0]}", *task[1:], cwd=site)
            assert done.returncode == 2, done.stdout
            assert "which the trash must be: move it away" in done.stderr
        assert ids(site) == set(made)
        assert inv("backup.list", cwd=site).returncode == 0

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another account")
    def test_a_trash_of_another_account_is_refused(self, site: Path, inv: Inv) -> None:
        made = backups(site, 3)
        (site / HOME / ".trash").mkdir()
        os.chown(site / HOME / ".trash", 65534, 65534)
        done = inv("backup.prune", "--yes", cwd=site)
        assert done.returncode == 1
        assert "not to this account" in done.stderr
        assert ids(site) == set(made)


class TestByHand:
    def test_kept_until_it_is_released(self, site: Path, inv: Inv) -> None:
        made = backups(site, 4)
        done = inv("backup.keep", made[3], "--why", "audit of größe 🐘", cwd=site)
        assert done.returncode == 0, done.stderr
        Checks(intact="2026-01-01T00:00:00Z").write(site / HOME / made[3])  # as backup.verify does
        inv("backup.prune", "--yes", cwd=site)
        assert ids(site) == {*made[:2], made[3]}
        assert "kept: audit of größe 🐘" in inv("backup.list", cwd=site).stdout
        assert "audit of größe 🐘 (" in inv("backup.show", made[3], cwd=site).stdout
        assert inv("backup.release", made[3], cwd=site).returncode == 0
        assert inv("backup.release", made[3], cwd=site).returncode == 2
        inv("backup.prune", "--yes", cwd=site)
        assert ids(site) == set(made[:2])

    def test_another_reason_names_the_one_before(self, site: Path, inv: Inv) -> None:
        [made] = backups(site, 1)
        assert "before" not in inv("backup.keep", made, "--why", "audit", cwd=site).stdout
        assert "before" not in inv("backup.keep", made, "--why", "audit", cwd=site).stdout
        done = inv("backup.keep", made, "--why", "court", cwd=site)
        assert "the reason before was 'audit' (" in done.stdout

    @pytest.mark.parametrize("why", ["", "  ", "x" * 1001])
    def test_a_reason_is_required(self, site: Path, inv: Inv, why: str) -> None:
        made = backups(site, 1)
        done = inv("backup.keep", made[0], "--why", why, cwd=site)
        assert (done.returncode, "--why" in done.stderr) == (2, True)
        assert inv("backup.keep", made[0], cwd=site).returncode == 2

    def test_a_reason_cannot_paint_the_terminal(self, site: Path, inv: Inv) -> None:
        made = backups(site, 1)
        inv("backup.keep", made[0], "--why", "\x1b[2J\u202egood", cwd=site)
        for task in ("backup.list", "backup.show", "backup.prune --dry"):
            argv = [*task.split(), *(["latest"] if "show" in task else [])]
            assert not {"\x1b", "\u202e"} & set(inv(*argv, cwd=site).stdout)

    @pytest.mark.parametrize(
        "content", ["", "[]", '{"kept": 1}', '{"why": "' + "x" * 2000 + '"}', "x" * (65 << 10)]
    )
    def test_a_file_that_cannot_be_read_keeps_the_backup(
        self, site: Path, inv: Inv, content: str
    ) -> None:
        made = backups(site, 3)
        file = site / HOME / made[2] / "retention.json"
        file.write_text(content)
        inv("backup.prune", "--yes", cwd=site)
        assert ids(site) == set(made)
        inv("backup.keep", made[2], "--why", "x", cwd=site)
        assert Retention.read(file.parent).why == "x"

    def test_a_link_in_its_place_is_not_followed(
        self, site: Path, inv: Inv, tmp_path: Path
    ) -> None:
        made = backups(site, 3)
        (tmp_path / "mine").write_text("{}")
        (site / HOME / made[2] / "retention.json").symlink_to(tmp_path / "mine")
        inv("backup.prune", "--yes", cwd=site)
        assert ids(site) == set(made)
        inv("backup.keep", made[2], "--why", "x", cwd=site)
        assert (tmp_path / "mine").read_text() == "{}"

    def test_it_travels_with_a_copy(self, tmp_path: Path) -> None:
        kept = whole(tmp_path / "a", files={}, **ago(1))
        Retention(kept="2026-01-01T00:00:00Z", why="x", kept_by="ann").write(kept.path)
        copied = transfer.copy(kept, LocalStore(tmp_path / "b")).backup
        assert copied.retention.why == "x"


class TestLoss:
    def test_stops_pruning_until_it_is_acknowledged(self, site: Path, inv: Inv) -> None:
        made = backups(site, 4)
        Retention(loss="70 % of its rows (10 to 3) since x").write(site / HOME / made[0])
        done = inv("backup.prune", "--yes", cwd=site)
        assert done.returncode == 2
        assert f"backup {made[0]} has lost 70 % of its rows (10 to 3) since x" in done.stderr
        assert f"until inv backup.acknowledge {made[0]}" in done.stderr
        assert ids(site) == set(made)
        assert "stopped: " in inv("backup.prune", "--dry", cwd=site).stdout
        assert inv("backup.acknowledge", made[1], cwd=site).returncode == 2
        assert inv("backup.acknowledge", made[0], cwd=site).returncode == 0
        again = inv("backup.acknowledge", made[0], cwd=site)
        assert "was acknowledged already" in again.stderr
        assert inv("backup.prune", "--yes", cwd=site).returncode == 0
        assert ids(site) == set(made[:2])

    def test_of_a_real_database(
        self, cluster: Cluster, database: str, project: Path, inv: Inv
    ) -> None:
        cluster.psql(database, SHOP)
        inv("db.backup")
        cluster.psql(database, "DELETE FROM orders WHERE id > 100")
        inv("db.backup", "--exclude-table-data", "orders")  # is not compared, nor compared with
        done = inv("db.backup")
        assert "warning: backup " in done.stderr
        assert "has lost 81 % of its rows (1,100 to 200)" in done.stderr
        assert inv("backup.verify").returncode == 0
        assert "lost 81 %" in inv("backup.list").stdout
        said = json.loads(inv("backup.show", "latest", "--json").stdout)
        assert said["loss"].startswith("81 % of its rows")
        lossy = said["id"]
        again = inv("db.backup").stderr
        assert f"warning: backup {lossy} has lost 81 % of its rows" in again
        assert f"{lossy} has a loss that nobody has acknowledged" in inv("backup.list").stdout
        assert f"until inv backup.acknowledge {lossy}" in inv("backup.report").stdout
        assert f"backup {lossy} has lost 81 %" in inv("db.check").stdout
        refused = inv("backup.acknowledge", "latest")
        assert f"{lossy} has: inv backup.acknowledge {lossy}" in refused.stderr
        assert inv("backup.acknowledge", lossy).returncode == 0
        assert "warning" not in inv("db.backup").stderr
        assert "acknowledge" not in inv("backup.list").stdout + inv("db.check").stdout

    def test_acknowledged_it_names_what_goes_next(self, site: Path, inv: Inv) -> None:
        made = backups(site, 5)
        Retention(loss="70 % of its rows (10 to 3) since x").write(site / HOME / made[1])
        done = inv("backup.acknowledge", made[1], cwd=site)
        assert done.returncode == 0, done.stderr
        assert f"the next backup.prune drops 3 backups: {', '.join(made[2:])}" in done.stdout
        keeps = f"inv backup.keep {made[2]} --why '...'"
        goes = f"{made[2]} is the last whole one before the loss, and goes then: {keeps} keeps it"
        assert goes in done.stdout
        dry = inv("backup.prune", "--dry", cwd=site).stdout
        assert f"{made[2]} goes, the last whole one before the loss of {made[1]}: {keeps}" in dry
        assert inv("backup.keep", made[2], "--why", "before the loss", cwd=site).returncode == 0
        dry = inv("backup.prune", "--dry", cwd=site).stdout
        assert "before the loss of" not in dry


class TestKilled:
    """At each step each backup is in one of the two places, whole, and the next run goes on."""

    @pytest.mark.parametrize("step", boundaries.PRUNE)
    def test_a_prune(self, site: Path, start_inv: Inv, inv: Inv, step: str) -> None:
        made = backups(site, 5)
        gone = whole(site / "backups", **ago(30, "aaaa"))
        dropped = f"{gone.id}.dropped-{NOW - timedelta(days=9):%Y%m%dT%H%M%SZ}"
        (site / HOME / ".trash").mkdir()
        gone.path.rename(site / HOME / ".trash" / dropped)
        process = halted(start_inv, step, "backup.prune", "--yes", cwd=site)
        assert inv("backup.prune", "--yes", cwd=site).returncode == 6
        assert inv("backup.keep", made[0], "--why", "x", cwd=site).returncode == 6
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert ids(site) | trash(site) >= set(made)
        assert not ids(site) & trash(site)
        assert listed(inv, site) == ids(site)
        for id in ids(site):
            assert json.loads((site / HOME / id / "manifest.json").read_text())["id"] == id
        assert inv("backup.prune", "--yes", cwd=site).returncode == 0
        assert ids(site) == set(made[:2])
        assert trash(site) == set(made[2:])
        assert [path.name for path in (site / HOME / ".trash").glob(".*")] == [".lock"]

    @pytest.mark.parametrize("step", boundaries.KEEP)
    def test_a_keep(self, site: Path, start_inv: Inv, inv: Inv, step: str) -> None:
        made = backups(site, 3)
        argv = ("backup.keep", made[2], "--why", "x")
        process = halted(start_inv, step, *argv, cwd=site)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert bool(Retention.read(site / HOME / made[2]).kept) == (step == "keep.written")
        assert inv(*argv, cwd=site).returncode == 0

    @pytest.mark.parametrize("step", boundaries.UNTRASH)
    def test_a_way_back(self, site: Path, start_inv: Inv, inv: Inv, step: str) -> None:
        made = backups(site, 3)
        inv("backup.prune", "--yes", cwd=site)
        process = halted(start_inv, step, "backup.untrash", made[2], cwd=site)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        back = step == "untrash.moved"
        assert (made[2] in ids(site), made[2] in trash(site)) == (back, not back)
        assert listed(inv, site) == ids(site)
        assert inv("backup.untrash", made[2], cwd=site).returncode == (2 if back else 0)


class TestBeside:
    """A backup that goes while another run reads it is named, and not called damaged."""

    @pytest.fixture
    def real(self, cluster: Cluster, database: str, tmp_path: Path) -> Backup:
        cluster.psql(database, SHOP)
        return make(replace(cluster.target(database), environment="dev"), tmp_path / "backups")

    def drop(self, backup: Backup) -> None:
        made = backup.manifest
        backup.store.drop(made.environment, made.database, [made.id], NOW)

    def test_a_verify(self, real: Backup) -> None:
        self.drop(real)
        with pytest.raises(Dropped, match=rf"backup {real.id} is not there any more.*untrash"):
            verify(real, HERE)
        [dropped] = real.store.list().trash
        assert not (Path(dropped.place) / "checks.json").exists()
        real.store.bring_back(dropped)
        assert verify(real, HERE).structure == "read"

    def test_damage_is_still_damage(self, real: Backup) -> None:
        (real.path / "README.txt").unlink()
        with pytest.raises(NotProven, match=r"README\.txt"):
            verify(real, HERE)

    def test_a_copy(self, real: Backup, tmp_path: Path) -> None:
        class Going(LocalStore):
            """A store whose backup goes when its files are opened."""

            def read(self, backup: Backup, names: Any = ()) -> Any:
                opened = super().read(backup, names)
                yield next(opened)
                made = backup.manifest
                LocalStore(self.base).drop(made.environment, made.database, [made.id], NOW)
                yield from opened

        going = replace(real, store=Going(tmp_path / "backups"))
        with pytest.raises(Dropped, match="is not there any more"):
            transfer.copy(going, LocalStore(tmp_path / "copy"))
        assert not [*(tmp_path / "copy").rglob("manifest.json")]

    def test_a_restore(
        self, cluster: Cluster, database: str, project: Path, start_inv: Inv, inv: Inv
    ) -> None:
        cluster.psql(database, SHOP)
        inv("db.backup")
        process = halted(start_inv, "restore.checked", "db.restore")
        store = LocalStore(project / "backups")
        [backup] = store.list().backups
        self.drop(backup)
        os.kill(process.pid, signal.SIGUSR1)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1, said
        assert f"backup {backup.id} is not there any more" in said
        assert cluster.value("SELECT count(*) FROM orders", database=database) == 1000
        assert not any(name.startswith(f"{database}__") for name in cluster.databases())


def test_what_cannot_be_moved_is_named_and_the_others_go(site: Path) -> None:
    made = backups(site, 4)
    store = LocalStore(site / "backups")
    taken = site / HOME / ".trash" / f"{made[2]}.dropped-{NOW:%Y%m%dT%H%M%SZ}"
    taken.mkdir(parents=True)
    assert store.drop("dev", "shop", made[2:], NOW) == {made[2]: "exists already"}
    assert ids(site) == set(made[:3])
    assert store.empty(store.list().trash) == {}
    assert trash(site) == set()


def test_every_changed_byte_of_a_manifest_is_found_in_a_list(tmp_path: Path) -> None:
    content = manifest.text(PLAIN).encode()
    assert manifest.parse(content, "x", quick=True) == PLAIN
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x01
        with pytest.raises((NotProven, VersionMismatch), match=r"^x: "):
            manifest.parse(bytes(changed), "x", quick=True)


def test_two_prunes_with_other_rules_leave_what_each_must_keep(
    site: Path, start_inv: Inv, inv: Inv
) -> None:
    made = backups(site, 4)
    process = halted(start_inv, "prune.agreed", "backup.prune", "--yes", cwd=site)
    done = inv("backup.prune", "--yes", cwd=site)
    assert done.returncode == 6
    assert "another run keeps or drops backups in" in done.stderr
    os.kill(process.pid, signal.SIGUSR1)
    process.communicate(timeout=PATIENCE)
    assert ids(site) == set(made[:2])
    shutil.rmtree(site / HOME / ".trash")
    assert inv("backup.prune", "--yes", cwd=site).returncode == 0
