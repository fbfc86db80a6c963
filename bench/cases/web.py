"""Requests to the sample application's API, on our sessions and on those of Flask-SQLAlchemy."""

from __future__ import annotations

import json
from dataclasses import replace

from bench.contest import Bench, Contender
from bench.measure import Sample
from bench.rows import Row, compared, extra
from bench.workspace import Workspace

NAME = "web"
_BOTH = "both in turns"
OURS, THEIRS = "pgtasks", "flask-sqlalchemy"
# what is sent, how often, what it is called
ROUTES = (("read", 2000, "a list of 20 patients, with a token"), ("login", 200, "a login"))
_SCALE = "small"  # a request takes what it takes, whatever the size
_USER = """
SELECT u.username FROM users u JOIN user_role_mapping m USING (user_id)
JOIN role_master r USING (role_id) JOIN staff s USING (staff_id)
WHERE r.code = 'receptionist' AND u.is_active AND s.left_on IS NULL ORDER BY u.user_id LIMIT 1"""


def run(bench: Bench) -> list[Row]:
    """Return a row for each route."""
    space = bench.space
    space.load(_SCALE)
    user = str(space.server.value(_USER, _SCALE))
    return [_row(bench, space, route, user) for route in ROUTES]


def _row(bench: Bench, space: Workspace, route: tuple[str, int, str], user: str) -> Row:
    path, number, what = route

    def requests() -> Sample:
        sample = space.python("bench.web", path, str(number), user, PGTASKS_ENV=_SCALE)
        return replace(sample, extra=json.loads(sample.output))

    found = bench.contest(f"{NAME} {path}", [Contender(_BOTH, requests)])[_BOTH]
    ours, theirs = ((name, [_of(sample, name) for sample in found]) for name in (OURS, THEIRS))
    return compared(NAME, what, ours, theirs, pick=extra("request"), unit="us")


def _of(sample: Sample, name: str) -> Sample:
    return replace(sample, extra={"request": sample.extra[name]})
