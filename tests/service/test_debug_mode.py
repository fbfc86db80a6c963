"""What debug mode writes of statements: time, caller, text, and no value."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import shelf
from paths import ROOT
from servers import Cluster
from shelf import Author
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from pgtasks.service import DatabaseService

HERE = Path(__file__).name


@pytest.fixture
def service(
    project: Path, cluster: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DatabaseService]:
    monkeypatch.chdir(project)
    cluster.execute(shelf.TABLES, database)
    service = DatabaseService("dev")
    service.statements.turn(True)
    yield service
    service.statements.turn(False)
    service.dispose()


def test_a_statement_is_logged_with_its_time_and_its_line(
    service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    with service.session() as session:
        session.execute(text("SELECT :secret || 'x'"), {"secret": "s3cret"})
    (line,) = caplog.messages
    assert re.match(rf"^\d+\.\d ms  {HERE}:\d+ test_a_statement\S+  SELECT .*  \[1 value\]$", line)
    assert "s3cret" not in line


def test_a_flush_names_the_line_that_caused_it(
    service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    with service.session() as session:
        session.add(Author(name="s3cret"))
        session.flush()
        with service.session() as inner:
            inner.execute(insert(Author), [{"name": "s3cret a"}, {"name": "s3cret b"}])
    assert len(caplog.messages) >= 4
    assert all(f"  {HERE}:" in line for line in caplog.messages), caplog.messages
    assert "s3cret" not in caplog.text


def test_a_statement_that_fails_is_logged_too(
    service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    with suppress(DBAPIError), service.session() as session:
        session.execute(text("SELECT 1 / :nothing"), {"nothing": 0})
    (line,) = caplog.messages
    failed = rf"^\d+\.\d ms  failed \(DivisionByZero\)  {HERE}:\d+ test_a_statement\S+  SELECT 1 /"
    assert re.match(failed, line)
    with service.session() as session:
        session.execute(text("SELECT 2"))
    assert len(caplog.messages) == 2


def test_nothing_is_logged_once_it_is_off(
    service: DatabaseService, caplog: pytest.LogCaptureFixture
) -> None:
    service.statements.turn(False)
    caplog.set_level(logging.DEBUG, "pgtasks.service")
    with service.session() as session:
        session.execute(text("SELECT 1"))
    assert caplog.messages == []


PROGRAM = """
from sqlalchemy import text
from pgtasks.service import get_db_session, set_debug_mode

set_debug_mode()
with get_db_session() as session:
    session.execute(text("SELECT 1"))
set_debug_mode(False)
with get_db_session() as session:
    session.execute(text("SELECT 2"))
"""


def test_a_program_without_a_log_sees_it_on_stderr(project: Path) -> None:
    (project / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=project,
        env={"PYTHONPATH": str(ROOT), "PGTASKS_ENV": "dev", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = done.stderr.splitlines()
    assert re.match(
        r"^20\S+ \S+ pgtasks\.service: \d+\.\d ms  program\.py:7 <module>  SELECT 1$", line
    )
