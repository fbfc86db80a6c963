"""Transactions beside that of the request: what is counted or logged outlives its rollback.

Their connections are of a pool of their own: a request that holds a connection never waits for a
second one of the same pool, which its like may hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from clinic.web import units
from clinic.web.factory import clinic
from clinic.web.identity import Identity

Result = TypeVar("Result")


def run(work: Callable[[Session], Result], *, identity: Identity | None = None) -> Result:
    """Call `work` with a session, as a user if one is given, and commit.

    It is called once more where its connection was lost before the COMMIT.
    """

    def named(session: Session) -> Result:
        if identity is not None:
            units.name(session, identity)
        return work(session)

    return clinic().aside.run(named)


def row(statement: str, **parameters: Any) -> Row[Any] | None:
    """Run one statement in a transaction of its own and return its first row."""
    return run(lambda session: session.execute(text(statement), parameters).first())
