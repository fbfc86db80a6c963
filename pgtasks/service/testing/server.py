"""The server of the tests: one in memory that only tests use, or that of an environment.

The server in memory belongs to this account and this project. It is started by the first run of the
tests and stopped by the last one; its data stays for the next run, until the machine is restarted.
Nothing in it waits for a disk (`fsync` is off), so that it is not for data that anybody wants back.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg2 import sql

from pgtasks.errors import Locked, PgtasksError, Refused
from pgtasks.host import private
from pgtasks.server import connection, embedded
from pgtasks.server.embedded import filelock
from pgtasks.server.reach import reach
from pgtasks.settings.environment import resolve
from pgtasks.settings.project import Project
from pgtasks.settings.target import Target, from_environment

_ROOT = "project"  # a file with the path of the project
_USED = "used"  # a file that is locked as long as a process uses the server
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "256MB",
}


@dataclass
class TestServer:
    """A server and the role that owns what tests make; `target` is in its maintenance database.

    The server in memory goes on running after the tests if it `stays`.
    """

    __test__ = False  # of pytest: this is no test

    target: Target
    stays: bool = False


@contextmanager
def serving(project: Project, environment: str) -> Iterator[TestServer]:
    """Yield the server of the tests of a project.

    It is that of the environment, if the project has it and it has a server of its own; else the
    one in memory. Raises Refused for a protected environment, and for one on another host.
    """
    target = _of_environment(project, environment)
    if target is None or target.embedded:
        with _in_memory(project, target, environment) as server:
            yield server
        return
    if target.protected:
        raise Refused(f"environment {environment!r} is protected: tests make and drop databases")
    if target.ssh:
        raise Refused(f"environment {environment!r} is on {target.ssh}: tests run beside a server")
    reached = reach(target, project.root)
    try:
        place = reached.target.at(reached.target.maintenance)
        yield TestServer(place)
    finally:
        reached.close()


def _of_environment(project: Project, name: str) -> Target | None:
    return from_environment(resolve(project, name)) if name in project.environments() else None


@contextmanager
def _in_memory(project: Project, target: Target | None, environment: str) -> Iterator[TestServer]:
    folder = folder_of(project)
    private.own(folder)
    private.folder(folder, mode=0o755)  # the server's account must enter it
    private.own(folder)
    (folder / _ROOT).write_bytes(os.fsencode(project.root.resolve()))
    _sweep(folder)
    server = TestServer(Target(environment, "", 0, "", ""))
    try:
        with _used(folder):
            running = embedded.start(folder, major=target.major if target else None)
            known = target or Target(environment, "", 0, "", running.role, embedded=True)
            served = running.reached(known)
            _set(replace(served, user=running.superuser).at(served.maintenance))
            server.target = served.at(served.maintenance)
            yield server
    finally:
        if not server.stays:
            _stop_unused(folder)


@contextmanager
def _used(folder: Path) -> Iterator[None]:
    """Say that this process uses the server; the system forgets that when the process ends."""
    descriptor = os.open(folder / _USED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _stop_unused(folder: Path) -> None:
    """Stop the server unless other processes use it."""
    descriptor = filelock.take(folder / _USED)
    if descriptor is None:
        return
    try:
        embedded.stop(folder)
    finally:
        os.close(descriptor)


def _set(target: Target) -> None:
    """Let the server wait for no disk."""
    with connection.session(target, purpose="tests") as conn:
        for name, value in _SETTINGS.items():
            statement = sql.SQL("ALTER SYSTEM SET {} = {}")
            connection.execute(conn, statement.format(sql.Identifier(name), sql.Literal(value)))
        connection.execute(conn, "SELECT pg_reload_conf()")


def _sweep(own: Path) -> None:
    """Remove the servers of projects that are gone."""
    for folder in own.parent.glob(f"{own.name.rpartition('-')[0]}-*"):
        try:
            private.own(folder)
            root = Path(os.fsdecode((folder / _ROOT).read_bytes()))
            if folder != own and not root.exists():
                _remove(folder)
        except (OSError, PgtasksError):
            continue  # of another account, or in use


def remove(project: Project) -> None:
    """Stop the server in memory and delete its data, raising Locked if other processes use it."""
    folder = folder_of(project)
    if folder.exists():
        private.own(folder)
        _remove(folder)


def _remove(folder: Path) -> None:
    descriptor = filelock.take(folder / _USED)
    if descriptor is None:
        raise Locked("another run of the tests uses the server: let it finish")
    try:
        embedded.remove(folder)
        shutil.rmtree(folder)
    finally:
        os.close(descriptor)


def folder_of(project: Project) -> Path:
    """Return the folder of the server in memory, or on the disk where memory has no room."""
    return embedded.of_tests(project.root)
