"""`make clean` after `make demo`: what it removes, and what stays, on a server of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from paths import ROOT, TEMPORARY

from pgtasks.server import embedded

_COPIED = ("pgtasks", "tasks", "clinic", "env")
Inv = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of what `make clean` works with, below a folder that every account may enter."""
    folder = Path(tempfile.mkdtemp(prefix="pgtasks-test-", dir=TEMPORARY))
    folder.chmod(0o755)
    copy = folder / "checkout"
    for name in _COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "tasks.py", "invoke.yaml"):
        shutil.copy(ROOT / name, copy)
    yield copy
    embedded.remove(copy)
    shutil.rmtree(folder)


def clean(checkout: Path) -> str:
    """Run `make clean` with this Python's packages as .venv; return what it said."""
    done = cleaned(checkout)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (checkout / ".venv").is_symlink()
    return done.stdout


def cleaned(checkout: Path) -> subprocess.CompletedProcess[str]:
    if not (checkout / ".venv").is_symlink():
        (checkout / ".venv").symlink_to(sys.prefix)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", "clean"],
        cwd=checkout,
        env=environ,
        text=True,
        capture_output=True,
    )


def test_clean_removes_what_the_demo_made_and_nothing_else(inv: Inv, checkout: Path) -> None:
    # one story, as a server of its own takes seconds
    for words in ("db.create --env demo", "db.backup --env demo", "db.restore --env demo"):
        done = inv(*words.split(), cwd=checkout)
        assert done.returncode == 0, done.stderr
    assert inv("db.create", cwd=checkout).returncode == 0
    embedded.stop(checkout)

    # another environment lives on the server, which was stopped: it is stopped again
    assert clean(checkout) == "the server is stopped; its data stays, because of checkout_dev\n"
    found = embedded.status(checkout)
    assert found is not None
    assert found.pid is None
    assert not (checkout / "backups" / "demo").exists()

    # a session of another program is not ended without a word
    assert inv("server.start", cwd=checkout).returncode == 0
    running = embedded.status(checkout)
    assert running is not None
    url = {"host": str(running.socket), "port": running.port, "user": running.superuser}
    session = psycopg2.connect(**url, dbname="checkout_dev", application_name="make web")
    refused = cleaned(checkout)
    assert refused.returncode != 0
    assert refused.stderr.startswith(
        f"error: the server has sessions of others, and stays with .venv: 1 of 'make web' as "
        f"{running.superuser!r} in 'checkout_dev': end what has them (make web: Ctrl-C), or "
        "stop the server with "
    )
    assert (checkout / ".venv").is_symlink()
    again = embedded.status(checkout)
    assert again is not None
    assert again.pid == running.pid
    session.close()

    # nothing else lives there, and it runs
    assert inv("db.drop", "--yes", cwd=checkout).returncode == 0
    assert clean(checkout) == ""
    assert not (checkout / ".pgtasks").exists()
    assert clean(checkout) == ""
