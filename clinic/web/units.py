"""Units of work in the name of a user: triggers and row-level security know who it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from flask import current_app
from sqlalchemy import text
from sqlalchemy.orm import Session

from clinic.web.identity import Identity
from pgtasks.service import DatabaseService

Result = TypeVar("Result")

_NAME = text(
    "SELECT set_config('clinic.user', :username, true),"
    " set_config('clinic.hospital', :hospital, true)"
)


@contextmanager
def unit(identity: Identity, *, read_only: bool = False) -> Iterator[Session]:
    """Open a block as a user; it commits as it is left."""
    with _service().session(read_only=read_only) as session:
        name(session, identity)
        yield session


def run(
    identity: Identity, work: Callable[[Session], Result], *, read_only: bool = False
) -> Result:
    """Call `work` with a session as a user, once more where its connection was lost."""

    def named(session: Session) -> Result:
        name(session, identity)
        return work(session)

    return _service().run(named, read_only=read_only)


def name(session: Session, identity: Identity) -> None:
    """Name the user of the transaction, to its end."""
    session.execute(_NAME, {"username": identity.username, "hospital": str(identity.hospital_id)})


def _service() -> DatabaseService:
    service: DatabaseService = current_app.extensions["pgtasks"]
    return service
