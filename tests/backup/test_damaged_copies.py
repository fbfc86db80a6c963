"""A copy that is at the destination already and damaged: found, named, replaced by a whole one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import damages
import pytest
from damages import Damage
from depots import dat, path_of, spoil
from halting import halted
from hosts import DatabaseHost

from backups import below
from pgtasks.backup.format import manifest
from pgtasks.backup.format.manifest import NewerFormat
from pgtasks.backup.prune import hands
from pgtasks.backup.store import intact, transfer
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.base import Store
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.store.remote import RemoteStore
from pgtasks.errors import Locked, NotProven, Refused

Inv = Callable[..., Any]


class Trial:
    """A backup, a store with a copy of it, and the folder of that copy on this machine."""

    def __init__(
        self, backup: Backup, store: Store, folder: Path, give: Callable[[], None]
    ) -> None:
        self.backup, self.store, self.folder, self.give = backup, store, folder, give
        self.whole = folder.with_name(".whole")
        (folder / "checks.json").unlink()  # which is no part of a backup
        shutil.copytree(folder, self.whole)

    def reset(self) -> None:
        """Let the copy be whole again, the trash empty."""
        for path in self.folder.parent.iterdir():
            if path != self.whole:
                shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.whole, self.folder)
        self.give()

    def names(self) -> list[str]:
        return [*self.backup.manifest.files, manifest.NAME]

    @property
    def trash(self) -> list[Path]:
        return list((self.folder.parent / ".trash").glob("[!.]*"))

    def copied(self) -> transfer.Transferred:
        done = transfer.copy(self.backup, self.store)
        assert not [name for name in below(self.folder.parent) if ".partial" in name]
        intact.check(done.backup, 2)
        return done

    def healed(self) -> str:
        """Copy over a damaged copy, which must be in the trash then; return its fault."""
        before = sorted((name, _bytes(self.folder / name)) for name in below(self.folder))
        done = self.copied()
        assert not done.already
        assert done.replaced
        (gone,) = self.trash
        after = sorted((name, _bytes(gone / name)) for name in below(gone))
        assert [each for each in before if each[0] != "checks.json"] == [
            each for each in after if each[0] != "checks.json"
        ]
        return done.replaced


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


@pytest.fixture
def fetched(made: Backup, tmp_path: Path) -> Trial:
    """Return a backup on the host that was fetched."""
    got = transfer.copy(made, LocalStore(tmp_path / "here")).backup
    return Trial(made, LocalStore(tmp_path / "here"), got.path, lambda: None)


@pytest.fixture
def sent(db1: DatabaseHost, far: RemoteStore, local: Backup) -> Trial:
    """Return a backup of this machine that was sent."""
    folder = db1.path(transfer.copy(local, far).backup.folder)

    def give() -> None:
        db1.do("chown", "-hR", f"{db1.user}:", db1.backups)

    return Trial(local, far, folder, give)


@pytest.fixture(params=["fetched", "sent"])
def trial(request: pytest.FixtureRequest) -> Trial:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def test_a_whole_one_is_read_and_says_so(trial: Trial) -> None:
    checks = trial.folder / "checks.json"
    checks.write_text(json.dumps({"damaged": "2026-01-01T00:00:00Z", "damage": "once"}))
    trial.give()
    done = trial.copied()
    assert done.already
    assert done.summary() == f"backup {trial.backup.id} is there already, every byte as written"
    assert trial.trash == []
    found = json.loads(checks.read_text())
    assert found["intact"]
    assert not found["damaged"]


def test_one_byte_in_each_file_and_each_file_away(trial: Trial) -> None:
    for name in trial.names():
        path = trial.folder / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        fault = trial.healed()
        assert name in fault, (name, fault)
        trial.reset()
        path.unlink()
        assert name in trial.healed()
        trial.reset()
    (trial.folder / "more").write_text("x")
    trial.give()
    assert trial.healed() == "more: not part of the backup"


def test_one_of_a_newer_pgtasks_is_left(trial: Trial) -> None:
    newer = manifest.text(replace(trial.backup.manifest, format=manifest.FORMAT + 1))
    (trial.folder / manifest.NAME).write_text(newer)
    with pytest.raises(NewerFormat, match="upgrade it"):
        trial.copied()
    assert trial.trash == []


@pytest.mark.parametrize("seed", [1, 2])
def test_random_damages(trial: Trial, stock: Any, tmp_path: Path, seed: int) -> None:
    chance, other = random.Random(seed), trial.whole
    for _ in range(6):
        damage = damages.put(trial.folder, other, chance)
        trial.give()
        if damage.what == "of a newer format":
            with pytest.raises(NewerFormat):
                trial.copied()
        else:
            fault = _found(trial, damage)
            assert damage.name.partition("/")[0] in fault, (damage, fault)
        trial.reset()


def _found(trial: Trial, damage: Damage) -> str:
    """Return how a damage was named: the copy was replaced, or refused as another backup."""
    try:
        return trial.copied().replaced
    except Refused:
        # an edited manifest is that of another backup, a link leads anywhere
        return manifest.NAME if damage.name == manifest.NAME else ""


def test_what_is_said_about_keeping_it_stays(trial: Trial) -> None:
    kept = hands.keep(_copy(trial), "the audit")
    assert kept.backup.retention.why == "the audit"
    (trial.folder / dat(trial.backup)).unlink()
    trial.healed()
    assert _copy(trial).retention.why == "the audit"
    assert "kept" in (trial.folder / "retention.json").read_text()


def _copy(trial: Trial) -> Backup:
    made = trial.backup.manifest
    return trial.store.find(made.environment, made.database, made.id)


def test_a_damaged_source_replaces_nothing(trial: Trial, db1: DatabaseHost) -> None:
    (trial.folder / "proof.json").write_text("{}")
    if trial.store.name == "here":
        spoil(db1, f"{trial.backup.folder}/{dat(trial.backup)}")
    else:
        path = trial.backup.path / dat(trial.backup)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    trial.give()
    both = f"{dat(trial.backup)}: its content was changed; the copy of it .* is damaged too.*proof"
    with pytest.raises(NotProven, match=both):
        trial.copied()
    assert (trial.folder / "proof.json").read_text() == "{}"
    assert trial.trash == []


def test_a_whole_copy_that_was_fetched_needs_no_source(fetched: Trial, db1: DatabaseHost) -> None:
    db1.do("rm", f"{fetched.backup.folder}/{dat(fetched.backup)}")
    assert fetched.copied().already


def test_not_while_somebody_drops_backups(trial: Trial) -> None:
    (trial.folder / "proof.json").write_text("{}")
    trial.give()
    made = trial.backup.manifest
    with trial.store.retaining(made.environment, made.database), pytest.raises(Locked):
        trial.copied()
    assert (trial.folder / "proof.json").read_text() == "{}"


@pytest.mark.parametrize("step", ["transfer.begun", "transfer.written", "transfer.moved"])
@pytest.mark.parametrize("verb", ["fetch", "send"])
def test_killed_on_the_way(
    shop_project: Path, db1: DatabaseHost, start_inv: Inv, inv: Inv, verb: str, step: str
) -> None:
    """One copy is whole at any moment, the damaged one is somewhere, the next run heals."""
    on_host = ["--on-host"] if verb == "fetch" else []
    done = inv("db.backup", *on_host, "--json", cwd=shop_project)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert inv(f"backup.{verb}", "latest", cwd=shop_project).returncode == 0
    here = path_of(shop_project, made)
    there = next(db1.path(db1.backups).glob(f"*/*/{made['id']}"))
    folder, source = (here, there) if verb == "fetch" else (there, here)
    (folder / "proof.json").write_text("damaged")
    process = halted(start_inv, step, f"backup.{verb}", "latest", cwd=shop_project)
    process.kill()
    process.wait()
    db1.quiet()
    assert "damaged" not in (source / "proof.json").read_text()
    places = [folder, *(folder.parent / ".trash").glob(f"{made['id']}*")]
    found = [path / "proof.json" for path in places if path.exists()]
    assert [path for path in found if path.read_text() == "damaged"]
    again = inv(f"backup.{verb}", "latest", cwd=shop_project)
    assert again.returncode == 0, again.stderr
    assert "every byte as written" in again.stdout
    [listed] = json.loads(inv("backup.list", "--json", cwd=shop_project).stdout)["backups"]
    assert listed["where"] == "both"
    assert (folder / "proof.json").read_bytes() == (source / "proof.json").read_bytes()
    assert not [path for path in folder.parent.iterdir() if ".partial" in path.name]
