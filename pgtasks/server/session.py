"""Sessions: what one of ours begins with, and how its statements are watched and cancelled."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from threading import RLock
from typing import Any

import psycopg2
import psycopg2.extensions

from pgtasks.errors import VersionMismatch
from pgtasks.host.installations import NEWEST, OLDEST
from pgtasks.server import quoting, silence
from pgtasks.settings.target import Target

# What names, literals and texts mean; pg_temp stands last: unnamed it would come first, for tables
# and types.
PATH = "pg_catalog,pg_temp"
_PINNED = {
    "search_path": PATH,
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    # a policy is the code of a table's owner: a query that one applies to is an error
    "row_security": "off",
    # nor are constraints planned, whose functions would run
    "constraint_exclusion": "off",
    "bytea_output": "hex",
    "DateStyle": "ISO,MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
}
# A database or role may set timeouts of its own: they would end a dump or a snapshot in the middle
# (those that not every server knows are set once it has said which one it is).
_NO_TIMEOUTS = dict.fromkeys(
    ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"), "0"
)
# the first release of each major that knows restrict_nonsystem_relation_kind (CVE-2024-7348)
_GUARDS = (140013, 150008, 160004, 170000, 180000)
_LENIENT = "pgtasks_utf8"  # the driver's way to names that are not valid in UTF-8
_CLIENT_LOOKED_FOR = "2s"
_CANCEL_PATIENCE = 5  # seconds


def _codec(name: str) -> codecs.CodecInfo | None:
    if name != _LENIENT:
        return None
    return codecs.CodecInfo(_encoded, _decoded, name=name)


def _encoded(text: str, errors: str = "strict") -> tuple[bytes, int]:
    return quoting.to_bytes(text), len(text)


def _decoded(data: Any, errors: str = "strict") -> tuple[str, int]:
    return quoting.from_bytes(bytes(data)), len(data)


codecs.register(_codec)
# two names that no other user of the driver in this process has a reason for
psycopg2.extensions.encodings.update(dict.fromkeys(("UNICODE", "SQL_ASCII", "SQLASCII"), _LENIENT))


class Session(psycopg2.extensions.connection):
    """A session of ours.

    `tunnelled` is one whose other end is served by threads of this process; `pid` is its backend as
    the server says it, 0 until it is asked.
    """

    target: Target
    tunnelled = False
    pid = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cursor_factory = Cursor
        self._turn = RLock()  # of threads: who waits for another thread is not yet watched
        self._place: dict[str, Any] = {**self.info.dsn_parameters, "password": self.info.password}

    def keep_odd_bytes(self) -> None:
        """Take names that are not valid in UTF-8 from here on."""
        of_no_encoding = self.info.parameter_status("server_encoding") == "SQL_ASCII"
        with self.watched(silence.ANSWER):
            self.set_client_encoding("SQL_ASCII" if of_no_encoding else "UNICODE")

    @contextmanager
    def watched(self, limit: float | None = None) -> Iterator[None]:
        """Watch what the block asks of the server."""
        with self._turn:
            wait = silence.Wait(-1 if self.closed else self.fileno(), self._place, self.pid, limit)
            with silence.watched(wait):
                yield

    def cancel(self) -> None:
        """Cancel the statement that runs, from another session.

        libpq's own way knows no limit, and holds Python's lock until the server has closed the
        connection: a tunnel's threads would wait for the lock, and a stopped server for ever. It
        is taken where no session is to be had, as it needs none.
        """
        began = time.monotonic()
        place = {**self._place, "connect_timeout": _CANCEL_PATIENCE}
        try:
            with closing(psycopg2.connect(**place)) as other, other.cursor() as cursor:
                cursor.execute("SELECT pg_catalog.pg_cancel_backend(%s)", (self.info.backend_pid,))
        except psycopg2.OperationalError:
            if self.tunnelled or time.monotonic() - began > _CANCEL_PATIENCE - 1:
                raise
            super().cancel()

    def commit(self) -> None:
        """Commit, as the driver does."""
        with self.watched():
            super().commit()

    def rollback(self) -> None:
        """Roll back, as the driver does."""
        with self.watched():
            super().rollback()


class Cursor(psycopg2.extensions.cursor):
    """A cursor whose statements are watched. `limit` bounds a small question, in seconds."""

    connection: Session
    limit: float | None = None

    def execute(self, query: Any, vars: Any = None) -> None:
        """Execute, as the driver does."""
        with self.connection.watched(self.limit):
            super().execute(query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        """Execute several times, as the driver does."""
        with self.connection.watched(self.limit):
            super().executemany(query, vars_list)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        """Copy, as the driver does."""
        with self.connection.watched(self.limit):
            super().copy_expert(sql, file, size)


def options(*, read_only: bool, own_path: bool, event_triggers: bool, role: str = "") -> str:
    """Return libpq's `options`: the settings that hold from the first moment on."""
    settings = dict(_NO_TIMEOUTS)
    # said either way: a role or a database may have a default of its own
    settings["default_transaction_read_only"] = "on" if read_only else "off"
    if not own_path:
        settings |= _PINNED
    if not event_triggers:
        settings["event_triggers"] = "off"
    if role:
        settings["role"] = role
    return joined(settings)


def joined(settings: Mapping[str, str]) -> str:
    """Return settings as libpq's `options` takes them."""
    return " ".join(f"-c {name}={value}" for name, value in _escaped(settings))


def _escaped(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        # the server splits at any white space
        yield name, re.sub(r"([\\\s])", r"\\\1", value)


def begin(version: int, *, own_path: bool = False, look_for_client: bool = True) -> str:
    """Return the one string that a session begins with, raising VersionMismatch.

    Its row is what tells a pooler (search_path and a timeout as they are), the backend's process,
    and whether the role may switch event triggers off.
    """
    if version < OLDEST * 10000:
        shown_version = f"{version // 10000}.{version % 10000}"
        raise VersionMismatch(
            f"the server is PostgreSQL {shown_version}, servers {OLDEST} to {NEWEST} are supported"
        )
    statements = ["SET idle_session_timeout = 0"]
    if version >= 170000:
        statements.append("SET transaction_timeout = 0")
    if not own_path and any(first <= version < first - first % 10000 + 10000 for first in _GUARDS):
        # a view that takes a table's name between a look and a query must not run
        statements.append("SET restrict_nonsystem_relation_kind = 'view, foreign-table'")
    if look_for_client:
        # lets the server end a statement whose client is gone, where its system can tell (Linux)
        statements.append(f"SET client_connection_check_interval = '{_CLIENT_LOOKED_FOR}'")
    may = "pg_catalog.has_parameter_privilege(session_user, 'event_triggers', 'SET')"
    statements.append(
        "SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting("
        "'default_transaction_read_only'), pg_catalog.pg_backend_pid(),"
        f" {may if version >= 170000 else 'false'}"
    )
    return "; ".join(statements)
