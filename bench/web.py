"""The clinic's API on two ways to its database: `python -m bench.web ROUTE NUMBER USER`.

The routes, the checks of token and permission and the statements are the same. `pgtasks` is the
application as it is; `flask-sqlalchemy` has the session of Flask-SQLAlchemy under it, with the
options that it has by itself. Both are in one process and take turns of a few requests, which go
straight into the application, without a network. Prints the seconds of one request of each as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median
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

_ROWS = 20
_PASSWORD = "clinic-demo"  # of every account of the sample data
_UNLIMITED = {"login_rate": 100_000, "api_rate": 1_000_000}
_WARM = 50  # requests before those that are timed
_TURN = 10  # requests


def main(route: str, number: str, username: str) -> None:
    """Send requests to both applications in turns and print what one of them takes."""
    login = posted("/api/auth/login", {"username": username, "password": _PASSWORD})
    sending = {
        name: (app, _request(app, route, login))
        for name, app in {"pgtasks": ours(), "flask-sqlalchemy": theirs()}.items()
    }
    for app, environ in sending.values():
        timed(app, environ, _WARM)
    if route == "read":
        _refuse_different([sent(*each)["items"] for each in sending.values()])
    turns: dict[str, list[float]] = {name: [] for name in sending}
    for _ in range(int(number) // _TURN):
        for name, (app, environ) in sending.items():
            turns[name].append(timed(app, environ, _TURN))
    print(json.dumps({name: median(seconds) for name, seconds in turns.items()}))


def _request(app: Flask, route: str, login: Environ) -> Environ:
    if route == "login":
        return login
    return got(f"/api/patients?limit={_ROWS}", sent(app, login)["access_token"])


def _refuse_different(lists: list[list[Any]]) -> None:
    if len(lists[0]) != _ROWS or lists[0] != lists[1]:
        raise SystemExit(f"they answer with {[len(each) for each in lists]} rows")


def timed(app: Flask, environ: Environ, number: int) -> float:
    """Return the seconds that one of some requests takes."""
    began = time.perf_counter()
    for _ in range(number):
        sent(app, environ)
    return (time.perf_counter() - began) / number


def ours() -> Flask:
    """Return the clinic's application."""
    return create_app(security=_UNLIMITED)


class BareService:
    """Run units as a view on Flask-SQLAlchemy does: its session, a commit at the end.

    `aside` has a session of its own, on the same engine: what it commits is not the request's.
    """

    def __init__(self, db: SQLAlchemy, name: str, *, aside: bool = False) -> None:
        self._db, self.name, self._aside = db, name, aside

    @property
    def engine(self) -> Engine:
        """The engine of the application."""
        return self._db.engine

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """Open a block on the session of the request, or on one of its own."""
        if self._aside:
            with Session(self._db.engine) as session, session.begin():
                yield session
            return
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
    db = SQLAlchemy(app)
    service, aside = (BareService(db, clinic.environment, aside=each) for each in (False, True))
    app.extensions["clinic"] = replace(
        clinic, service=cast(DatabaseService, service), aside=cast(DatabaseService, aside)
    )
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
