"""Load the live database: run what pg_restore prints as SQL in the open transaction.

No psql runs, so that nothing in an archive is a command of a client. Nor can an archive commit:
what begins or ends a transaction is not sent, and where a statement holds one that our lexer does
not see, a check that is deferred to the commit fails (`guard`). Code of the archive could take that
check away, and change the settings by which the server reads a statement, so that it sees a COMMIT
where our lexer sees none: these settings are looked at before each statement.
"""

from __future__ import annotations

import re

import psycopg2

from pgtasks.backup.foreign import contents, reach
from pgtasks.backup.foreign.contents import Limited
from pgtasks.backup.format import bounds
from pgtasks.backup.restore import growth, load
from pgtasks.backup.restore.feed import Cancelling, Feed, Nowhere
from pgtasks.backup.restore.plan import RestorePlan, script_argv
from pgtasks.errors import Failed, NotProven, PgtasksError
from pgtasks.host import streams
from pgtasks.host.base import Command, Host
from pgtasks.report import Console
from pgtasks.server import connection, errors, interrupt
from pgtasks.server.connection import Connection
from pgtasks.server.proof.toc import Entry
from pgtasks.server.psql.statements import CHUNK, Item, Rows, Statement
from pgtasks.server.psql.statements import Command as PsqlCommand
from pgtasks.settings.secret import redact

# those of this transaction stay
_OWN_LIMITS = (
    *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
    "transaction_timeout",
)
_WRITES = re.compile(rb"\b(?:INTO|INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
_IN_TRANSACTION = psycopg2.extensions.TRANSACTION_STATUS_INTRANS
# the settings that decide where a string ends, which the server reports whenever they change
_STRINGS, _ENCODING = "standard_conforming_strings", "client_encoding"
_SET_STRINGS = re.compile(rb"\s*SET standard_conforming_strings = (on|off);\s*")
# a second byte of their characters may be a backslash; no server has them
_UNSAFE = ("SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004")
_SHOWN = 4000  # bytes of a statement by which its entry is found
_GUARD = (
    "CREATE TEMPORARY TABLE pgtasks_whole (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    " ON COMMIT DROP",
    "INSERT INTO pg_temp.pgtasks_whole VALUES (1), (1)",
)
_WHOLE = "DELETE FROM pg_temp.pgtasks_whole"


def guard(conn: Connection) -> None:
    """Keep the open transaction from being committed before `whole` is called."""
    for statement in _GUARD:
        connection.execute(conn, statement)


def whole(conn: Connection) -> None:
    """Let the transaction be committed."""
    connection.execute(conn, _WHOLE)


def run(
    plan: RestorePlan,
    entries: list[Entry],
    conn: Connection,
    host: Host,
    console: Console,
    lock: Connection,
) -> None:
    """Run the entries of the archive; `lock` is the connection of the lock.

    Raises an error with the way out for the first statement that fails, and Failed if pg_restore
    does not print all of it.
    """
    listed = "".join(f"{entry.number};\n" for entry in entries).encode()
    most = bounds.most_text(plan.backup.manifest)
    total = plan.backup.manifest.database_bytes
    with (
        host.lend(listed) as use_list,
        interrupt.cancelling([cancelling := Cancelling(conn)]),
        console.progress("restore", total) as progress,
        streams.reading(host, Command(script_argv(plan, use_list=use_list)), most=most) as stream,
    ):
        running = _Running(plan, conn, cancelling)

        def check(read: int) -> None:
            progress.update(min(read, total))
            growth.refuse_full(plan, lock, host)

        for item, _ in contents.items(Limited(stream, check), ""):
            running.take(item)
        running.look()


class _Running:
    def __init__(self, plan: RestorePlan, conn: Connection, cancelling: Cancelling) -> None:
        self._plan, self._conn, self._cancelling = plan, conn, cancelling
        self._strings = "on"

    def take(self, item: Item) -> None:
        """Run one item."""
        self.look()
        if isinstance(item, Rows):
            self._copy(item)
        elif isinstance(item, Statement):
            self._statement(item)
        elif isinstance(item, PsqlCommand) and reach.of_command(item):
            raise NotProven(f"the dump has a command for psql, \\{item.name}, as no pg_dump writes")

    def look(self) -> None:
        """Raise NotProven if the server reads statements in another way than our lexer."""
        status = self._conn.info.parameter_status
        if status(_STRINGS) != self._strings:
            raise NotProven(f"code in the dump changes {_STRINGS}, as no pg_dump does")
        if status(_ENCODING) in _UNSAFE:
            raise NotProven(f"the dump changes {_ENCODING} to {status(_ENCODING)!r}, as no backup")

    def _copy(self, rows: Rows) -> None:
        try:
            Feed(rows, self._conn).send(CHUNK, self._cancelling)
        except psycopg2.Error as exc:
            raise self._explained(rows.statement, exc) from None

    def _statement(self, item: Statement) -> None:
        what = reach.of(item.text)
        if what.outside or what.property:
            name = what.outside or what.property
            raise NotProven(f"the dump has a {name}, as no pg_dump of one database writes")
        if what.control == "rollback":
            raise NotProven("the dump has a ROLLBACK, as no pg_dump writes")
        if what.control or what.setting in _OWN_LIMITS:
            return
        try:
            with self._conn.cursor() as cursor:
                if what.query and not _WRITES.search(item.text):
                    # its rows, which may be without number, are not kept
                    text = item.text.rstrip().removesuffix(b";")
                    cursor.copy_expert(b"COPY (" + text + b"\n) TO STDOUT", Nowhere(), CHUNK)
                else:
                    cursor.execute(item.text)
        except psycopg2.Error as exc:
            if self._cancelling.asked:
                raise KeyboardInterrupt from None
            raise self._explained(item.text, exc) from None
        if self._conn.info.transaction_status != _IN_TRANSACTION:
            raise NotProven("the dump ends the transaction that it runs in, as no pg_dump does")
        if found := _SET_STRINGS.fullmatch(item.text):
            self._strings = found[1].decode()

    def _explained(self, statement: bytes, exc: psycopg2.Error) -> PgtasksError:
        """Return the error of a statement, with the way out."""
        failure = errors.translate(exc)
        if not isinstance(failure, Failed):
            return failure
        text = redact(statement[:_SHOWN].decode("utf-8", "backslashreplace"))
        words = f"ERROR:  {failure.message}\nCommand was: {text}"
        failure.hint = words if not failure.hint else f"{failure.hint}\n{words}"
        return load.classified(failure, self._plan.archive, self._plan.rights)
