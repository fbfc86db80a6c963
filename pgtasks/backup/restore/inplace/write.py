"""The transaction that drops what is in the live database, loads the backup and compares.

Everything is in it, the stamp too. Nothing is committed before the rows equal the proof, so that a
kill at any moment leaves the old content or the new one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from psycopg2 import sql

from pgtasks.backup.restore import locking, rolemap
from pgtasks.backup.restore.build import mark
from pgtasks.backup.restore.commit import Commit, transaction
from pgtasks.backup.restore.inplace import clear, script
from pgtasks.backup.restore.inplace import standing as live
from pgtasks.backup.restore.inplace.plan import InPlacePlan
from pgtasks.backup.restore.prove import expected_of
from pgtasks.database import intact
from pgtasks.errors import Failed
from pgtasks.host.base import Host
from pgtasks.report import Console
from pgtasks.report.boundaries import boundary
from pgtasks.server import connection, stamp
from pgtasks.server import proof as proofs
from pgtasks.server.connection import Connection
from pgtasks.server.identity import comment_and_stamp
from pgtasks.server.lock import Lock
from pgtasks.server.proof import Comparison, Proof, entries
from pgtasks.server.proof.difference import Difference, accepted
from pgtasks.server.proof.scope import Content
from pgtasks.server.proof.within import within

_IDLE = 120  # seconds between two statements, after which the server rolls back
_FORCED = """
SELECT c.oid::regclass::text FROM pg_class c WHERE c.relforcerowsecurity AND c.relrowsecurity
AND c.relkind = 'r' AND pg_has_role(c.relowner, 'USAGE')
"""


@dataclass(frozen=True)
class Written:
    """What was compared and committed; `locked` are the seconds in which others waited."""

    comparison: Comparison | None
    accepted: tuple[Difference, ...]
    locked: float
    changed: tuple[str, ...] = ()


def write(
    plan: InPlacePlan, conn: Connection, lock: Lock, host: Host, commit: Commit, console: Console
) -> Written:
    """Replace the content, and commit; `conn` is in the live database."""
    with transaction(conn):
        return _Writer(plan, conn, lock, host, commit, console).run()


@dataclass
class _Writer:
    plan: InPlacePlan
    conn: Connection
    lock: Lock
    host: Host
    commit: Commit
    console: Console

    def run(self) -> Written:
        """Do all steps, and commit."""
        conn, base = self.conn, self.plan.base
        began = time.monotonic()  # others queue behind a lock that is waited for
        self._lock()
        boundary("in-place.locked")
        before = intact.look(conn, base.target.database)
        script.guard(conn)
        columns = clear.clear(conn, self.plan.standing)
        boundary("in-place.cleared")
        script.run(
            base, list(self.plan.entries), conn, self.host, self.console, self.lock.connection
        )
        rolemap.run(conn, base.renamed)
        script.whole(conn)
        # what a trigger has deferred runs now: nothing is written after the comparison
        connection.execute(conn, "SET CONSTRAINTS ALL IMMEDIATE")
        boundary("in-place.loaded")
        # the role of the transaction, which code of the backup may have given up
        connection.execute(conn, "RESET ROLE")
        clear.untouched(conn, columns)
        comparison, differences = self._proven()
        changed = intact.put_back(conn, before) if before else []
        self._stamp()
        boundary("in-place.proven")
        self.lock.check()
        query = "SELECT pg_current_xact_id()::text"
        self.commit.transaction = connection.value(conn, query, into=str)
        connection.execute(conn, "COMMIT")
        locked = time.monotonic() - began
        boundary("in-place.committed")
        return Written(comparison, differences, locked, tuple(changed))

    def _lock(self) -> None:
        locking.limit(self.conn, _IDLE)
        if tables := self.plan.standing.tables:
            names = sql.SQL(", ").join(sql.SQL("ONLY " + each.identity) for each in tables)
            locking.exclusively(self.conn, names, [each.oid for each in tables])
        if live.read(self.conn) != self.plan.standing:
            raise Failed("the database was altered since the plan, nothing was changed: try again")

    def _proven(self) -> tuple[Comparison | None, tuple[Difference, ...]]:
        """Compare what was loaded with the proof of the backup."""
        known = self.plan.base.backup.proof()
        if known is None:
            return None, ()
        expected = expected_of(self.plan.base, known)
        with self._unforced(), self.console.progress("prove"):
            actual = within(
                *(self.conn, self.plan.target),
                format=expected.format,
                narrow=lambda content: self._own(content, expected),
            )
        locking.limit(self.conn, _IDLE)
        routed = entries.routed(self.plan.base.archive)
        comparison = proofs.compare(*(proofs.joined(each, routed) for each in (expected, actual)))
        problem = "the loaded content differs from the backup, nothing was changed"
        return comparison, accepted(comparison.differences, self.plan.base.accept, problem)

    def _own(self, content: Content, expected: Proof) -> Content:
        """Return the content without what is of other roles."""
        others = live.of_others(self.conn)
        large = content.large_objects and not (
            expected.large_objects is None and self.plan.standing.large[1]
        )
        return replace(
            content,
            tables=tuple(each for each in content.tables if each.oid not in others),
            sequences=tuple(each for each in content.sequences if each.oid not in others),
            large_objects=large,
        )

    @contextmanager
    def _unforced(self) -> Iterator[None]:
        """Let the owner read its own tables to which row policies apply, for a block."""
        forced = connection.rows(self.conn, _FORCED, into=str)
        for name in forced:
            connection.execute(self.conn, f"ALTER TABLE ONLY {name} NO FORCE ROW LEVEL SECURITY")
        yield
        for name in forced:
            connection.execute(self.conn, f"ALTER TABLE ONLY {name} FORCE ROW LEVEL SECURITY")

    def _stamp(self) -> None:
        """Write where the content is from; the text of the comment stays."""
        target = self.plan.target
        text, before = comment_and_stamp(self.conn, target.database)
        made = replace(mark(self.plan.base), role="live", run="")
        if before is not None:
            made = replace(made, kept_owner=before.kept_owner)
        connection.execute(self.conn, stamp.comment_statement(target.database, text, made))
