"""A backups folder on a host that somebody filled: nothing in it is followed or hides another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from depots import dat, everything
from hosts import DatabaseHost

from backups import below
from pgtasks.backup.format import manifest
from pgtasks.backup.format.checks import Checks
from pgtasks.backup.format.manifest import LIMIT
from pgtasks.backup.store import transfer
from pgtasks.backup.store.backup import Backup
from pgtasks.backup.store.local import LocalStore
from pgtasks.backup.store.remote import RemoteStore
from pgtasks.backup.verify import verify
from pgtasks.errors import Failed, NotProven
from pgtasks.host import journal

IDS = [f"20200101T00000{number}Z-aaaa" for number in range(7)]


def _planted(db1: DatabaseHost, folder: str, id: str, script: str) -> str:
    """Copy a backup's manifest into a folder of that name, and run a script there."""
    path = f"{folder.rpartition('/')[0]}/{id}"
    db1.do("mkdir", path)
    db1.do("cp", f"{folder}/manifest.json", path)
    db1.do("sh", "-c", f'cd "$0" && {script}', path)
    db1.do("chown", "-Rh", db1.user, path)
    return path


def test_one_that_is_odd_ends_no_list(
    db1: DatabaseHost, made: Backup, far: RemoteStore, tmp_path: Path
) -> None:
    evil = replace(made.manifest, id="/../../../../srv/shop/tasks")
    (db1.path(made.folder) / "evil.json").write_text(manifest.text(evil))
    scripts = {
        "not a regular file": "ln -sf ../../../../../etc/passwd manifest.json",
        "not a regular file ": "rm manifest.json && mkfifo manifest.json",
        "larger than any manifest": f"truncate -s {LIMIT + 1} manifest.json",
        "not a manifest: id: expected str": f"cp '{made.folder}/evil.json' manifest.json",
        f"the manifest is of backup {made.id}": "true",
        "No such file": "rm manifest.json",
        "Permission denied": "chmod 0 manifest.json",
    }
    paths = [
        _planted(db1, made.folder, id, script)
        for id, script in zip(IDS, scripts.values(), strict=True)
    ]
    db1.do("ln", "-s", "/etc/passwd", f"{made.folder}/checks.json")
    found = far.list()
    [listed] = found.backups
    assert (listed.folder, listed.checks) == (made.folder, Checks())
    said = {each.place: each.error.message for each in found.broken}
    for path, words in zip(paths, scripts, strict=True):
        why = said[f"{made.host.name}:{path}"]
        assert why.startswith(f"{made.host.name}:{path}/manifest.json: ")
        assert words.strip() in why
    assert far.find("prod", made.manifest.database).id == made.id
    with pytest.raises(NotProven, match=f"backup {IDS[0]} is damaged: .*not a regular file"):
        far.find("prod", made.manifest.database, IDS[0])
    newest = "20990101T000000Z-aaaa"
    _planted(db1, made.folder, newest, "rm manifest.json")
    with pytest.raises(NotProven, match=f"the newest backup {newest} cannot be read, --backup"):
        far.find("prod", made.manifest.database)
    assert below(tmp_path) == []


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        ("rm {0} && mkfifo {0}", "a named pipe"),
        ("rm {0} && ln -s /dev/zero {0}", "a symbolic link"),
        ("mv dump ../moved && ln -s ../moved dump", "a symbolic link"),
        ("mkfifo .hidden", "a named pipe"),
    ],
)
def test_what_is_no_plain_file_is_not_read(
    db1: DatabaseHost, made: Backup, plant: str, kind: str, tmp_path: Path
) -> None:
    db1.do("sh", "-c", f'cd "$0" && {plant.format(dat(made))}', made.folder)
    with pytest.raises(NotProven, match=kind):
        verify(made, made.host)
    if ".hidden" not in plant:
        with pytest.raises(NotProven, match=r"not a regular file|not part of|missing"):
            transfer.copy(made, LocalStore(tmp_path))
        assert LocalStore(tmp_path).list().backups == []


def test_what_is_written_beside_follows_no_link(
    db1: DatabaseHost, made: Backup, far: RemoteStore
) -> None:
    precious = f"{db1.backups}/precious"
    db1.do("sh", "-c", 'printf mine > "$0" && mkdir "$0.d"', precious)
    checks = Checks(intact=journal.now())
    for target in (precious, f"{precious}.d"):
        db1.do("ln", "-sfn", target, f"{made.folder}/checks.json")
        db1.do("ln", "-sf", target, f"{made.folder}/.checks.json.new")
        if target == precious:
            far.note(made, checks)
            assert json.loads(db1.do("cat", f"{made.folder}/checks.json")) == vars(checks)
        else:
            with pytest.raises(Failed, match=r"exit code 1"):
                far.note(made, checks)
    assert db1.do("cat", precious) == "mine"
    assert db1.do("ls", "-A", f"{precious}.d") == ""


def test_nothing_leaves_where_a_name_or_a_kind_is_odd(
    db1: DatabaseHost, far: RemoteStore, local: Backup, tmp_path: Path
) -> None:
    secret = tmp_path / "id_prod"
    secret.write_bytes((local.path / dat(local)).read_bytes())
    (local.path / dat(local)).unlink()
    (local.path / dat(local)).symlink_to(secret)
    with pytest.raises(NotProven, match=f"on this machine: {dat(local)}: a symbolic link"):
        transfer.copy(local, far)
    lending = transfer.lent(local, far)
    with pytest.raises(NotProven, match="a symbolic link"):
        lending.__enter__()
    assert everything(db1) == []
