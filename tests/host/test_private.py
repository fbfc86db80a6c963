"""What we make here is ours alone, whatever the umask is and whoever else is on the machine."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from paths import TEMPORARY
from projects import make_project, put_stamp
from servers import Cluster, identity

from pgtasks.backup.store import staging
from pgtasks.errors import Failed
from pgtasks.host import journal, plainfile, private
from pgtasks.server import embedded


@pytest.fixture(params=[0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def entry() -> journal.Entry:
    return journal.Entry(journal.now(), "me", "db.backup", "dev", "shop", "done", 1.0, {})


def open_things(root: Path) -> list[str]:
    """Return what of ours others may write to, or look into where that is nobody's business."""
    found = []
    for path in (root / "backups", *(root / "backups").rglob("*")):
        if mode(path) & 0o077:
            found.append(f"{path.relative_to(root)} {mode(path):o}")
    for path in (root / ".pgtasks", *(root / ".pgtasks").rglob("*")):
        if not path.is_symlink() and mode(path) & 0o022:
            found.append(f"{path.relative_to(root)} {mode(path):o}")
    return found


@pytest.mark.usefixtures("umask")
def test_all_that_a_backup_leaves(
    cluster: Cluster, database: str, tmp_path: Path, inv: Any
) -> None:
    put_stamp(cluster.target(database))
    root = make_project(tmp_path / "shop", cluster.url(database))
    root.chmod(0o755)  # else others could exchange the backup, which would then be a stranger's
    for argv in (("db.backup",), ("env.use", "dev"), ("backup.verify",), ("db.restore",)):
        done = inv(*argv, cwd=root)
        assert done.returncode == 0, done.stderr
    assert len(list((root / "backups").rglob("*"))) > 5
    assert open_things(root) == []
    assert mode(root / ".pgtasks") == 0o755


@pytest.mark.usefixtures("umask")
def test_all_that_an_embedded_server_leaves(inv: Any) -> None:
    root = Path(tempfile.mkdtemp(prefix="pgtasks-test-", dir=TEMPORARY))
    root.chmod(0o755)
    try:
        (root / "tasks.py").write_text("import pgtasks\n\nns = pgtasks.namespace(__file__)\n")
        done = inv("server.start", cwd=root)
        assert done.returncode == 0, done.stderr
        assert inv("journal.list", cwd=root).returncode == 0
        running = embedded.status(root)
        assert running is not None
        assert mode(running.socket) == 0o700
        assert [each for each in open_things(root) if "/postgresql-" not in each] == []
        assert mode(root / ".pgtasks" / "server.json") == 0o644
        assert mode(root / ".pgtasks") == 0o755
    finally:
        inv("server.stop", cwd=root)
        shutil.rmtree(root)


@pytest.mark.usefixtures("umask")
def test_a_folder_and_a_file(tmp_path: Path) -> None:
    private.folder(tmp_path / "a" / "b")
    plainfile.replace(tmp_path / "a", "c", b"text")
    os.close(private.opened(tmp_path / "a" / "d", os.O_RDWR))
    modes = [mode(tmp_path / name) for name in ("a", "a/b", "a/c", "a/d")]
    assert modes == [0o700, 0o700, 0o600, 0o600]


def test_a_folder_that_others_could_write_to_is_closed_to_them(tmp_path: Path) -> None:
    for before, after in ((0o777, 0o775), (0o755, 0o755), (0o1777, 0o1777), (0o770, 0o770)):
        folder = tmp_path / f"{before:o}"
        folder.mkdir()
        folder.chmod(before)
        private.folder(folder)
        assert mode(folder) == after


def test_the_journal_follows_no_link(tmp_path: Path) -> None:
    target = tmp_path / "bashrc"
    target.write_text("alias ls=ls\n")
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / "journal.jsonl").symlink_to(target)
    with pytest.raises(OSError):
        journal.append(tmp_path / "backups", entry())
    (tmp_path / "backups" / "journal.jsonl").unlink()
    os.mkfifo(tmp_path / "backups" / "journal.jsonl")
    with pytest.raises(OSError):
        journal.append(tmp_path / "backups", entry())
    assert target.read_text() == "alias ls=ls\n"


def test_a_record_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "server.json").symlink_to(tmp_path / "precious")
    plainfile.replace(tmp_path, "server.json", b"text")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "server.json").read_text() == "text"


def test_a_file_is_whole_however_many_write_it_at_once(tmp_path: Path) -> None:
    contents = [bytes([97 + n]) * 50_000 for n in range(4)]

    def write(content: bytes) -> None:
        for _ in range(50):
            plainfile.replace(tmp_path, "server.json", content)
            assert (tmp_path / "server.json").read_bytes() in contents

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(write, content) for content in contents]:
            done.result()
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    names = (".server.json.0123456789abcdef", ".server.json.fedcba9876543210", ".server.json.mine")
    for name in names:
        (tmp_path / name).write_text("{")
    two_hours_ago = time.time() - 7200
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (two_hours_ago, two_hours_ago))
    plainfile.replace(tmp_path, "server.json", b"{}")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([names[1], names[2], "server.json"])


@pytest.mark.skipif(os.geteuid() != 0, reason="another account needs root")
def test_a_stranger_puts_folders_of_his_in_the_way(inv: Any) -> None:
    """An ordinary account with a backups folder that was made under a umask of 0."""
    root = Path(tempfile.mkdtemp(prefix="pgt-", dir=TEMPORARY))
    root.chmod(0o755)
    alice = identity()
    try:
        backups = root / "backups"
        backups.mkdir()
        backups.chmod(0o777)
        for path in (root, backups):
            os.chown(path, alice["user"], alice["group"])
        subprocess.run(["mkdir", "-m", "777", backups / "dev"], user="nobody", check=True)
        # as that account: the checks are of who runs them
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.setgroups([])
                os.setgid(alice["group"])
                os.setuid(alice["user"])
                try:
                    with staging.making(backups / "dev" / "shop", "1"):
                        pass
                except Failed as exc:
                    code = 0 if "belongs to 'nobody'" in exc.message else 2
                journal.append(backups, entry())
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert mode(backups) & 0o002 == 0
        assert mode(backups / "journal.jsonl") == 0o600
        shutil.chown(backups, "root")
        backups.chmod(0o777)
        (root / "tasks.py").write_text("import pgtasks\n\nns = pgtasks.namespace(__file__)\n")
        done = inv("env.check", "--json", cwd=root)
        checks = {each["check"] for each in json.loads(done.stdout)["findings"]}
        assert {"backups-mode", "backups-owner"} <= checks
    finally:
        shutil.rmtree(root)


def handed_over(root: Path, where: Path) -> Path:
    """Return a copy of the project's backup in another place, with the same manifest."""
    (manifest,) = root.glob("backups/dev/*/*/manifest.json")
    return Path(shutil.copytree(manifest.parent, where / manifest.parent.name))


@pytest.mark.parametrize("way", ["itself", "a file", "above", "another's", "none"])
def test_a_backup_that_others_may_change_is_not_known(
    cluster: Cluster, database: str, tmp_path: Path, inv: Any, way: str
) -> None:
    """A database of superusers alone: what is known to have been made here is restored unasked."""
    if way == "another's" and os.geteuid() != 0:
        pytest.skip("only root gives a folder to another account")
    put_stamp(cluster.target(database))
    root = make_project(tmp_path / "shop", cluster.url(database))
    assert inv("db.backup", cwd=root).returncode == 0
    above = tmp_path / "shared"
    above.mkdir()
    copied = handed_over(root, above)
    opened = {"itself": copied, "a file": copied / "dump" / "toc.dat", "above": above}
    if way in opened:
        opened[way].chmod(0o777)
    elif way == "another's":
        os.chown(copied, identity()["user"], -1)
    done = inv("db.restore", "--dry", "--backup", str(copied), cwd=root)
    if way == "none":
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 2, done.stderr
    assert "to 'postgres', a superuser (another account could have changed this" in done.stderr
    args = ("db.restore", "--dry", "--as-superuser", "--confirm", database)
    noted = inv(*args, "--backup", str(copied), cwd=root)
    assert "another account could have changed this backup: '" in noted.stderr + noted.stdout


def test_a_journal_that_others_may_write_tells_nothing(
    cluster: Cluster, database: str, tmp_path: Path, inv: Any
) -> None:
    put_stamp(cluster.target(database))
    root = make_project(tmp_path / "shop", cluster.url(database))
    assert inv("db.backup", cwd=root).returncode == 0
    (root / "backups" / "journal.jsonl").chmod(0o666)
    refused = inv("db.restore", "--dry", cwd=root)
    assert refused.returncode == 2, refused.stderr
    assert "would belong to 'postgres', a superuser" in refused.stderr


def test_a_group_of_one_account_is_nobody_else(tmp_path: Path) -> None:
    """As most systems give each account, with a umask of 002."""
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o775)
    mine = private.exposed(folder, os.geteuid())
    own = grp.getgrgid(os.getgid()).gr_name == pwd.getpwuid(os.geteuid()).pw_name
    assert (mine == "") is own  # "nobody" of "nogroup" shares it
    if os.geteuid() == 0:
        os.chown(folder, -1, grp.getgrnam("users").gr_gid)
        assert private.exposed(folder, 0) == f"{str(folder)!r} can be written by its group"
