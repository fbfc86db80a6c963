"""Checks of the service for applications, on the scratch databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pgtasks import report
from pgtasks.errors import NotProven, PgtasksError
from pgtasks.service.database import DatabaseService
from pgtasks.service.health import check_health
from pgtasks.verify import backups, restores, rows
from pgtasks.verify.check import Check, as_refused, expect
from pgtasks.verify.place import Place
from pgtasks.verify.scratch import Scratch

_COUNT = text(f"SELECT count(*) FROM {rows.NAME}")
_INSERT = text(f"INSERT INTO {rows.NAME} (id, label) VALUES (:id, 'by the service')")
_DELETE = text(f"DELETE FROM {rows.NAME} WHERE id < 0")


@contextmanager
def _service(scratch: Scratch) -> Iterator[DatabaseService]:
    url = scratch.target.here().url(reveal=True, driver="psycopg2")
    service = DatabaseService(scratch.environment, url=url)
    try:
        yield service
    finally:
        service.dispose()


def _count(service: DatabaseService) -> int:
    with service.session(read_only=True) as session:
        return int(session.execute(_COUNT).scalar_one())


def units(place: Place) -> str:
    """Commit a block, roll one back, and leave a block within a block."""
    with _service(place.first) as service:
        before = _count(service)
        try:
            with service.session() as session:
                session.execute(_INSERT, {"id": -1})
            expect(_count(service) == before + 1, "a block was left, and its row is not there")
            _raised(service, -2)
            expect(_count(service) == before + 1, "a block raised, and its row is there")
            with service.session() as session:
                session.execute(_INSERT, {"id": -3})
                _raised(service, -4)
            expect(_count(service) == before + 2, "a savepoint was not rolled back alone")
        finally:
            with service.session() as session:
                session.execute(_DELETE)
    return "committed, rolled back, and a savepoint alone"


def _raised(service: DatabaseService, id: int) -> None:
    """Leave a block that has written a row by an error."""
    with suppress(LookupError), service.session(nested=True) as session:
        session.execute(_INSERT, {"id": id})
        raise LookupError("as an application's own error would")


def reads_only(place: Place) -> str:
    """Write in a block that only reads: the server refuses, and the next block may write."""
    with _service(place.first) as service:
        message = ""
        try:
            with service.session(read_only=True) as session:
                session.execute(_INSERT, {"id": -1})
        except DBAPIError as exc:
            message = _words(exc)
        wrong = message or "a block with read_only=True has written a row"
        expect("read-only" in message, wrong)
        try:
            with service.session() as session:
                session.execute(_INSERT, {"id": -1})
        finally:
            with service.session() as session:
                session.execute(_DELETE)
    return as_refused(message)


def _words(exc: DBAPIError) -> str:
    return str(exc.orig).strip().partition("\n")[0]


def goes_on(place: Place) -> str:
    """Restore the database under a service that has connections open."""
    with _service(place.first) as service:
        before = _count(service)
        done = restores.restored(place.first, backups.kept(place))
        try:
            after = service.run(lambda session: int(session.execute(_COUNT).scalar_one()))
        except DBAPIError as exc:
            raise NotProven(f"the first unit afterwards failed: {_words(exc)}") from None
    expect(after == before, f"{after} rows after a restore, {before} before")
    return f"swapped in {report.duration(done.swapped.seconds)} under open connections"


def another_stamp(place: Place) -> str:
    """Open the database of the first environment as the second."""
    with _service(place.second.at(place.first.target.database)) as service:
        try:
            _count(service)
        except PgtasksError as exc:
            expect(place.first.name in exc.message, f"it names no environment: {exc.message}")
            return as_refused(exc.message.replace(f"verify-{place.run}-", "verify-"))
    raise NotProven("the service has opened another environment's database")


def health(place: Place) -> str:
    """Ask for the health of the database, and of one that does not exist."""
    with _service(place.first) as service:
        found = check_health(service)
    expect(found.ok, f"not healthy: {found.reason}")
    expect(found.stamp == place.first.name, f"it says that the stamp is {found.stamp!r}")
    name = f"{place.first.target.database[:40]}_missing"
    with _service(place.first.at(name)) as service:
        ill = check_health(service)
    expect(not ill.ok and "does not exist" in ill.reason, f"a missing one: {ill.reason or 'ok'}")
    return f"answered in {found.milliseconds:.0f} ms; a missing database is unhealthy"


CHECKS = (
    Check("service", "a block commits, or rolls back", units),
    Check("service", "a read-only block cannot write", reads_only),
    Check("service", "it goes on after a restore under it", goes_on),
    Check("service", "another environment's database is refused", another_stamp),
    Check("service", "the health says what is wrong", health),
)
