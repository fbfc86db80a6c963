"""The messages that an SSH connection may not carry, and what becomes of a channel that ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hosts import DatabaseHost

from pgtasks.host.base import Command
from pgtasks.host.ssh.host import SshHost
from pgtasks.server import connection, reach
from pgtasks.server.reach import Reached
from pgtasks.settings.ssh import Login
from pgtasks.settings.target import Target


@pytest.fixture
def reached(db1: DatabaseHost) -> Iterator[Reached]:
    """Return a target on the host, reached."""
    login = Login(**db1.place())
    wanted = Target("far", db1.sockets, 5432, "postgres", db1.user, ssh=login)
    made = reach.opened(wanted)
    yield made
    made.close()


def test_what_comes_after_the_end_of_a_channel_is_not_sent(reached: Reached) -> None:
    """Of two threads, one ends the channel while the other has its message written already."""
    host = reached.host
    assert isinstance(host, SshHost)
    path = f"{reached.target.host}/.s.PGSQL.{reached.target.port}"
    for _ in range(3):  # sshd gives the channel's number again
        channel = host.link.socket(path)
        late = channel._send_eof()  # type: ignore[attr-defined]
        channel.close()
        assert host.capture(Command(("echo", "there"))) == "there\n"  # its end has arrived
        host.link.transport._send_user_message(late)
        assert host.capture(Command(("echo", "there"))) == "there\n"
    assert not host.link.lost


def test_many_connections_through_one_tunnel(reached: Reached) -> None:
    for number in range(100):
        with reached.session(read_only=True) as conn:
            assert connection.value(conn, "SELECT %s", (number,)) == number
