"""Connect to a target: start its server, log in to its host, get its password."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pgtasks import report
from pgtasks.errors import PgtasksError, Unreachable
from pgtasks.host import password
from pgtasks.host.base import Host
from pgtasks.host.local import HERE
from pgtasks.report import typed
from pgtasks.server import connection, identity
from pgtasks.server.connection import Connection
from pgtasks.server.identity import Identity
from pgtasks.server.lock import Lock
from pgtasks.server.silence import ANSWER
from pgtasks.settings.target import Target

if TYPE_CHECKING:
    from pgtasks.host.ssh.host import SshHost
    from pgtasks.host.ssh.tunnel import Tunnel

_CHANGING = 10.0  # seconds to wait for a DROP or RENAME of another session
# messages of libpq, which are not translated here
_WANTS_PASSWORD = "no password supplied"
_NO_CONNECTION = "connection to server"


@dataclass(frozen=True)
class Reached:
    """A target that answers, and the host where its commands run; the caller closes it."""

    target: Target
    host: Host = HERE
    tunnel: Tunnel | None = None  # from this machine to the server, if the host is another one
    # open ones by purpose: maintenance, identify
    _sessions: dict[str, Connection] = field(default_factory=dict, compare=False, repr=False)

    @property
    def there(self) -> Target:
        """Return the target for commands on its host."""
        return self.host.view(self.target)

    def at(self, database: str) -> Reached:
        """Return the same server with another database."""
        return replace(self, target=self.target.at(database))

    def connect(self, **options: Any) -> Connection:
        """Connect as `connection.connect` does, with the errors of a lost host or tunnel."""
        try:
            return connection.connect(self.target, **options)
        except Unreachable as exc:
            raise self.explained(exc) from None

    @contextmanager
    def session(self, **options: Any) -> Iterator[Connection]:
        """Connect for the length of a block."""
        made = self.connect(**options)
        try:
            yield made
        finally:
            made.close()

    @contextmanager
    def reading(self, purpose: str) -> Iterator[Connection]:
        """Read the database for the length of a block, in the session that `identify` kept."""
        kept = self._sessions.pop("identify", None)
        conn = kept or self.connect(read_only=True, purpose=purpose)
        try:
            if kept:
                connection.rename(kept, purpose)
            yield conn
        finally:
            conn.close()

    def maintenance(self) -> Connection:
        """Return a read-only session in the maintenance database, opened when first needed."""
        conn = self._sessions.get("maintenance")
        if conn is None or conn.closed:
            conn = self.at(self.target.maintenance).connect(read_only=True, purpose="reach")
            self._sessions["maintenance"] = conn
        return conn

    def lock(self, purpose: str) -> Lock:
        """Return the lock of the target, which takes over the session of `maintenance`."""
        return Lock(self.target, purpose, self._sessions.pop("maintenance", None))

    def identify(self, *, keep: bool = False) -> Identity | None:
        """Return the identity of the target's database, None if it does not exist.

        If another session drops or renames it meanwhile, it is looked for again afterwards. An
        `invalid` one, which an interrupted DROP left, is read from the maintenance database. With
        `keep` the session stays open for `reading`, until `close`.
        """
        oid, _ = self._look()
        tries, deadline = 2, time.monotonic() + _CHANGING  # it may be renamed and renamed back
        while oid is not None:
            try:
                return self._identified(keep=keep)
            except Unreachable:
                before, (oid, changing) = oid, self._look()
                if oid == before and changing and time.monotonic() < deadline:
                    time.sleep(0.05)
                elif oid == before and (tries := tries - 1) == 0:
                    seen = self.glimpse()
                    if seen and seen.invalid:
                        return seen
                    raise
        return None

    def _identified(self, *, keep: bool) -> Identity:
        conn = self.connect(read_only=True, purpose="identify")
        try:
            seen = identity.identify(conn)
        except BaseException:
            conn.close()
            raise
        if keep:
            self._sessions["identify"] = conn
        else:
            conn.close()
        return seen

    def glimpse(self) -> Identity | None:
        """Return the identity of a database that may refuse connections, None if it does not exist.

        It is read from the maintenance database, which does not show content: it counts as empty.
        """
        return identity.glimpse(self.maintenance(), self.target.database)

    def _look(self) -> tuple[int | None, bool]:
        """Return the database's OID, None if it does not exist, and whether it is being changed.

        DROP and RENAME hold a lock on the database object until they end.
        """
        seen = connection.row(
            self.maintenance(),
            "SELECT d.oid::bigint, EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'object'"
            " AND l.classid = 'pg_database'::regclass AND l.objid = d.oid"
            " AND l.mode = 'AccessExclusiveLock' AND l.granted)"
            " FROM pg_database d WHERE d.datname = %s",
            (self.target.database,),
            into=tuple[int, bool],
            limit=ANSWER,
        )
        return seen or (None, False)

    def explained(self, exc: PgtasksError) -> PgtasksError:
        """Return the error of a lost host or tunnel if it caused this one, or the error itself."""
        if (lost := self.host.lost) and lost not in exc.message:
            return Unreachable(f"{self.host.name}: {lost}", hint=exc.message)
        if self.tunnel and self.tunnel.fault and _NO_CONNECTION in exc.message:
            return Unreachable(f"{self.target}: {self.tunnel.fault}")
        return exc

    def end_sessions(self) -> None:
        """Close the open sessions, and leave the host and its tunnel open."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def close(self) -> None:
        """Close the open sessions, and the host with its tunnel."""
        self.end_sessions()
        self.host.close()


@dataclass(frozen=True)
class Origin:
    """A target that is read, and the identity of its database that the guard has seen.

    `required` is why each of its columns must be masked or declared plain, empty if none must.
    """

    reached: Reached
    allowed: Identity
    required: str = ""

    @property
    def target(self) -> Target:
        """Return the target as clients here reach it."""
        return self.reached.target


def reach(target: Target, root: Path, *, start: bool = True, make: bool = True) -> Reached:
    """Connect to the target's server, raising Unreachable.

    An embedded server is started, or created if it was never started; with `start` or `make` false
    it is Unreachable then. If the server wants a password that is not set, the user is asked for it
    on a terminal.
    """
    if target.embedded:
        target = _embedded(target, root, start=start, make=make)
    reached = opened(password.unlocked(target, root))
    try:
        return answering(reached)
    except BaseException:
        reached.close()
        raise


def opened(target: Target) -> Reached:
    """Log in to the target's host and open the tunnel, without connecting to the server."""
    if not target.ssh:
        return Reached(target)
    from pgtasks.host.ssh.login import landed

    host, target = landed(target)
    try:
        return tunnelled(host, target)
    except BaseException:
        host.close()
        raise


def tunnelled(host: SshHost, target: Target) -> Reached:
    """Open the tunnel to a server on a host."""
    tunnel = host.tunnel(target)
    return Reached(replace(target, end=tunnel.end), host, tunnel)


def answering(reached: Reached) -> Reached:
    """Connect, and return `reached` with a password if one was asked for; raises Unreachable."""
    try:
        _knock(reached)
    except Unreachable as exc:
        if _WANTS_PASSWORD not in exc.message:
            raise
        reached = replace(reached, target=password.asked(reached.target))
        _knock(reached)
    return reached


def _knock(reached: Reached) -> None:
    target = reached.target
    try:
        reached.maintenance()
    except Unreachable as exc:
        if f'database "{target.maintenance}" does not exist' not in exc.message:
            raise
        raise Unreachable(
            f"{target.at(target.maintenance)}: there is no database {target.maintenance!r} to hold "
            "the lock in, name an existing one in `maintenance`"
        ) from None


def _embedded(target: Target, root: Path, *, start: bool, make: bool) -> Target:
    from pgtasks.server import embedded

    server = embedded.status(root, major=target.major)
    if start and (make or server is not None):
        if not make and server is not None and server.pid is None:
            report.say("the embedded server was stopped: started, to look at its databases")
        server = embedded.start(root, major=target.major)
    if server is None or server.pid is None:
        way = typed.task("server.start")
        raise Unreachable(f"{target}: the server does not run, start it with {way}")
    return server.reached(target)


def identify(target: Target) -> Identity | None:
    """Return the identity of a database as `Reached.identify` does, in sessions of its own."""
    with closing(Reached(target)) as reached:
        return reached.identify()


def server_major(target: Target) -> int:
    """Return the major version of the target's server."""
    place = target.at(target.maintenance)
    with connection.session(place, read_only=True, purpose="version") as conn:
        return conn.server_version // 10000
