"""What keeps the tests off the developer's own files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from canaries import Canaries
from loopback import Loopback
from sites import Site


@pytest.fixture
def stand_in() -> Loopback:
    site = Site(addresses=False)
    made = Loopback(site, "db1", "no namespaces")
    yield made
    site.close()


@pytest.mark.parametrize(
    "argv",
    [
        ("sh", "-c", "rm -rf /tmp/*"),
        ("find", "/srv/backups", "-mindepth", "1", "-delete"),
        ("sh", "-c", "cat x >/tmp/copy"),
        ("sh", "-c", "a=/srv; rm $a"),
        ("sh", "-c", "rm -rf ~/backups"),
        ("mv", "/usr/bin/date", "/usr/bin/date.real"),
        ("rm", "{own}/../../../srv"),
        ("sh", "-c", 'rm "/tmp/x"'),
    ],
)
def test_a_stand_in_refuses_files_that_are_not_its_own(
    stand_in: Loopback, argv: tuple[str, ...]
) -> None:
    words = [word.format(own=stand_in.folder) for word in argv]
    for run in (stand_in.run, stand_in.do):
        with pytest.raises(pytest.skip.Exception, match="would be this machine's own"):
            run(*words)


def test_a_stand_in_has_folders_of_its_own(stand_in: Loopback) -> None:
    for folder in (stand_in.temporary, stand_in.backups):
        stand_in.do("sh", "-c", f"echo some >{folder}/file 2>/dev/null; sed s/a/b/ {folder}/file")
        assert stand_in.path(f"{folder}/file").exists()
        stand_in.do("sh", "-c", f"rm -rf {folder}/*")
        assert list(Path(folder).iterdir()) == []
    assert stand_in.do("pwd").strip() == str(stand_in.folder)
    with pytest.raises(pytest.skip.Exception):
        stand_in.path("/tmp")


def test_a_clean_up_that_reaches_too_far_fails_the_run(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    canaries = Canaries([str(there), str(tmp_path / "made"), str(tmp_path / "no" / "folder")])
    canaries.pytest_sessionstart()
    assert [len(list(path.iterdir())) for path in (there, tmp_path / "made")] == [1, 1]
    next(there.iterdir()).unlink()
    canaries.look()
    assert len(canaries.faults) == 1
    assert f"a test emptied {there}" in canaries.faults[0]
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_the_files_of_a_killed_run_go_with_the_next_one(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    canaries = Canaries([str(tmp_path)])
    canaries.pytest_sessionstart()
    (mine,) = tmp_path.iterdir()
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
    other = dead.with_name(f"{dead.name}x")
    dead.write_text(mine.read_text())
    other.write_text("somebody's own")
    Canaries([str(tmp_path)]).pytest_sessionstart()
    assert mine.exists()
    assert other.exists()
    assert not dead.exists()
