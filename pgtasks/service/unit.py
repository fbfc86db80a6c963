"""A unit of work: one session, one transaction, blocks within blocks.

The open unit of a service is in a context variable, with the thread and the asyncio task that
opened it: `asyncio.to_thread` and new tasks inherit the variable, and must not share the session.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

from pgtasks.errors import Failed, Refused, Unreachable

Opened = ContextVar["Unit | None"]
_commits: ContextVar[int] = ContextVar("pgtasks.service.commits", default=0)


class CommitUnknown(Unreachable):
    """The connection was lost while COMMIT was under way: the server may have done it or not."""


class UnitSession(Session):
    """A session of a unit, whose transaction is committed as its outermost block is left.

    `failed` is why it can only be rolled back, `committed` whether a COMMIT of it was done.
    """

    depth = 0  # of blocks within the outermost one
    writes = True
    failed = ""
    committed = False
    ended = False
    process = 0  # that has opened it: a child that it forks inherits the object

    @property
    def is_inherited(self) -> bool:
        """Whether it is the parent's of this process, in whose hands its transaction is."""
        return self.process != os.getpid()

    def commit(self) -> None:
        """Commit before the outermost block is left, raising Refused in a block within it."""
        if self.depth:
            raise Refused(
                "session.commit() in a block within another would commit the outer one's work too: "
                "use session.flush(), the outermost block commits"
            )
        if self.is_inherited:
            raise Refused(
                "a block of the process that forked this one is left here: that one commits it, "
                "open one of your own with get_db_session()"
            )
        if self.failed:
            raise Failed(
                f"nothing was committed: a block within this one failed ({self.failed}), and its "
                "work cannot be told apart: use_nested_transactions(True) gives it a savepoint"
            )
        self.flush()
        if not self.in_transaction():
            return  # nothing was done: SQLAlchemy would begin a transaction to commit that
        committing = self.writes
        try:
            super().commit()
        except DBAPIError as lost:
            if not (committing and lost.connection_invalidated):
                raise
            raise CommitUnknown(
                "the connection was lost while COMMIT was under way: whether the work is done is "
                "not known, look before you repeat it"
            ) from lost
        if committing:
            self.committed = True
            _commits.set(_commits.get() + 1)

    def rollback(self) -> None:
        """Roll back before the outermost block is left, raising Refused in a block within it."""
        if self.depth:
            raise Refused(
                "session.rollback() in a block within another would roll back the outer one's work "
                "too: an error that leaves the inner block rolls back that alone"
            )
        super().rollback()

    def close(self) -> None:
        """Close before the outermost block is left, raising Refused in a block within it."""
        if self.depth:
            raise Refused(
                "session.close() in a block within another would roll back the outer one's work "
                "too: each block closes itself"
            )
        super().close()

    def end(self) -> None:
        """Roll back what is not committed, for good."""
        self.depth, self.ended = 0, True
        if self.is_inherited:
            self.invalidate()  # a ROLLBACK would be the parent's
        else:
            self.close()


@dataclass(eq=False)
class Unit:
    """An open unit; `owner` is its process, thread and task."""

    session: UnitSession
    read_only: bool
    owner: tuple[int, int, object]

    @property
    def is_here(self) -> bool:
        """Whether it is open, and of what runs now."""
        return not self.session.ended and self.owner == owner()


def commits() -> int:
    """Return how often units that may write were committed in this context."""
    return _commits.get()


def owner() -> tuple[int, int, object]:
    """Return the process, the thread and the asyncio task that run now."""
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio.current_task() if asyncio is not None else None
    except RuntimeError:  # no loop runs in this thread
        task = None
    return os.getpid(), threading.get_ident(), task


def current(opened: Opened) -> Unit | None:
    """Return the open unit of this thread and task."""
    unit = opened.get()
    return unit if unit is not None and unit.is_here else None


class Block:
    """What both kinds of blocks share: neither is a session."""

    if not TYPE_CHECKING:  # a type checker names an unknown attribute itself

        def __getattr__(self, name: str) -> NoReturn:
            words = f"{type(self).__name__!r} object has no attribute {name!r}"
            if not name.startswith("_"):
                words = (
                    f"a block has no {name!r}, its session has: with get_db_session() as session"
                )
            raise AttributeError(words)


class Outermost(Block):
    """A block that opens a unit: it commits as it is left, and rolls back after an error."""

    def __init__(self, opened: Opened, make: Callable[[], UnitSession], *, read_only: bool) -> None:
        self._opened, self._make, self._read_only = opened, make, read_only
        self._token: Token[Unit | None]

    def __enter__(self) -> Session:
        if current(self._opened) is not None:
            raise Refused(
                "a block that was made before another one is entered within that: make it where it "
                "begins, with get_db_session()"
            )
        self.unit = Unit(self._make(), self._read_only, owner())
        self.unit.session.writes = not self._read_only
        self.unit.session.process = os.getpid()
        self._token = self._opened.set(self.unit)
        return self.unit.session

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            try:
                self._opened.reset(self._token)
            except ValueError:
                pass  # left in another context: there it is not the current one
            if kind is None:
                self.unit.session.commit()
        finally:
            self.unit.session.end()

    @property
    def committed(self) -> bool:
        """Whether something of it was committed."""
        return self.unit.session.committed


class Inner(Block):
    """A block within a unit: a savepoint of it, or a part of it."""

    committed = False

    def __init__(self, unit: Unit, *, read_only: bool, savepoint: bool) -> None:
        if unit.read_only and not read_only:
            raise Refused(
                "a block that writes is within a read-only one: open it outside, or open the outer "
                "one without read_only"
            )
        self._unit = unit
        self._restricts = read_only and not unit.read_only
        # a transaction that was made read-only can write again only after its savepoint
        self._savepoint = savepoint or self._restricts
        self._nested: SessionTransaction | None = None

    def __enter__(self) -> Session:
        session = self._unit.session
        if not self._unit.is_here:
            raise Refused(
                "a block within another is entered where that is not open: make it where it "
                "begins, with get_db_session()"
            )
        if self._savepoint:
            self._nested = session.begin_nested()
            self._nested.__enter__()
            if self._restricts:
                session.execute(text("SET TRANSACTION READ ONLY"))
        session.depth += 1
        return session

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._unit.session.depth -= 1
        if self._unit.session.is_inherited:
            return  # its savepoint is the parent's
        if self._nested is None:
            if kind is not None:
                session = self._unit.session
                session.failed = session.failed or kind.__name__
        elif kind is None and self._restricts:
            self._loosen(self._nested)
        else:
            self._nested.__exit__(kind, exc, trace)

    def _loosen(self, nested: SessionTransaction) -> None:
        """Give up the savepoint, after which the transaction may write again."""
        try:
            self._unit.session.flush()  # what was added meanwhile is refused, not forgotten
        except BaseException:
            nested.__exit__(*sys.exc_info())
            raise
        nested.rollback()
        nested.__exit__(None, None, None)
