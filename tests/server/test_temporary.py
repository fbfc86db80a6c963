"""Throw-away servers: that nothing of them is left, however the process ends that made them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import servers
from waiting import until

from pgtasks.errors import Failed
from pgtasks.host import tempfiles
from pgtasks.server.embedded import temporary
from pgtasks.server.embedded.programs import Binaries
from pgtasks.server.embedded.temporary import TemporaryServer

WHEEL = Binaries(16, servers.wheel_bin(16), "wheel")
_CHILD = f"""
from pathlib import Path
from pgtasks.server.embedded import temporary
from pgtasks.server.embedded.programs import Binaries
with temporary.running(Binaries(16, Path({str(WHEEL.bin)!r}), "wheel")) as server:
    print(server.process.pid, server.folder, flush=True)
    input()
"""


def _is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/cwd").exists()  # not that of a zombie


def _value(server: TemporaryServer, query: str) -> object:
    with closing(psycopg2.connect(server.url())) as session, session.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def _folders() -> set[Path]:
    return set(Path("/tmp").glob(f"pgtasks-run-{os.getpid()}-*"))


def test_one_answers_and_is_gone_with_its_block() -> None:
    with temporary.running(WHEEL, settings={"work_mem": "5MB"}) as server:
        assert _value(server, "SHOW work_mem") == "5MB"
        assert _value(server, "SHOW listen_addresses") == ""
        assert server.folder.is_dir()
    assert server.process.returncode == 0
    assert not server.folder.exists()


def test_no_other_account_gets_to_one_without_a_password() -> None:
    """Whoever connects to it is a superuser, who can run programs as the account of the server."""
    with temporary.running(WHEEL) as server:
        assert stat.S_IMODE(Path(server.host).stat().st_mode) == 0o700
        assert stat.S_IMODE((server.folder / "data").stat().st_mode) == 0o700
        assert _value(server, "SHOW listen_addresses") == ""


def test_one_with_a_password_lets_nobody_in_without() -> None:
    with temporary.running(WHEEL, password="s3cret ü'\\") as server:
        assert _value(server, "SELECT 1") == 1
        assert not (server.folder / "password").exists()
        with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
            psycopg2.connect(host=server.host, port=server.port, user="postgres")
        assert _value(server, "SHOW listen_addresses") == "127.0.0.1"


def test_one_that_does_not_start_says_why_and_leaves_nothing() -> None:
    before = _folders()
    with (
        pytest.raises(Failed, match=r"the server did not start: .*no_such_setting") as caught,
        temporary.running(WHEEL, settings={"no_such_setting": "1"}),
    ):
        pytest.fail("it runs")
    assert "FATAL" in (caught.value.hint or "")
    assert _folders() == before


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_one_ends_with_the_process_that_made_it(sign: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        pid, folder = child.stdout.readline().split()
        assert _is_alive(int(pid))
        child.send_signal(sign)
    until(lambda: not _is_alive(int(pid)), lambda: f"{pid} does not end")
    # as the next run does; another test's may sweep at the same time, and each leaves parts then
    until(lambda: tempfiles.sweep("/tmp") or not Path(folder).exists())
