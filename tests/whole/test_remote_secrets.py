"""A password on its way to a database host: looked for in all that runs and stays."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hosts import DatabaseHost
from network import Network
from projects import make_project
from psycopg2 import sql
from waiting import meanwhile, until
from watching import INV, SECRET, TOKEN, watched

_ROLE = "clerk"
_RUNS = [
    (("remote.check",), ""),
    (("remote.check", "--json"), ""),
    (("remote.facts",), ""),
    (("db.create",), ""),
    (("remote.psql",), "SELECT pg_sleep(0.5), current_user;\n"),
    (("db.run", "--file", "table.sql"), ""),
    (("db.check", "--verbose"), ""),
    (("verify.connection", "-v"), ""),
    (("db.backup", "--json"), ""),
    (("db.backup", "--on-host"), ""),
    (("backup.list", "--json"), ""),
    (("db.restore", "--json"), ""),
    (("env.show", "--json"), ""),
]


@pytest.fixture(scope="module")
def locked(network: Network) -> DatabaseHost:
    """A database host whose role `clerk` has a password."""
    if network.lacks:
        pytest.skip(f"needs a machine of its own: {network.lacks}")
    host = network.database("locked", hba=f"local all {_ROLE} scram-sha-256")
    statement = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
    host.cluster.execute(statement.format(sql.Identifier(_ROLE), sql.Literal(SECRET)))
    return host


@contextmanager
def watching(host: DatabaseHost) -> Iterator[dict[tuple[int, str], bytes]]:
    """Look at all processes of a host during a block: their argv and variables."""
    seen: dict[tuple[int, str], bytes] = {}

    def look() -> None:
        for each in host.machine.everything():
            if (each.outside, each.command) in seen:
                continue
            try:
                environ = Path(f"/proc/{each.outside}/environ").read_bytes()
            except OSError:
                environ = b""  # it ended meanwhile
            seen[each.outside, each.command] = environ

    with meanwhile(look, pause=0.01):
        yield seen


def test_a_password_is_nowhere_but_in_its_file(
    locked: DatabaseHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_project(tmp_path / "shop", "postgresql:///none")
    said = locked.settings(ssh={"backups": locked.backups}, database="shop", user=_ROLE)
    (root / "env" / "far.yaml").write_text(json.dumps(said))
    quoted = SECRET.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    (root / "env" / "far.env").write_text(f'DATABASE_PASSWORD="{quoted}"\n')
    (root / "table.sql").write_text("CREATE TABLE t AS SELECT 1 AS n;\n")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    programs, leaks = set(), []
    with watching(locked) as there:
        for argv, text in _RUNS:
            done = watched([str(INV), *argv, "--env", "far"], root, {}, text)
            assert done.code == 0, (argv, done.said)
            leaks += [(argv, where) for where in done.leaks()]
    assert leaks == []
    for (_, command), environ in there.items():
        programs.add(command.partition(" ")[0].rpartition("/")[2])
        assert TOKEN not in command
        assert TOKEN.encode() not in environ, command
    # the runs were seen at work there, not only their beginnings
    assert {"psql", "pg_dump"} <= programs
    locked.quiet()
    until(lambda: not held(locked, locked.temporary), lambda: f"left there: {held(locked, '/tmp')}")
    for folder in (locked.backups, f"/home/{locked.user}", "/var/tmp"):
        assert held(locked, folder) == []
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 5
    assert [path.name for path in kept if TOKEN.encode() in path.read_bytes()] == ["far.env"]
    assert TOKEN not in (locked.machine.folder / "sshd.log").read_text()


def held(host: DatabaseHost, folder: str) -> list[str]:
    """Return the files there that hold the token."""
    found = []
    for top, _, names in os.walk(host.path(folder)):
        for name in names:
            path = Path(top) / name
            if path.is_file() and TOKEN.encode() in path.read_bytes():
                found.append(str(path))
    return found
