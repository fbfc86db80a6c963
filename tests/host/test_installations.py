"""Where PostgreSQL is installed: for tools and for the embedded server alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgtasks.host import tools
from pgtasks.host.installations import FOLDERS, WHEEL, in_wheel
from pgtasks.host.local import LocalHost
from pgtasks.server.embedded import programs


@pytest.mark.parametrize(
    "folder",
    [
        "usr/lib/postgresql/16/bin",
        "usr/pgsql-16/bin",
        "usr/lib/postgresql16/bin",
        "usr/libexec/postgresql16",
        "opt/homebrew/opt/postgresql@16/bin",
        "Applications/Postgres.app/Contents/Versions/16/bin",
    ],
)
def test_clients_and_servers_are_found_in_the_same_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    there = tmp_path / folder
    there.mkdir(parents=True)
    for name in ("pg_dump", "postgres", "initdb"):
        program = there / name
        program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 16.3'\n")
        program.chmod(0o755)
    elsewhere = tuple(f"{tmp_path}{pattern}" for pattern in FOLDERS)
    monkeypatch.setattr(tools, "FOLDERS", elsewhere)
    monkeypatch.setattr(programs, "FOLDERS", elsewhere)
    tools._installed.cache_clear()
    assert str(there) in {each.folder for each in tools.installed(LocalHost())}
    assert there in {each.bin for each in programs.binaries() if each.major == 16}
    tools._installed.cache_clear()


def test_the_wheel_is_laid_out_as_we_read_it() -> None:
    binaries = [each for each in programs.binaries() if each.origin == "wheel"]
    assert [each.major for each in binaries] == [18, 16]
    assert {each.bin.parent for each in binaries} == set(in_wheel())
    for folder in in_wheel():
        assert {"bin", "lib", "share"} <= {path.name for path in folder.iterdir()}
        libraries = (folder.parent.parent / f"{WHEEL}.libs", folder.parent / ".dylibs")
        assert any(path.is_dir() for path in libraries)
