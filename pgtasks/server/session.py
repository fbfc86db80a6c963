"""Sessions: their settings, and how their statements are watched and cancelled."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from threading import RLock
from typing import Any

import psycopg2
import psycopg2.extensions

from pgtasks.errors import VersionMismatch
from pgtasks.host.installations import NEWEST, OLDEST
from pgtasks.server import quoting, silence
from pgtasks.settings.secret import Secret
from pgtasks.settings.target import Target

# Settings that affect the meaning of names, literals and texts. pg_temp is last in the search_path:
# otherwise it would implicitly be first, for tables and types.
PATH = "pg_catalog,pg_temp"
_PINNED = {
    "search_path": PATH,
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    # a policy is code of a table's owner: a query to which one applies is an error
    "row_security": "off",
    # constraints are not planned, because their functions would run
    "constraint_exclusion": "off",
    "bytea_output": "hex",
    "DateStyle": "ISO,MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
}
# A database or role may have timeouts, which would end a dump or a snapshot, or the session before
# its first statement. The one that not every version has is set when the version is known.
# psql idles between the commands of a file too, but how long these take is the file's own matter.
OF_FILES: Mapping[str, str] = dict.fromkeys(
    ("idle_in_transaction_session_timeout", "idle_session_timeout"), "0"
)
_NO_TIMEOUTS = {**dict.fromkeys(("statement_timeout", "lock_timeout"), "0"), **OF_FILES}
# What a role or a database may have, and what would change or end what pg_dump prints or pg_restore
# loads: the programs set the others themselves.
OF_PROGRAMS: Mapping[str, str] = {
    **_NO_TIMEOUTS,
    "exit_on_error": "off",
    **{
        name: _PINNED[name]
        for name in (
            *("quote_all_identifiers", "standard_conforming_strings", "transform_null_equals"),
            *("array_nulls", "default_transaction_isolation", "default_transaction_deferrable"),
        )
    },
}
# the first release of each major version with restrict_nonsystem_relation_kind (CVE-2024-7348)
_GUARDS = (140013, 150008, 160004, 170000, 180000)
_LENIENT = "pgtasks_utf8"  # the codec for names that are not valid UTF-8
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
# two names that other code in this process does not use
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
        try:
            super().__init__(*args, **options)
        except BaseException:
            # libpq leaves a session open that was not admitted: the server would wait for a
            # password, and DROP DATABASE for that, until authentication_timeout
            self.close()
            raise
        self.cursor_factory = Cursor
        # of threads: a statement that waits for another thread is not watched yet
        self._turn = RLock()
        self._place: dict[str, Any] = {**self.info.dsn_parameters, "password": self.info.password}

    def keep_odd_bytes(self) -> None:
        """Accept names that are not valid UTF-8 from now on."""
        of_no_encoding = self.info.parameter_status("server_encoding") == "SQL_ASCII"
        with self.watched(silence.ANSWER):
            self.set_client_encoding("SQL_ASCII" if of_no_encoding else "UNICODE")

    @contextmanager
    def watched(
        self, limit: float | None = None, *, over: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Watch the statements of a block."""
        with self._turn:
            handle = -1 if self.closed else self.fileno()
            wait = silence.Wait(handle, self._place, self.pid, limit, over=over)
            with silence.watched(wait):
                yield

    def cancel(self) -> None:
        """Cancel the running statement, from another session.

        PQcancel has no timeout and holds Python's GIL until the server has closed the connection:
        the threads of a tunnel would wait for the GIL, and with a stopped server forever. It is
        only used if no other session can be opened, because it needs none.
        """
        began = time.monotonic()
        place = {**self._place, "connect_timeout": _CANCEL_PATIENCE}
        try:
            with closing(psycopg2.connect(**place)) as other, other.cursor() as cursor:
                # the role of the sessions' settings may not cancel what the login runs
                cursor.execute("SET ROLE NONE")
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
    """A cursor whose statements are watched. `limit` is for small queries, in seconds.

    `over` is called where the server has ended a COPY into it, and the driver has not said so.
    """

    connection: Session
    limit: float | None = None
    over: Callable[[], None] | None = None

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
        with self.connection.watched(self.limit, over=self.over):
            super().copy_expert(sql, file, size)


def options(
    *,
    read_only: bool,
    own_path: bool,
    event_triggers: bool,
    role: str = "",
    secrets: Mapping[str, Secret] | None = None,
) -> str:
    """Return libpq's `options`: the settings that apply from the start of the session."""
    settings = dict(_NO_TIMEOUTS)
    # always set, because a role or a database may have another default
    settings["default_transaction_read_only"] = "on" if read_only else "off"
    if not own_path:
        settings |= _PINNED
    if not event_triggers:
        settings["event_triggers"] = "off"
    if role:
        settings["role"] = role
    # here they are in no statement, which the server may log or show
    settings |= {name: secret.reveal() for name, secret in (secrets or {}).items()}
    return joined(settings)


def joined(settings: Mapping[str, str]) -> str:
    """Return settings in the format of libpq's `options`."""
    return " ".join(f"-c {name}={value}" for name, value in _escaped(settings))


def _escaped(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        # the server splits the text at white space
        yield name, re.sub(r"([\\\s])", r"\\\1", value)


def begin(version: int, *, own_path: bool = False, look_for_client: bool = True) -> str:
    """Return the first statements of a session, raising VersionMismatch.

    Their result has the actual search_path and read-only setting, which reveal a pooler, the
    process ID of the backend, and whether the role may switch event triggers off.
    """
    if version < OLDEST * 10000:
        shown_version = f"{version // 10000}.{version % 10000}"
        raise VersionMismatch(
            f"the server is PostgreSQL {shown_version}, servers {OLDEST} to {NEWEST} are supported"
        )
    statements = ["SET transaction_timeout = 0"] if version >= 170000 else []
    if not own_path and any(first <= version < first - first % 10000 + 10000 for first in _GUARDS):
        # a view that replaces a table between a check and a query must not run
        statements.append("SET restrict_nonsystem_relation_kind = 'view, foreign-table'")
    if look_for_client:
        # lets the server end a statement whose client has disconnected, on systems that detect it
        # (Linux)
        statements.append(f"SET client_connection_check_interval = '{_CLIENT_LOOKED_FOR}'")
    may = "pg_catalog.has_parameter_privilege(session_user, 'event_triggers', 'SET')"
    statements.append(
        "SELECT pg_catalog.current_setting('search_path'), pg_catalog.current_setting("
        "'default_transaction_read_only'), pg_catalog.pg_backend_pid(),"
        f" {may if version >= 170000 else 'false'}"
    )
    return "; ".join(statements)
