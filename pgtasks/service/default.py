"""The service of this process, behind functions: most applications have one database."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from pgtasks.errors import Refused
from pgtasks.host import baseline
from pgtasks.service import environment, health
from pgtasks.service.changes import Change, Subscriber
from pgtasks.service.database import DatabaseService
from pgtasks.service.health import Health
from pgtasks.service.statements import LOGGER
from pgtasks.service.unit import Inner, Outermost

if TYPE_CHECKING:
    from flask import Flask

Result = TypeVar("Result")

_lock = threading.RLock()
_service: DatabaseService | None = None


def _renew() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # another thread may hold it as a process is forked
    os.register_at_fork(after_in_child=_renew)


def initialize_database(
    app: Flask | None = None, *, env: str | None = None, url: str = "", **options: Any
) -> DatabaseService:
    """Choose the database of this process and return its service; nothing is connected to.

    The parameters are those of DatabaseService. A second call replaces the first one's, whose
    connections are closed. With a Flask application, its requests end with their blocks closed;
    settings of its security that are not secure in a protected environment are refused.
    """
    global _service
    if isinstance(app, str):
        raise Refused(f"{app!r} is no Flask application: initialize_database(env={app!r})")
    made = DatabaseService(env, url=url, **options)
    if app is not None:
        made.environment.security()
    _compare(made)
    with _lock:
        before, _service = _service, made
    if before is not None:
        before.unwatch()
        before.dispose()
    if app is not None:
        from pgtasks.service.flask import init_app

        init_app(app, service)
    return made


def _compare(made: DatabaseService) -> None:
    """Write an entry into the journal for settings that differ from those of the last process."""
    project = environment.find_project(made.root)
    # a test has a database of its own each time; a folder of this account would shut others out
    if "PYTEST_CURRENT_TEST" in os.environ or not project.folder("backups").is_dir():
        return
    try:
        baseline.note(project, made.environment, "service")
    except OSError as exc:
        LOGGER.info("the settings were not compared with the last run's: %s", exc.strerror)


def _current() -> DatabaseService:
    return service()


def service() -> DatabaseService:
    """Return the service of this process, made at the first call."""
    if _service is None:
        with _lock:
            if _service is None:
                return initialize_database()
    return _service


@contextmanager
def set_aside() -> Iterator[None]:
    """Put the service of this process aside: what runs within makes another one at its first use.

    A test does so, since an application that was imported before it has chosen its database.
    """
    global _service
    before, _service = _service, None
    try:
        yield
    finally:
        forget()
        _service = before


def forget() -> None:
    """Let the next use make another service of this process."""
    global _service
    with _lock:
        before, _service = _service, None
    if before is not None:
        before.unwatch()
        before.dispose()


def get_db_session(*, read_only: bool = False, nested: bool | None = None) -> Outermost | Inner:
    """Open a block with a session: see DatabaseService.session."""
    return service().session(read_only=read_only, nested=nested)


def run(unit: Callable[[Session], Result], *, read_only: bool = False, retries: int = 1) -> Result:
    """Call `unit` with a session, once more where that may help: see DatabaseService.run."""
    return service().run(unit, read_only=read_only, retries=retries)


def get_db_engine() -> Engine:
    """Return the engine of this process."""
    return service().engine


def check_health(service: DatabaseService | None = None) -> Health:
    """Ask the database of a service, by default that of this process, in a connection of its own.

    It takes seconds at most, and never raises for the database's state.
    """
    return health.check_health(service or _current())


def get_active_env() -> str:
    """Return the environment whose database this process uses, or would use."""
    return _service.name if _service is not None else environment.discover()


def get_database_url(env: str | None = None, *, hide_password: bool = False) -> str:
    """Return the URL that this process connects to, with the driver of SQLAlchemy."""
    url = DatabaseService(env).url if env is not None else service().url
    return url.render_as_string(hide_password=hide_password)


def get_database_url_for_env(env: str, *, hide_password: bool = False) -> str:
    """Return the URL of another environment's database, with the driver of SQLAlchemy."""
    return get_database_url(env, hide_password=hide_password)


def reload() -> Change:
    """Read the settings again, and return what has changed: see DatabaseService.reload."""
    return service().reload()


def subscribe(call: Subscriber) -> Callable[[], None]:
    """Call a function after each change of the settings: see DatabaseService.subscribe."""
    return service().subscribe(call)


def watch_settings(seconds: float = 2.0) -> None:
    """Reload the settings whenever their files change: see DatabaseService.watch."""
    service().watch(seconds)


def set_debug_mode(on: bool = True) -> None:
    """Log each statement with its time and its caller, without values."""
    service().statements.turn(on)


def use_nested_transactions(on: bool = True) -> None:
    """Make a block within a block a savepoint, or (off) a part of the outer one."""
    service().nested = on
