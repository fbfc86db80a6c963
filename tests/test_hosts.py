"""The hosts that tests of remote runs use: they are what they claim, and nothing stays behind."""

from __future__ import annotations

import subprocess

from hosts import DatabaseHost, Host


def ssh(host: Host, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the OpenSSH client, which these tests trust more than themselves."""
    return subprocess.run(
        host.ssh(command), capture_output=True, text=True, timeout=60, check=False
    )


def test_a_stock_client_logs_in(db1: DatabaseHost) -> None:
    done = ssh(db1, "hostname; whoami; echo ~")
    assert (done.stdout, done.stderr) == ("db1\ndeploy\n/home/deploy\n", "")


def test_the_second_host_is_reached_through_the_jump_host(db2: DatabaseHost) -> None:
    done = ssh(db2, "hostname")
    assert (done.stdout, done.stderr) == ("db2\n", "")


def test_the_role_is_the_account(db1: DatabaseHost) -> None:
    done = ssh(db1, "psql -X -A -t -d postgres -c 'SELECT current_user'")
    assert (done.stdout, done.stderr) == ("deploy\n", "")
    assert "Peer authentication failed" in ssh(db1, "psql -U postgres -d postgres -c ''").stderr
