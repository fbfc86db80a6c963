"""The host that source and target share, where rows go from one server to the other.

Otherwise rows pass through this machine: each SSH connection encrypts its half of the way.
"""

from __future__ import annotations

from dataclasses import dataclass

from pgtasks.errors import Failed, VersionMismatch
from pgtasks.host import tools
from pgtasks.host.base import Command, Host
from pgtasks.settings.ssh import Login
from pgtasks.settings.target import Target


@dataclass(frozen=True)
class RowsWay:
    """The way of the rows: the path of psql on the shared `host`, or why not, in a note."""

    host: Host | None = None
    psql: str = ""
    note: str = ""


THROUGH_HERE = RowsWay()


def rows_way(source: Target, target: Target, host: Host, *, major: int, limited: bool) -> RowsWay:
    """Return the way of the rows; `host` is the target's, `major` the version of its server.

    A `limited` rate is kept by this machine.
    """
    if source.ssh is None or target.ssh is None:
        return THROUGH_HERE
    if _place(source.ssh) != _place(target.ssh):
        return RowsWay(note="source and target are on two hosts: rows pass through this machine")
    if limited:
        return RowsWay(note="the rate is kept by this machine: rows pass through it")
    try:
        psql = tools.for_psql(tools.available(host, target), major, host.view(target)).tool("psql")
        host.capture(Command((psql, "--version")))  # a package may have pg_dump without it
    except (VersionMismatch, Failed):
        return RowsWay(note=f"there is no psql on {host.name}: rows pass through this machine")
    return RowsWay(host, psql, f"large tables go from server to server on {host.name}")


def _place(login: Login) -> tuple[object, ...]:
    return login.host, login.user, login.port, login.jump, login.sudo_user
