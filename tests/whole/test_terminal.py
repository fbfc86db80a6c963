"""Whole tasks on a terminal: nothing they print is broken by it, and every long step has a bar."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rich.cells import cell_len
from servers import Cluster
from terminal import answer

from backups import make
from pgtasks.backup.restore import RestoreOptions, restore
from pgtasks.host.local import HERE
from pgtasks.report import Console, Progress
from pgtasks.server.lock import Lock
from pgtasks.settings.target import Target

INV = Path(sys.executable).parent / "inv"
NAMED = '"客户_🐘_\x1b[31m_地址"'
REPORTS = (
    *("db.create", "env.list", "env.show", "env.status", "journal.list", "backup.list"),
    *("backup.show", "latest", "db.check", "--verbose"),
)


@pytest.fixture
def filled(project: Path, cluster: Cluster, target: Target) -> Path:
    """A project with tables of odd names, and a backup whose note is long and wide."""
    cluster.execute(f"CREATE TABLE {NAMED} AS SELECT 1 AS n", target.database)
    make(target, project / "backups", note="发布前 🐘 before the release \x1b[31m" + "名字" * 20)
    return project


@pytest.mark.parametrize("columns", [80, 120])
def test_no_table_is_wider_than_the_terminal(columns: int, filled: Path) -> None:
    ended = answer([INV, *REPORTS], [], cwd=filled, columns=columns)
    assert ended.code == 0, ended.screen
    assert "\x1b" not in ended.screen
    tables = re.findall(r"^.*\n-+(?: +-+)*\n(?:(?!dev: ).*\n)+", ended.screen, re.MULTILINE)
    shown = "".join(tables)
    for heading in (
        "environment  ",
        "setting  ",
        "sources of the choice",
        "when (UTC)",
        "backup  ",
        "what  ",
    ):
        assert re.search(rf"^ *{re.escape(heading)}", shown, re.MULTILINE), heading
    wide = [it for table in tables for it in table.splitlines() if cell_len(it) > columns]
    assert [it for it in wide if len(it.split()) > 1] == []  # a path is not broken
    assert "发布前 🐘" in ended.screen
    assert "release \\x1b[31m" in ended.screen


def test_a_table_of_several_environments_fits_too(filled: Path) -> None:
    (filled / "env" / "eu.yaml").write_text((filled / "env" / "dev.yaml").read_text())
    ended = answer([INV, "backup.list", "--env", "dev,eu"], [], cwd=filled, columns=80)
    assert "  20" in ended.screen, ended.screen
    below = ended.screen.partition("\ndev:\n")[2]
    assert "发布前 🐘" in below
    assert max(map(cell_len, below.splitlines())) <= 80


@dataclass(frozen=True)
class Watched(Console):
    """A console whose progress is kept: of each step what was shown of how much."""

    steps: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def say(self, line: str = "") -> None:
        """Keep quiet."""

    def progress(self, what: str, total: int = 0) -> Progress:
        """Keep all updates."""
        steps = self.steps.setdefault(what, [])

        class Kept(Progress):
            due = True

            def update(self, done: int, note: str = "") -> None:
                steps.append((done, self.total))

        return Kept(what, total)


# each row takes its time to be loaded
SLOW = """
CREATE FUNCTION slow(n int) RETURNS bool
    LANGUAGE sql AS 'SELECT pg_catalog.pg_sleep(0.03) IS NOT NULL';
CREATE TABLE slow AS SELECT n, repeat('x', 1000) AS t FROM generate_series(1, 80) n;
ALTER TABLE slow ADD CHECK (slow(n));
"""


def test_each_long_step_of_a_restore_has_its_bar(
    tmp_path: Path, cluster: Cluster, target: Target
) -> None:
    cluster.execute(SLOW, target.database)
    backup = make(target, tmp_path)
    console = Watched()
    with Lock(target, "db.restore") as lock:
        restore(lock, HERE, backup, RestoreOptions(1), console=console, agreed=lambda plan: True)
    assert list(console.steps) == ["verify", "restore", "prove"]
    assert [total for _, total in console.steps["verify"]][-1:] == [backup.manifest.size]
    done, total = console.steps["restore"][-1]
    assert done > 1_000_000
    assert total == backup.manifest.database_bytes
