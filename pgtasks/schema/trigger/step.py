"""Keep managed triggers in step with migrations.

A trigger of the files may have been made for a later or an earlier schema than the one that a
revision works on. So, before the first statement of a revision that changes rows of a table, or
drops or alters a column, the managed triggers on that table are dropped, in the same transaction.
After the revision, and before any commit in it, they are created again as they were. If that fails,
because a column is gone, they are created as their file says. If that fails too, they are left
out, with a warning, and tried again after the next revision.

Outside a transaction (in an `autocommit_block`, or after a COMMIT as a statement), and in a
statement that itself commits, nothing is dropped: others would see the table without its triggers.
A commit of the driver is noticed at the next statement, or after the revision, also if it fails.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from pgtasks import report
from pgtasks.schema.listeners import listening
from pgtasks.schema.trigger import expected
from pgtasks.schema.trigger.detached import Detached, Session, resolved, with_triggers
from pgtasks.schema.trigger.expected import Trigger
from pgtasks.schema.trigger.files import SqlFile
from pgtasks.schema.trigger.touch import Touch, touches


@dataclass(frozen=True)
class _Managed:
    """A trigger of the files on a table that exists."""

    table: int
    trigger: Trigger


class Step:
    """The managed triggers of a run of migrations."""

    def __init__(self, files: Sequence[SqlFile]) -> None:
        self._triggers = list(expected.read(files).triggers.values())
        self._rules = {file.rule[0] for file in files if file.rule}
        self._known: set[tuple[int, str]] = set()  # managed ones by table, which may be renamed
        self._detached: dict[tuple[int, str], Detached] = {}
        self._pending: dict[tuple[int, str], Detached] = {}
        self._dropped: dict[tuple[int, str], Detached] = {}  # in this transaction
        self._lost: dict[tuple[int, str], Detached] = {}  # off when a revision failed
        self._failed = ""
        self._seen: set[Touch] = set()
        self._warned: set[str] = set()

    def around(
        self, function: Callable[..., Any], connection: Connection, revision: str
    ) -> Callable[..., Any]:
        """Return a revision's function, with the managed triggers kept from its statements.

        Where its module says `keep_triggers = True` they stay in force.
        """
        keep = getattr(function, "__globals__", {}).get("keep_triggers", False)
        if keep or not (self._triggers or self._rules):
            return function

        @functools.wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            with self._listening(connection, revision):
                returned = function(*args, **options)
                self._give_back(Session(connection), revision)
            return returned

        return run

    @contextlib.contextmanager
    def _listening(self, connection: Connection, revision: str) -> Iterator[None]:
        """Watch the statements and commits of a connection for the length of a block."""

        def of_ours(conn: Connection) -> bool:
            ours = connection.connection.dbapi_connection
            return conn.connection.dbapi_connection is ours

        def before(conn: Connection, cursor: Any, statement: str, *_: Any) -> None:
            if of_ours(conn):
                self._before(Session(connection), statement, revision)

        def commit(conn: Connection) -> None:
            if of_ours(conn):
                self._committing(Session(connection), revision)

        def rolled_back(conn: Connection, *_: Any) -> None:
            if of_ours(conn):
                self._rolled_back()

        try:
            with listening(
                before_cursor_execute=before,
                commit=commit,
                rollback=rolled_back,
                rollback_savepoint=rolled_back,
            ):
                yield
        except BaseException:
            self._lost, self._failed = {**self._dropped, **self._detached}, revision
            raise
        finally:
            self._detached.clear()
            self._dropped.clear()
            self._seen.clear()

    @property
    def lost(self) -> list[str]:
        """Return the triggers that were off when a revision failed."""
        return [f"{trigger.name} on {trigger.shown}" for trigger in self._lost.values()]

    def restore(self, connection: Connection) -> None:
        """Create the lost triggers again, and commit.

        A rollback has brought them back, unless the revision had committed with its driver.
        """
        self._detached, self._lost = self._lost, {}
        self._give_back(Session(connection), self._failed)
        connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]

    def _committing(self, session: Session, revision: str) -> None:
        self._give_back(session, revision)
        self._dropped.clear()

    def _rolled_back(self) -> None:
        """Prepare for the rollback of the transaction or a part of it.

        It may bring triggers back, which are looked for again, or drop those given back since.
        """
        self._seen.clear()
        self._detached = {**self._dropped, **self._detached}

    def _before(self, session: Session, statement: str, revision: str) -> None:
        if self._detached and session.idle:
            self._committing(session, revision)  # the driver has committed
        new = [touch for touch in touches(statement) if touch not in self._seen]
        if not new:
            return
        if session.autocommit:
            self._warn(new, revision, "outside a transaction")
            return
        kinds = {touch.kind for touch in new}
        if kinds & {"commits", "returns"}:
            if "commits" in kinds:
                self._committing(session, revision)
            else:
                self._rolled_back()
            self._warn(new, revision, "in a statement that ends the transaction")
            return
        if any(touch.kind == "defines" for touch in new):
            # the revision speaks of triggers, or renames what they name: they are as it knows them
            self._managed(session)
            self._give_back(session, revision)
        self._detach(session, [touch for touch in new if touch.kind != "defines"], revision)
        self._seen |= {touch for touch in new if touch.kind not in ("defines", "names")}

    def _warn(self, new: Iterable[Touch], revision: str, how: str) -> None:
        tables = {trigger.table for trigger in self._triggers}
        for touch in new:
            if (
                touch.table in tables
                and touch.kind != "defines"
                and touch.table not in self._warned
            ):
                self._warned.add(touch.table)
                report.say(
                    f"warning: revision {revision} touches {touch.table} {how}: "
                    "its triggers stay in force"
                )

    def _detach(self, session: Session, new: Sequence[Touch], revision: str) -> None:
        """Drop the managed triggers on the tables, and on those that their rows lead to."""
        tables = [name for touch in new for name in self._tables(session, touch)]
        if not tables:
            return
        oids = [oid for oid in resolved(session, tables) if oid is not None]
        if not oids:
            return
        deletes = any(touch.kind in ("deletes", "names") for touch in new)
        self._managed(session)
        for each in Detached.on(session, oids, deletes=deletes):
            key = each.table, each.name
            if key in self._known or each.name in self._rules:
                self._drop(session, each, revision)

    def _drop(self, session: Session, trigger: Detached, revision: str) -> None:
        if trigger.drop(session):
            key = trigger.table, trigger.name
            self._detached[key] = self._dropped[key] = trigger
            self._pending.pop(key, None)
        elif trigger.shown not in self._warned:
            self._warned.add(trigger.shown)
            report.say(
                f"warning: revision {revision} touches {trigger.shown}, which the role does not"
                " own: its triggers stay in force"
            )

    def _tables(self, session: Session, touch: Touch) -> Iterator[str]:
        if touch.kind != "names":
            yield touch.table
            return
        tables = {trigger.table for trigger in self._triggers}
        if self._rules:
            tables |= with_triggers(session, self._rules)
        for table in tables:
            name = table.rpartition(".")[2].strip('"')
            if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", touch.table, re.IGNORECASE):
                yield table

    def _managed(self, session: Session) -> list[_Managed]:
        oids = resolved(session, [trigger.table for trigger in self._triggers])
        managed = [
            _Managed(oid, trigger)
            for oid, trigger in zip(oids, self._triggers, strict=True)
            if oid is not None
        ]
        self._known |= {(each.table, each.trigger.name) for each in managed}
        return managed

    def _give_back(self, session: Session, revision: str) -> None:
        """Create the triggers again that were dropped, and those that could not be before."""
        if self._detached and session.idle:  # the driver has committed that they are dropped
            with session.own_transaction():
                self._create(session, revision)
        else:
            self._create(session, revision)

    def _create(self, session: Session, revision: str) -> None:
        waiting = {**self._pending, **self._detached}
        self._detached.clear()
        self._pending.clear()
        self._seen.clear()
        if not waiting or session.autocommit:
            self._pending = waiting
            return
        files = {(each.table, each.trigger.name): each.trigger for each in self._managed(session)}
        for key, trigger in waiting.items():
            if fault := trigger.give_back(session, files.get(key)):
                self._pending[key] = trigger
                report.say(
                    f"warning: trigger {trigger.name} on {trigger.shown} cannot be created again"
                    f" after revision {revision}: {fault}"
                )
