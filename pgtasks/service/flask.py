"""The service in a Flask application: requests that end, requests that repeat, health routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Flask, current_app, g, jsonify, request, request_started
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import ServiceUnavailable

from pgtasks.errors import Unreachable
from pgtasks.service.admission import NotAdmitted
from pgtasks.service.database import pause
from pgtasks.service.health import check_health
from pgtasks.service.statements import LOGGER
from pgtasks.service.unit import commits

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from pgtasks.service.database import DatabaseService

_KEY = "pgtasks"
_RETRY = 1  # seconds, for the header Retry-After


def init_app(app: Flask, service: DatabaseService | Callable[[], DatabaseService]) -> None:
    """Let an application use a service, or the one that a function returns at that time.

    A block that a request leaves open is rolled back at its end. A GET or HEAD whose connection was
    lost is answered by calling its view again, once, if it has committed nothing. Where the
    database does not answer, is another environment's, or all connections of the pool are in use, a
    request ends with 503.
    """
    app.extensions[_KEY] = service
    request_started.connect(_remember, app)  # before all that the application has for that
    app.teardown_request(_close)
    app.register_error_handler(DBAPIError, _repeat)
    app.register_error_handler(Unreachable, _unavailable)
    app.register_error_handler(PoolTimeout, _in_use)
    app.register_error_handler(NotAdmitted, _refused)


def service_of(app: Flask) -> DatabaseService:
    """Return the service that an application uses now."""
    service: DatabaseService | Callable[[], DatabaseService] = app.extensions[_KEY]
    return service() if callable(service) else service


def _service() -> DatabaseService:
    return service_of(current_app)


def _remember(app: Flask, **_: Any) -> None:
    # a test's own block may be open around the request
    g.pgtasks_unit = _service().unit
    g.pgtasks_commits = commits()


def _close(error: BaseException | None) -> None:
    unit = _service().unit
    if unit is None or unit is g.get("pgtasks_unit", unit):
        return
    LOGGER.error("%s left a block open: its work was rolled back", request.endpoint)
    _service().abandon()


def _repeat(error: DBAPIError) -> ResponseReturnValue:
    if not error.connection_invalidated and not _is_connect(error):
        raise error
    if request.method not in ("GET", "HEAD") or g.get("pgtasks_repeated") or _has_committed():
        return _unavailable(error)
    g.pgtasks_repeated = True
    pause(lost=True)
    try:
        return current_app.dispatch_request()
    except Exception as exc:
        # Flask makes a 500 of all that an error handler raises: also of a 404
        return current_app.handle_user_exception(exc)


def _has_committed() -> bool:
    """Return whether the request has committed something, which would be done twice."""
    before: int = g.get("pgtasks_commits", -1)
    return before != commits()


def _is_connect(error: DBAPIError) -> bool:
    """Return whether no connection could be opened: there was no statement yet."""
    return error.statement is None


def _unavailable(error: Exception) -> ResponseReturnValue:
    LOGGER.error("the database does not answer: %s", " ".join(str(error).split()))
    answer = ServiceUnavailable("The database does not answer.", retry_after=_RETRY)
    return current_app.handle_http_exception(answer)  # by the application's own page, if any


def _in_use(error: PoolTimeout) -> ResponseReturnValue:
    LOGGER.error("no connection is free: %s", " ".join(str(error).split()))
    answer = ServiceUnavailable("All connections are in use.", retry_after=_RETRY)
    return current_app.handle_http_exception(answer)


def _refused(error: NotAdmitted) -> ResponseReturnValue:
    LOGGER.error("the database is refused: %s", error.message)
    answer = ServiceUnavailable("The database cannot be used.", retry_after=_RETRY)
    return current_app.handle_http_exception(answer)


def health(*, details: bool = False) -> Blueprint:
    """Return the routes /health/live and /health/ready.

    The second one answers 503 where the database cannot be used, and logs why, once until that
    changes. With `details`, which are not for the public, it says why too, and names environment,
    versions and the state of the pool.
    """
    routes = Blueprint("pgtasks_health", __name__, url_prefix="/health")
    logged = [""]

    @routes.get("/live")
    def live() -> ResponseReturnValue:
        return jsonify(status="ok")

    @routes.get("/ready")
    def ready() -> ResponseReturnValue:
        state = check_health(_service())
        if state.reason not in ("", *logged):
            LOGGER.error("not ready: %s", state.reason)
        logged[0] = state.reason
        body = state.as_json() if details else state.public()
        return jsonify(body), 200 if state.ok else 503

    return routes
