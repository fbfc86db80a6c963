"""What a hostile client tries: to hold what others need, to fill what others read, to come back."""

from __future__ import annotations

import io
from typing import Any

from apis import Api, problem
from apis import api as api
from werkzeug.test import create_environ, run_wsgi_app

from clinic.web.factory import clinic


class Observed(io.BytesIO):
    """A body that looks at something as it is read."""

    def __init__(self, body: bytes, look: Any) -> None:
        super().__init__(body)
        self._look, self.seen = look, []

    def read(self, size: int | None = -1) -> bytes:
        self.seen.append(self._look())
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        self.seen.append(self._look())
        return super().readinto(buffer)


def test_a_slow_body_holds_no_connection(api: Api) -> None:
    who = api.another("receptionist")
    with api.app.app_context():
        pool = clinic().service.engine.pool
    text = b'{"first_name": 1}'
    for path, status in (("/api/patients", "422"), ("/api/auth/logout", "204")):
        body = Observed(text, pool.checkedout)
        environ = create_environ(
            path, method="POST", headers={"Authorization": f"Bearer {who.token}"}
        )
        environ |= {"CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(text))}
        answer = run_wsgi_app(api.app, environ | {"wsgi.input": body}, buffered=True)
        assert answer[1].startswith(status), list(answer[0])
        assert body.seen, path
        assert set(body.seen) == {0}


def test_a_body_that_is_too_large_is_refused_before_the_database_is_asked(api: Api) -> None:
    answer = api.caller("receptionist").post("/api/patients", b"x" * ((1 << 20) + 1))
    problem(answer, 413)
