"""backup.drop: one backup goes into the trash by hand, also a damaged one; some must stay."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from depots import dat
from halting import halted
from hosts import DatabaseHost
from manifests import whole
from projects import make_project
from terminal import answer

from pgtasks.backup.prune import hands, single
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.remote import RemoteStore
from pgtasks.errors import Refused
from pgtasks.report import boundaries
from pgtasks.server.reach import Reached

Inv = Callable[..., Any]
HOME = Path("backups") / "dev" / "shop"
URL = "postgresql://nobody@127.0.0.1:1/shop"
INV = Path(sys.executable).parent / "inv"
NOW = datetime.now(timezone.utc)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a project with three backups of a database that nobody can reach."""
    made = make_project(tmp_path / "p", URL)
    (made / "env" / "dev.yaml").write_text(f"url: {URL}\n")
    for each in range(3):
        put(made, each)
    return made


def put(site: Path, days: int, **more: object) -> Backup:
    taken = NOW - timedelta(days=days)
    known = {
        "id": f"{taken:%Y%m%dT%H%M%SZ}-{days:04x}",
        "snapshot_time": f"{taken:%Y-%m-%dT%H:%M:%S.000000Z}",
    }
    return whole(site / "backups", **{**known, **more})


def ids(site: Path) -> list[str]:
    return sorted((path.name for path in (site / HOME).glob("[!.]*")), reverse=True)


def trash(site: Path) -> list[str]:
    return [path.name.partition(".")[0] for path in (site / HOME / ".trash").glob("[!.]*")]


def checks(site: Path, id: str, **said: str) -> None:
    (site / HOME / id / "checks.json").write_text(json.dumps(said))


def dropped(inv: Inv, site: Path, id: str, *flags: str, code: int = 0) -> str:
    done = inv("backup.drop", id, *flags, cwd=site)
    assert done.returncode == code, (done.stdout, done.stderr)
    return str(done.stderr if code else done.stdout)


def test_a_damaged_one_goes_and_comes_back(site: Path, inv: Inv) -> None:
    made = ids(site)
    checks(site, made[1], damaged="2026-01-01T00:00:00Z", damage="dump/toc.dat: 3 bytes")
    said = dropped(inv, site, made[1], "--yes")
    assert f"dropped backup {made[1]}: damaged: dump/toc.dat: 3 bytes" in said
    assert f"inv backup.untrash {made[1]} brings it back" in said
    assert (ids(site), trash(site)) == ([made[0], made[2]], [made[1]])
    assert inv("backup.untrash", "latest", cwd=site).returncode == 0
    assert ids(site) == made
    entry = json.loads((site / "backups" / "journal.jsonl").read_text().splitlines()[0])
    assert (entry["task"], entry["details"]["backup"]) == ("backup.drop", made[1])


@pytest.mark.parametrize("what", ["no manifest", "not JSON", "a file is missing", "cut"])
def test_what_is_left_of_one_goes_too(site: Path, inv: Inv, what: str) -> None:
    made = ids(site)
    folder = site / HOME / made[0]
    if what == "no manifest":
        (folder / "manifest.json").unlink()
    elif what == "not JSON":
        (folder / "manifest.json").write_text("{")
    elif what == "cut":
        (folder / "dump" / "toc.dat").write_bytes(b"x")
    else:
        (folder / "dump" / "toc.dat").unlink()
    said = dropped(inv, site, made[0], "--yes")
    named = "unreadable: " if "manifest" in what or "JSON" in what else "damaged: dump/toc.dat"
    assert named in said
    assert (ids(site), trash(site)) == (made[1:], [made[0]])
    assert inv("backup.list", "--json", cwd=site).returncode == 0
    assert not json.loads(inv("backup.list", "--json", cwd=site).stdout)["unreadable"]


def test_the_plan_writes_nothing_and_is_a_document(site: Path, inv: Inv) -> None:
    made = ids(site)
    put(site, 4, schema_only=True)
    assert "would drop backup" in dropped(inv, site, made[2], "--dry")
    known = json.loads(dropped(inv, site, ids(site)[3], "--dry", "--json"))
    assert (known["state"], known["dry"]) == ("schema only", True)
    assert not (site / HOME / ".trash").exists()


def test_it_asks(site: Path, inv: Inv) -> None:
    made = ids(site)
    said = dropped(inv, site, made[1], code=2)
    assert "there is no terminal to ask on" in said
    command = [INV, "backup.drop", made[1]]
    assert ids(site) == made
    no = answer(command, [("go on", "n\n")], cwd=site, columns=200)
    assert no.code == 2
    assert ids(site) == made
    yes = answer(command, [("stays in the trash for 7d, go on", "y\n")], cwd=site, columns=200)
    assert yes.code == 0
    assert ids(site) == [made[0], made[2]]


def test_a_protected_one_needs_the_database_s_name(site: Path, inv: Inv) -> None:
    made = ids(site)
    (site / "env" / "dev.yaml").write_text(f"url: {URL}\nprotected: true\n")
    dropped(inv, site, made[1], "--yes", code=2)
    dropped(inv, site, made[1], "--confirm", "shop2", code=2)
    assert ids(site) == made
    dropped(inv, site, made[1], "--confirm", "shop")
    assert ids(site) == [made[0], made[2]]


def test_what_must_stay(site: Path, inv: Inv) -> None:
    made = ids(site)
    assert inv("backup.keep", made[1], "--why", "audit", cwd=site).returncode == 0
    said = dropped(inv, site, made[1], "--yes", code=2)
    assert re.search(rf"is kept \(audit, .*\): inv backup.release {made[1]} first", said)
    checks(site, made[2], proven="2026-01-01T00:00:00Z")
    said = dropped(inv, site, made[2], "--yes", code=2)
    assert "is the only proven one, of which 1 stay (backup: keep: proven)" in said
    checks(site, made[0], proven="2026-01-01T00:00:00Z")
    dropped(inv, site, made[2], "--yes")
    assert inv("backup.release", made[1], cwd=site).returncode == 0
    dropped(inv, site, made[1], "--yes")
    said = dropped(inv, site, made[0], "--yes", code=2)
    assert f"backup {made[0]} is the only whole one: make another with inv db.backup first" in said
    (site / HOME / made[0] / "dump" / "toc.dat").unlink()
    dropped(inv, site, made[0], "--yes")  # what is damaged is no backup to lose
    assert ids(site) == []


def test_the_rest_must_be_whole(site: Path, inv: Inv) -> None:
    """Two that lack a file are no reason to let the third go."""
    made = ids(site)
    for id in made[1:]:
        (site / HOME / id / "dump" / "toc.dat").unlink()
    assert "the only whole one" in dropped(inv, site, made[0], "--yes", code=2)
    assert ids(site) == made


def test_a_loss_that_nobody_has_seen(site: Path, inv: Inv) -> None:
    made = ids(site)
    lossy = {"loss": f"70 % of its rows since {made[1]}"}
    (site / HOME / made[0] / "retention.json").write_text(json.dumps(lossy))
    assert "nothing was dropped: backup" in dropped(inv, site, made[1], "--yes", code=2)
    dropped(inv, site, made[0], "--yes")  # the lossy one itself
    dropped(inv, site, made[1], "--yes")
    assert ids(site) == made[2:]


def test_names_that_mean_no_single_backup_here(site: Path, inv: Inv, tmp_path: Path) -> None:
    made = ids(site)
    other = put(site, 1, database="shop2")
    for name in ("latest", "x", "../shop2/" + other.id, " ", "."):
        assert "unknown backup" in dropped(inv, site, name, "--yes", code=2)
    assert "is the beginning of 3 IDs" in dropped(inv, site, "20", "--yes", code=2)
    link = site / HOME / "20250101T000000Z-0000"
    link.symlink_to(tmp_path)
    assert "is a symbolic link" in dropped(inv, site, link.name, "--yes", code=2)
    assert ids(site) == [*made, link.name]
    assert other.path.exists()


@pytest.mark.parametrize("step", boundaries.DROP)
def test_killed(site: Path, inv: Inv, start_inv: Inv, step: str) -> None:
    made = ids(site)
    process = halted(start_inv, step, "backup.drop", made[1], "--yes", cwd=site)
    locked = dropped(inv, site, made[2], "--yes", code=6)
    assert "another run keeps or drops backups" in locked
    process.kill()
    process.wait()
    gone = step == "drop.dropped"
    assert (made[1] in ids(site), made[1] in trash(site)) == (not gone, gone)
    dropped(inv, site, made[1], "--yes", code=2 if gone else 0)


class TestOnTheHost:
    def test_whole_and_damaged_ones(
        self, db1: DatabaseHost, made: Backup, far: RemoteStore, there: Reached
    ) -> None:
        target = there.target
        with pytest.raises(Refused, match="is the only whole one"):
            single.drop(far, target, made.id, lambda plan: False)
        db1.do("rm", f"{made.folder}/{dat(made)}")
        done = single.drop(far, target, made.id, lambda plan: True)
        assert f"damaged: {dat(made)}: missing" in done.lines()[0]
        assert f"backup.untrash {made.id} --on-host" in done.lines()[1]
        assert not far.list().backups
        hands.untrash(far, target.environment, target.database, made.id)
        db1.do("rm", f"{made.folder}/manifest.json")
        [broken] = far.list().broken
        assert "unreadable: " in single.drop(far, target, made.id, lambda plan: False).lines()[0]
        assert not far.list().broken
        [trashed] = far.list().trash
        assert trashed.id == made.id == broken.name

    def test_kept_and_proven_ones(
        self, db1: DatabaseHost, made: Backup, far: RemoteStore, there: Reached
    ) -> None:
        hands.keep(made, "audit")
        with pytest.raises(Refused, match="--on-host first"):
            single.drop(far, there.target, made.id, lambda plan: False)
        with pytest.raises(Refused, match=r"unknown backup .* there is"):
            single.drop(far, there.target, "1", lambda plan: False)
        with pytest.raises(Refused, match="this database has none"):
            single.drop(far, replace(there.target, database="x"), "1", lambda plan: False)
