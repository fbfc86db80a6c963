"""The service with the older SQLAlchemy that it knows: its tests run with that too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

OLDER = Path(sys.prefix) / "sqlalchemy-2.0"  # see the Makefile


def run(*words: str) -> str:
    """Run Python with the older SQLAlchemy and return what it prints."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(OLDER)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not OLDER.is_dir(), reason=f"no SQLAlchemy 2.0 in {OLDER}: make installs it")
def test_what_the_service_promises_holds_with_sqlalchemy_2_0() -> None:
    code = "import sqlalchemy; print(sqlalchemy.__version__)"
    assert run("-c", code).startswith("2.0.")
    files = [
        f"tests/service/test_{name}.py" for name in ("units", "entities", "resilience", "flask")
    ]
    choice = ("-k", "not psycopg]", "-p", "no:randomly", "-p", "no:cacheprovider")
    assert " passed" in run("-m", "pytest", "-q", *choice, *files)
