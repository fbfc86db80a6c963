"""The clinic's API on two ways to its database: `python -m bench.web CONTENDER ROUTE NUMBER USER`.

The routes, the checks of token and permission and the statements are the same. `pgtasks` is the
application as it is; `flask-sqlalchemy` has the session of Flask-SQLAlchemy under it, with the
options that it has by itself. Requests go one after another straight into the application, without
a network. Prints the seconds of one request as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from werkzeug.test import EnvironBuilder, run_wsgi_app

from clinic.web import api, create_app, headers
from pgtasks.service import DatabaseService

Result = TypeVar("Result")
Environ = dict[str, Any]

_PASSWORD = "clinic-demo"  # of every account of the sample data
_UNLIMITED = {"login_rate": 100_000, "api_rate": 1_000_000}
_WARM = 50  # requests before those that are timed


def main(contender: str, route: str, number: str, username: str) -> None:
    """Send requests to an application and print what one of them takes."""
    app = {"pgtasks": ours, "flask-sqlalchemy": theirs}[contender]()
    environ = login = posted("/api/auth/login", {"username": username, "password": _PASSWORD})
    if route == "read":
        environ = got("/api/patients?limit=20", sent(app, login)["access_token"])
    for _ in range(_WARM):
        sent(app, environ)
    began = time.perf_counter()
    for _ in range(int(number)):
        sent(app, environ)
    print(json.dumps({"request": (time.perf_counter() - began) / int(number)}))


def ours() -> Flask:
    """Return the clinic's application."""
    return create_app(security=_UNLIMITED)


class BareService:
    """Run units as a view on Flask-SQLAlchemy does: its session, a commit at the end."""

    def __init__(self, db: SQLAlchemy, name: str) -> None:
        self._db, self.name = db, name

    @property
    def engine(self) -> Engine:
        """The engine of the application."""
        return self._db.engine

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """Open a block on the session of the request."""
        yield self._db.session()
        self._db.session.commit()

    def run(self, work: Callable[[Session], Result], *, read_only: bool = False) -> Result:
        """Call a unit once."""
        with self.session() as session:
            return work(session)


def theirs() -> Flask:
    """Return an application with the same routes on Flask-SQLAlchemy."""
    complete = create_app(security=_UNLIMITED)
    clinic = complete.extensions["clinic"]
    app = Flask("bare")
    app.config.update(complete.config)
    app.config["SQLALCHEMY_DATABASE_URI"] = clinic.service.url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "connect_args": {"options": f"-c role={clinic.service.pool.role}"}
    }
    service = cast(DatabaseService, BareService(SQLAlchemy(app), clinic.environment))
    app.extensions["clinic"] = replace(clinic, service=service, aside=service)
    headers.init_app(app, hsts=0)
    CSRFProtect(app)
    api.init_app(app)
    return app


def posted(path: str, body: dict[str, str]) -> Environ:
    """Return the environment of a request with a body."""
    return EnvironBuilder(path, method="POST", json=body).get_environ()


def got(path: str, token: str) -> Environ:
    """Return the environment of a request with a token."""
    builder = EnvironBuilder(path)
    builder.headers["Authorization"] = f"Bearer {token}"
    return builder.get_environ()


def sent(app: Flask, environ: Environ) -> dict[str, Any]:
    """Send a request and return what it is answered with."""
    if (body := environ["wsgi.input"]) is not None:
        body.seek(0)
    answer, status, _ = run_wsgi_app(app.wsgi_app, dict(environ))
    content = b"".join(answer)
    if not status.startswith("200 "):
        raise SystemExit(f"{environ['PATH_INFO']}: {status}: {content[:500]!r}")
    return dict(json.loads(content))


if __name__ == "__main__":
    main(*sys.argv[1:])
