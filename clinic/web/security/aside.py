"""Transactions beside that of the request: what is counted or logged outlives its rollback.

Their connections are of a pool of their own: a request that holds a connection never waits for a
second one of the same pool, which its like may hold. A GET that has committed here may be repeated
all the same, where its own connection is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from clinic.web import units
from clinic.web.factory import clinic
from clinic.web.identity import Identity
from pgtasks.service import CommitUnknown

Result = TypeVar("Result")


def run(
    work: Callable[[Session], Result], *, identity: Identity | None = None, twice: bool = False
) -> Result:
    """Call `work` with a session, as a user if one is given, and commit.

    It is called once more where its connection was lost before the COMMIT; with `twice`, which is
    for what does no harm when it is done twice, also where that was under way.
    """

    def named(session: Session) -> Result:
        if identity is not None:
            units.name(session, identity)
        return work(session)

    # commits are counted in the context: in a copy they are not those of the request
    try:
        return copy_context().run(clinic().aside.run, named)
    except CommitUnknown:
        if not twice:
            raise
    return copy_context().run(clinic().aside.run, named)


def row(statement: str, *, twice: bool = False, **parameters: Any) -> Row[Any] | None:
    """Run one statement in a transaction of its own, as `run` does, and return its first row."""
    return run(lambda session: session.execute(text(statement), parameters).first(), twice=twice)
