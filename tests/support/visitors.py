"""People with a browser, without one: they follow the clinic's pages and fill in their forms."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from clinics import Clinic
from offices import CHEAP, no_sweeps, url_of
from offices import PASSWORD as PASSWORD
from waiting import until

if TYPE_CHECKING:  # each run of any test imports this file
    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
_ACCOUNT = """
SELECT u.username FROM users u
JOIN hospitals h USING (hospital_id)
JOIN user_role_mapping m USING (user_id)
JOIN role_master r USING (role_id)
LEFT JOIN staff s ON s.staff_id = u.staff_id
WHERE h.code = %s AND r.code = %s AND u.is_active AND s.left_on IS NULL ORDER BY u.user_id
"""
_ID = "SELECT user_id FROM users WHERE username = %s"
_WAITERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query ILIKE %s
"""

# ends the session of the first COMMIT after a write to a table
_ENDS = """
CREATE SEQUENCE ended;
CREATE FUNCTION end_once() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF nextval('ended') = 1 THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ends AFTER INSERT OR UPDATE ON {} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION end_once()
"""
_WHOLE = "DROP FUNCTION end_once() CASCADE; DROP SEQUENCE ended"


class Visitor:
    """Somebody at a browser; `page` is what was answered last."""

    def __init__(self, app: Flask, username: str = "", *, address: str = "127.0.0.1") -> None:
        self.client: FlaskClient = app.test_client()
        self.client.environ_base["REMOTE_ADDR"] = address
        self.username = username
        self.page: TestResponse | None = None

    def get(self, path: str, **options: Any) -> TestResponse:
        """Follow a link."""
        self.page = self.client.get(path, buffered=True, **options)
        return self.page

    def post(self, path: str, data: Any = None, **options: Any) -> TestResponse:
        """Send a form, with the token that the last page has."""
        fields = {"csrf_token": self.token(), **(data or {})}
        self.page = self.client.post(path, data=fields, **options)
        return self.page

    def token(self) -> str:
        """Return the token of the forms of this browser."""
        if self.page is None or not _TOKEN.search(self.page.text):
            self.get("/account", follow_redirects=True)
        assert self.page is not None
        found = _TOKEN.search(self.page.text)
        assert found, self.page.text
        return found[1]

    def log_in(self, username: str = "", password: str = PASSWORD, **fields: str) -> TestResponse:
        """Log in by the form."""
        self.username = username or self.username
        return self.post("/login", {"username": self.username, "password": password, **fields})

    def cookie(self) -> str:
        """Return the value of the session's cookie, empty without one."""
        found = self.client.get_cookie("clinic")
        return found.value if found else ""

    def with_cookie(self, value: str) -> Visitor:
        """Return another browser with a cookie that was copied."""
        other = Visitor(self.client.application, self.username)
        other.client.set_cookie("clinic", value)
        return other


class Site:
    """The clinic's application over a database of its own, and who visits it."""

    def __init__(self, app: Flask, clinic: Clinic) -> None:
        self.app, self.clinic = app, clinic
        self._known: dict[tuple[str, int], Visitor] = {}

    def username(self, role: str, hospital: int = 1, *, number: int = 0) -> str:
        """Return the name of an account with a role."""
        return str(self.clinic.run(_ACCOUNT, f"H{hospital:04}", role)[number][0])

    def user_id(self, username: str) -> str:
        """Return the ID of an account."""
        return str(self.clinic.value(_ID, username))

    def anyone(self, *, address: str = "127.0.0.1") -> Visitor:
        """Return somebody who has not logged in."""
        return Visitor(self.app, address=address)

    def visitor(self, role: str, hospital: int = 1) -> Visitor:
        """Return somebody with a role who has logged in, once in a module."""
        if (role, hospital) not in self._known:
            self._known[role, hospital] = self.another(self.username(role, hospital))
        return self._known[role, hospital]

    def another(self, username: str) -> Visitor:
        """Return somebody who has just logged in."""
        visitor = Visitor(self.app, username)
        answer = visitor.log_in()
        assert (answer.status_code, answer.location) == (302, "/"), answer.text
        return visitor

    def together(self, table: str, works: list[Callable[[], Any]], *, waiting: str) -> list[Any]:
        """Run works until each waits for a table with a statement like `waiting`; let them go."""
        results: list[Any] = [None] * len(works)

        def one(n: int) -> None:
            results[n] = works[n]()

        threads = [threading.Thread(target=one, args=(n,)) for n in range(len(works))]
        with self.locked(table):
            for thread in threads:
                thread.start()
            until(lambda: self.clinic.value(_WAITERS, waiting) >= len(works))
        for thread in threads:
            thread.join()
        return results

    @contextmanager
    def locked(self, table: str) -> Iterator[None]:
        """Keep everybody from writing to a table."""
        with self.clinic.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"BEGIN; LOCK TABLE {table} IN SHARE MODE")
            yield
            cursor.execute("ROLLBACK")
        connection.close()

    @contextmanager
    def ending(self, table: str) -> Iterator[None]:
        """Cut the connection of the first one who commits after a write to a table."""
        self.clinic.run(_ENDS.format(table))
        try:
            yield
            assert self.clinic.value("SELECT is_called FROM ended")  # it came to that
        finally:
            self.clinic.run(_WHOLE)


@contextmanager
def opened_site(clinic: Clinic, *, url: str = "", **security: Any) -> Iterator[Site]:
    """Yield the application with settings of its own."""
    from clinic.web import create_app
    from clinic.web.factory import clinic as shared

    app = create_app("test", url=url or url_of(clinic), security={**CHEAP, **security})
    try:
        with no_sweeps():
            yield Site(app, clinic)
    finally:
        with app.app_context():
            shared().service.dispose()
            shared().aside.dispose()


@pytest.fixture(scope="module")
def open_site(office_clinic: Clinic) -> Iterator[tuple[Site, str]]:
    """Return the application, over the rows of the small seed, and the folder of its project."""
    root = os.environ["PGTASKS_ROOT"]
    with opened_site(office_clinic) as made:
        yield made, root


@pytest.fixture
def site(open_site: tuple[Site, str], monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return the application of the module."""
    made, root = open_site
    monkeypatch.setenv("PGTASKS_ROOT", root)  # each test begins without it
    return made
