"""Load a side database from a dump in SQL that somebody else made, one statement at a time.

No psql runs, so that nothing in the file is a command of a client. Each statement is sent alone and
inside of a transaction block: there the server itself refuses what would reach another database of
it (CREATE DATABASE, ALTER SYSTEM), whatever our lexer takes it for. The session has the rights of
the owner only, see database/loader.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import psycopg2

from pgtasks.backup.foreign import contents, packing, reach
from pgtasks.backup.foreign.contents import Limited
from pgtasks.backup.foreign.dump import Dump
from pgtasks.backup.restore import growth, load
from pgtasks.backup.restore.feed import Cancelling, Feed, Nowhere
from pgtasks.backup.restore.plan import RestorePlan
from pgtasks.database import leaving
from pgtasks.errors import Failed, NotProven, PgtasksError
from pgtasks.host.base import Host
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection, errors, interrupt
from pgtasks.server.connection import Connection
from pgtasks.server.proof.toc import Entry
from pgtasks.server.psql.statements import CHUNK, Command, Item, Remark, Rows, Statement, Stream

_BATCH = 200  # statements in a transaction: each table that they touch holds a lock
# a DROP of what is not there, as dumps with --clean begin with
_ABSENT = ("42P01", "42704", "3F000", "42883", "42703", "42P06")
_UNKNOWN = ("42704", "22023")  # a parameter of another version, or a value
_INSERTS = re.compile(rb"\s*INSERT\b", re.IGNORECASE)
_TOGETHER = 64 << 10  # bytes of INSERT statements that are sent together
_DROPS = re.compile(rb"(?:DROP|ALTER)\b", re.IGNORECASE)
_UNLINK = re.compile(rb"\s*SELECT\s+(?:pg_catalog\.)?lo_unlink\(", re.IGNORECASE)
_DROP = re.compile(
    rb"DROP\b|%s\s+(?:ALTER\s+(?:COLUMN\s+)?%s\s+)?DROP\b" % (reach.ALTER_TABLE, reach.NAME),
    re.IGNORECASE,
)
_PUBLIC = re.compile(rb"CREATE\s+SCHEMA\s+\"?public\"?\s*;?\s*", re.IGNORECASE)
_WRITES = re.compile(rb"\b(?:INTO|INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)
# without these, what follows would mean something else
_NEEDED = ("client_encoding", "standard_conforming_strings", "search_path")
_IN_TRANSACTION = psycopg2.extensions.TRANSACTION_STATUS_INTRANS
_TRIGGERS = re.compile(
    rb"(ALTER\s+TABLE\s[^;]*\b(?:DISABLE|ENABLE)\s+TRIGGER\s+)ALL\s*;?\s*", re.IGNORECASE
)
_DENIED_CODE, _NO_PARENT = "42501", "23503"
_UNCHECKED = "DISABLE TRIGGER ALL: foreign keys are checked all the while"
_DENIED = r"must be owner|permission denied|must be (?:a )?superuser|[Oo]nly superusers?|SUPERUSER"
_ROLE = r'role "[^"]+" does not exist'


def run(
    plan: RestorePlan, dump: Dump, host: Host, conn: Connection, console: Console
) -> Sequence[str]:
    """Run the dump in the side database, and return what was left out, one line each.

    `conn` is the connection of the lock. Raises Failed with the line of the first error.
    """
    form = dump.form
    with (
        connection.session(plan.loading, own_path=True, purpose="db.restore") as session,
        interrupt.cancelling([cancelling := Cancelling(session)]),
        console.progress("restore", dump.held.bytes) as progress,
        packing.opened(form.path, form.packing) as stream,
    ):
        loading = _Loading(plan, dump, session, cancelling)

        def check(read: int) -> None:
            progress.update(read)
            growth.refuse_full(plan, conn, host)

        loading.run(stream, check)
    boundary("restore.loaded")
    return loading.left


class _Loading:
    def __init__(
        self, plan: RestorePlan, dump: Dump, session: Connection, cancelling: Cancelling
    ) -> None:
        self._plan, self._dump, self._session = plan, dump, session
        self._cancelling = cancelling
        self._entries = {entry.number: entry for entry in plan.archive}
        self._number = 0  # of the entry that statements belong to
        self._in_block = 0  # statements in this transaction
        self._own_block = False  # the dump has begun a block itself
        self._statements = 0
        self._left: dict[str, None] = {}
        self._rows: list[Statement] = []  # INSERT statements that are sent together
        self._length = 0  # of their text

    @property
    def left(self) -> list[str]:
        """Return a line for each thing that was left out."""
        return list(self._left)

    def run(self, stream: Stream, check: contents.Tell) -> None:
        """Run all of it."""
        limited = Limited(stream, check)
        self._execute(b"SET synchronous_commit = off")
        self._begin()
        boundary("restore.loading")
        for item, inside in contents.items(limited, self._dump.part):
            if isinstance(item, Remark):
                self._flush()
                self._number += inside and contents.is_header(item.text)
            elif inside:
                self._take(item)
        self._flush()
        if (limited.bytes, self._statements) != (self._dump.held.bytes, self._dump.held.statements):
            raise NotProven(f"{self._dump.shown} was changed while it was restored")
        self._execute(b"COMMIT")

    def _take(self, item: Item) -> None:
        if isinstance(item, Statement) and _INSERTS.match(item.text):
            self._insert(item)
            return
        self._flush()
        if isinstance(item, Command):
            if statement := reach.encoding(item):
                self._sent(item.line, statement)
            return
        self._statements += 1
        if self._number in self._plan.left.numbers:
            return
        if isinstance(item, Rows):
            self._copy(item)
        elif isinstance(item, Statement):
            self._statement(item)
        self._in_block += 1
        if self._in_block >= _BATCH and not self._own_block:
            self._renew(b"COMMIT")

    def _insert(self, item: Statement) -> None:
        """Collect INSERT statements: each sent alone would wait for its answer."""
        self._statements += 1
        if self._number not in self._plan.left.numbers:
            self._rows.append(item)
            self._length += len(item.text)
        if self._length > _TOGETHER:
            self._flush()

    def _flush(self) -> None:
        """Send the collected statements; if one fails, send them once more, each alone."""
        items, self._rows, self._length = self._rows, [], 0
        if not items:
            return
        together = Statement(items[0].line, b"".join(item.text for item in items))
        if len(items) == 1 or self._attempted(together, None):
            for item in items:
                self._sent(item.line, item.text)
        self._check_block(items[-1].line)
        self._in_block += 1

    def _copy(self, rows: Rows) -> None:
        try:
            Feed(rows, self._session).send(CHUNK, self._cancelling)
        except psycopg2.Error as exc:
            raise self._explained(rows.line, exc) from None
        if not self._own_block and rows.size > CHUNK:
            self._renew(b"COMMIT")

    def _statement(self, item: Statement) -> None:
        what = reach.of(item.text)
        if what.outside:
            own = self._dump.held.own and what.outside in contents.MAKES_OWN
            if not own and what.outside not in self._plan.left.names:
                raise NotProven(f"{self._dump.shown} was changed while it was restored")
        elif what.property:
            self._left[f"{what.property}, of the database itself"] = None
        elif what.owners and self._plan.no_owner:
            pass
        elif what.control:
            self._control(what.control)
        elif what.setting:
            self._set(item, what.setting)
        elif _UNLINK.match(item.text):
            self._drop(item)
        elif what.query and not _WRITES.search(item.text):
            self._query(item)
        elif triggers := _TRIGGERS.fullmatch(reach.body(item.text)):
            self._switch(item, triggers)
        elif _DROPS.match(begin := reach.body(item.text)) and _DROP.match(begin):
            self._drop(item)
        elif _PUBLIC.fullmatch(begin):
            self._sent(item.line, b"CREATE SCHEMA IF NOT EXISTS public")
        else:
            self._sent(item.line, item.text, owners=what.owners)

    def _control(self, what: str) -> None:
        """Follow a block of the dump's own; ours ends before it."""
        if what == "begin":
            if not self._own_block:
                self._renew(b"COMMIT")
            self._own_block = True
        elif self._own_block:
            self._renew(b"COMMIT" if what == "commit" else b"ROLLBACK")
            self._own_block = False

    def _set(self, item: Statement, name: str) -> None:
        if fault := self._attempted(item, () if name in _NEEDED else _UNKNOWN):
            self._left[f"SET {name}: {fault}"] = None

    def _switch(self, item: Statement, found: re.Match[bytes]) -> None:
        """Disable or enable all triggers of a table, those of foreign keys if this role may."""
        if self._attempted(item, (_DENIED_CODE,)):
            self._sent(item.line, found[1] + b"USER")
            self._left[_UNCHECKED] = None

    def _drop(self, item: Statement) -> None:
        if self._attempted(item, _ABSENT):
            self._left["DROP of what is not there"] = None

    def _attempted(self, item: Statement, codes: Sequence[str] | None) -> str:
        """Run a statement after a savepoint; return its error if it has one of these codes.

        None stands for any code.
        """
        self._execute(b"SAVEPOINT pgtasks")
        try:
            self._execute(item.text)
        except psycopg2.Error as exc:
            if exc.pgcode is None or not (codes is None or exc.pgcode in codes):
                raise self._explained(item.line, exc) from None
            self._execute(b"ROLLBACK TO SAVEPOINT pgtasks")
            return str(exc).partition("\n")[0]
        self._execute(b"RELEASE SAVEPOINT pgtasks")
        return ""

    def _query(self, item: Statement) -> None:
        """Run a query without keeping its rows, which may be without number."""
        text = item.text.rstrip().removesuffix(b";")
        try:
            with self._session.cursor() as cursor:
                cursor.copy_expert(b"COPY (" + text + b"\n) TO STDOUT", Nowhere(), CHUNK)
        except psycopg2.Error as exc:
            raise self._explained(item.line, exc) from None
        self._check_block(item.line)

    def _sent(self, line: int, text: bytes, *, owners: bool = False) -> None:
        try:
            self._execute(text)
        except psycopg2.Error as exc:
            raise self._explained(line, exc, owners=owners) from None
        self._check_block(line)

    def _check_block(self, line: int) -> None:
        if self._session.info.transaction_status != _IN_TRANSACTION:
            raise Failed(
                f"{self._dump.shown}:{line}: it ended the transaction block that it runs in"
            )

    def _execute(self, text: bytes) -> None:
        with self._session.cursor() as cursor:
            cursor.execute(text)

    def _begin(self) -> None:
        self._execute(b"BEGIN")
        self._in_block = 0

    def _renew(self, how: bytes) -> None:
        self._execute(how)
        self._begin()

    def _explained(self, line: int, exc: psycopg2.Error, *, owners: bool = False) -> PgtasksError:
        """Return the error of a statement with its place, and the way out."""
        failure = errors.translate(exc)
        words = f"{failure.message}\n{failure.hint}"
        way, rights = "", self._plan.rights
        entry: Entry | None = self._entries.get(self._number)
        flag = leaving.flag(entry) if entry else ""
        if exc.pgcode == _NO_PARENT and _UNCHECKED in self._left:
            way = (
                ": the dump turns the checks of foreign keys off while rows are loaded, which only "
                "a superuser may (connect as one, with --as-superuser)"
            )
        elif flag:
            way = f": {flag} restores all but that"
        elif re.search(_ROLE, words):
            way = ": a role is missing, see --no-owner"
        elif owners and not self._plan.no_owner and re.search(_DENIED, words):
            way = ": --no-owner goes without owners and grants"
        elif re.search(_DENIED, words) and rights.held:
            way = (
                f": {rights.role!r} may not do that, --as-superuser lets the dump do all that a "
                "superuser may"
            )
        kind = failure.__class__
        if isinstance(failure, Failed):
            kind = load.Denied if re.search(_DENIED, words) else Failed
        return kind(f"{self._dump.shown}:{line}: {failure.message}{way}", hint=failure.hint)
