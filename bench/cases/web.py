"""Requests to the sample application's API, on our sessions and on those of Flask-SQLAlchemy."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

from bench.contest import Bench, Contender
from bench.measure import Sample
from bench.rows import Row, compared, extra
from bench.workspace import Workspace

NAME = "web"
OURS, THEIRS = "pgtasks", "flask-sqlalchemy"
# what is sent, how often, what it is called
ROUTES = (("read", 1500, "a list of 20 patients, with a token"), ("login", 150, "a login"))
_SCALE = "small"  # a request takes what it takes, whatever the size
_USER = """
SELECT u.username FROM users u JOIN user_role_mapping m USING (user_id)
JOIN role_master r USING (role_id) JOIN staff s USING (staff_id)
WHERE r.code = 'receptionist' AND u.is_active AND s.left_on IS NULL ORDER BY u.user_id LIMIT 1"""


def run(bench: Bench) -> list[Row]:
    """Return a row for each route."""
    space = bench.space
    space.load(_SCALE)
    space.inv("db.run", "--file", "sql/roles/clinic_app.sql", "--env", _SCALE)
    user = str(space.server.value(_USER, _SCALE))
    return [_row(bench, space, route, user) for route in ROUTES]


def _row(bench: Bench, space: Workspace, route: tuple[str, int, str], user: str) -> Row:
    path, number, what = route

    def requests(contender: str) -> Sample:
        words = (contender, path, str(number), user)
        sample = space.python("bench.web", *words, PGTASKS_ENV=_SCALE)
        return replace(sample, extra=json.loads(sample.output))

    contenders = [Contender(name, partial(requests, name)) for name in (OURS, THEIRS)]
    found = bench.contest(f"{NAME} {path}", contenders)
    pair = (OURS, found[OURS]), (THEIRS, found[THEIRS])
    return compared(NAME, what, *pair, pick=extra("request"), unit="us")
