"""`make web`: from a fresh checkout to a login, on a server of its own."""

from __future__ import annotations

import errno
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from paths import ROOT, TEMPORARY

from pgtasks.server import embedded
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import load

_COPIED = ("tasks", "clinic", "env", "sql", "migrations")
_FILES = ("tasks.py", "invoke.yaml", "alembic.ini")


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """A copy of what `make web` works with, below a folder that every account may enter."""
    folder = Path(tempfile.mkdtemp(prefix="pgtasks-test-", dir=TEMPORARY))
    folder.chmod(0o755)
    copy = folder / "checkout"
    for name in _COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(ROOT / name, copy)
    yield copy
    embedded.remove(copy)
    shutil.rmtree(folder)


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "clinic.web", *args]


@contextmanager
def served(checkout: Path) -> Iterator[list[str]]:
    """Serve the clinic on any port; yield what was said until it answers."""
    with subprocess.Popen(
        command("--port", "0"),
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line.rstrip())
            if line.rstrip().endswith("  patient"):
                break
        try:
            yield said
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
    goes_on = "\nended; the database server goes on, inv server.stop ends it\n"
    assert (process.returncode, rest) == (0, goes_on), said
    server = embedded.status(checkout)
    assert server is not None
    assert server.pid is not None


def logs_in(address: str, username: str) -> bool:
    body = json.dumps({"username": username, "password": "clinic-demo"}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{address}api/auth/login", body, headers)) as answer:
        return "access_token" in json.load(answer)


def test_a_fresh_checkout_is_set_up_and_served_and_again(checkout: Path) -> None:
    logins = []
    for _ in range(2):
        with served(checkout) as said:
            text = "\n".join(said)
            # nobody has visited it yet, and its server is not stopped under it
            clean = [sys.executable, "-m", "clinic.demo", "--clean"]
            kept = subprocess.run(clean, cwd=checkout, capture_output=True, text=True)
            assert kept.returncode == 2
            assert "the server has sessions of others, and stays" in kept.stderr
            assert "1 of 'pgtasks make web " in kept.stderr
            found = re.search(r"the clinic is at (http://127\.0\.0\.1:\d+/), Ctrl-C ends it", text)
            assert found, text
            with urlopen(f"{found[1]}login") as answer:
                assert b"<h1>Log in</h1>" in answer.read()
            described = re.search(r"its API is described at (\S+)", text)
            assert described, text
            with urlopen(described[1]) as answer:
                assert json.load(answer)["openapi"].startswith("3.1")
            with urlopen(f"{found[1]}health/ready") as answer:
                assert answer.status == 200
            assert "log in with the password 'clinic-demo' as" in said
            logins.append(said[-4:])
            for line in said[-4:]:
                assert logs_in(found[1], line.split()[0])
            assert [line.split()[-1] for line in logins[-1]] == [
                *("admin", "receptionist", "doctor", "patient"),
            ]
    assert logins[0] == logins[1]
    assert "database    unchanged" in text  # what was there is used again


def refused(checkout: Path, *args: str) -> tuple[int, str]:
    done = subprocess.run(
        command(*args), cwd=checkout, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_port_that_is_taken_is_one_line(checkout: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert refused(checkout, "--port", str(port)) == (
            1,
            f"error: port {port} of 127.0.0.1 is taken, choose another one: "
            f"make web ARGS='--port {port + 1}'\n",
        )


def test_a_port_that_needs_rights_is_one_line(checkout: Path) -> None:
    from clinic.web.__main__ import _fault, _options

    options = _options(["--port", "9"])  # whoever runs the tests may be allowed to
    assert _fault(PermissionError(errno.EACCES, "Permission denied"), options) == (
        "port 9 of 127.0.0.1 is for processes with more rights than this one, "
        "choose another one: make web ARGS='--port 8000'"
    )


def test_an_environment_without_the_role_is_refused_before_its_set_up(checkout: Path) -> None:
    (checkout / "env" / "bare.yaml").write_text("server: embedded\n")
    try:
        assert refused(checkout, "--env", "bare", "--port", "0") == (
            3,
            "error: environment 'bare': pool.role: '', expected 'clinic_app': "
            "write `pool: {role: clinic_app}` into env/bare.yaml\n",
        )
    finally:
        (checkout / "env" / "bare.yaml").unlink()
    # those that come along have it
    for name in ("dev", "demo"):
        assert resolve(load(ROOT), name).settings.pool.role == "clinic_app"


def test_what_cannot_be_served_is_one_line(checkout: Path) -> None:
    code, text = refused(checkout, "--env", "prdo", "--port", "0")
    assert (code, text) == (2, "error: unknown environment 'prdo', known: demo, dev, test\n")
    code, text = refused(checkout, "--host", "192.0.2.1", "--port", "0")
    assert (code, text.count("\n")) == (1, 1)
    assert text.startswith("error: cannot listen on port 0 of '192.0.2.1': ")
    code, text = refused(checkout, "--port", "70000")
    assert (code, text.splitlines()[-1].partition(": error: ")[2]) == (
        2,
        "argument --port: from 0 to 65535, not '70000'",
    )
