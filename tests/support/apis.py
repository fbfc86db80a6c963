"""The clinic's API over a database of its own for each test module, and who calls it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from clinics import OWNER, Clinic, Templates, cloned, psql
from layout import lay_out
from offices import no_sweeps
from paths import ROOT
from psycopg2 import sql
from servers import Cluster

if TYPE_CHECKING:  # each run of any test imports this file
    from flask import Flask
    from werkzeug.test import TestResponse

PASSWORD = "clinic-demo"  # of every account of the seed
KEY = "a-signing-key-of-the-tests-" + "0123456789abcdef" * 4
OTHER_KEY = "another-signing-key-of-the-tests-" + "0123456789abcdef" * 4
APP_ROLE = "clinic_app"
PROBLEM = "application/problem+json"

# no test is about how long hashing takes, or about a limit unless it says so
SECURITY = {"argon2_memory": 64, "argon2_time": 1, "api_rate": 100_000, "login_rate": 100_000}

_ACCOUNT = """
SELECT u.username FROM users u
JOIN hospitals h USING (hospital_id)
JOIN user_role_mapping m USING (user_id)
JOIN role_master r USING (role_id)
WHERE h.code = %s AND r.code = %s AND u.is_active ORDER BY u.user_id
"""
# in the seed the first hospital has no administrator who can log in
_NOBODY_HAS_LEFT = """
UPDATE staff SET left_on = NULL WHERE left_on IS NOT NULL;
UPDATE users SET is_active = true WHERE staff_id IS NOT NULL AND NOT is_active
"""


class Caller:
    """Sends requests, with a token or without."""

    def __init__(self, app: Flask, token: str = "", username: str = "") -> None:
        self.app, self.token, self.username = app, token, username

    def send(self, method: str, path: str, **options: Any) -> TestResponse:
        """Send a request, with the token unless the options have a header of their own."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= options.pop("headers", {})
        with self.app.test_client() as client:
            return client.open(path, method=method, headers=headers, **options)

    def get(self, path: str, **query: Any) -> TestResponse:
        """Read."""
        return self.send("GET", f"{path}?{urlencode(query)}" if query else path)

    def post(self, path: str, body: Any = None, **headers: str) -> TestResponse:
        """Send a body, as JSON unless it is bytes."""
        return self._with_body("POST", path, body, headers)

    def patch(self, path: str, body: Any, match: str = "*") -> TestResponse:
        """Change what `match` says that was read."""
        return self._with_body("PATCH", path, body, {"If-Match": match} if match else {})

    def _with_body(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> TestResponse:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"data": data, "content_type": "application/json"} if body is not None else {}
        return self.send(method, path, headers=headers, **sent)


class Api:
    """An application over a clinic's database."""

    def __init__(self, app: Flask, clinic: Clinic) -> None:
        self.app, self.clinic = app, clinic
        self.anyone = Caller(app)
        self._callers: dict[tuple[str, int], Caller] = {}

    def username(self, role: str, hospital: int = 1, *, number: int = 0) -> str:
        """Return the name of an account with a role."""
        return str(self.clinic.run(_ACCOUNT, f"H{hospital:04}", role)[number][0])

    def tokens(self, username: str) -> dict[str, Any]:
        """Log in and return the tokens."""
        answer = self.anyone.post("/api/auth/login", {"username": username, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return dict(answer.json or {})

    def caller(self, role: str, hospital: int = 1) -> Caller:
        """Return a caller with a role, who has logged in."""
        if (role, hospital) not in self._callers:
            self._callers[role, hospital] = self.another(role, hospital)
        return self._callers[role, hospital]

    def another(self, role: str, hospital: int = 1) -> Caller:
        """Return a caller with a session of its own."""
        username = self.username(role, hospital)
        return Caller(self.app, self.tokens(username)["access_token"], username)


def monday() -> datetime.datetime:
    """Return the first hour of a Monday that is four weeks ahead or a little more."""
    begins = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=28)
    begins = begins.replace(hour=8, minute=0, second=0, microsecond=0)
    return begins + datetime.timedelta(days=-begins.weekday() % 7)


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    """Return the problem document of an answer, after a look at its form."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.content_type == PROBLEM
    document: dict[str, Any] = json.loads(answer.data)
    assert set(document) == {"type", "title", "status", "detail", "errors"}
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


def fields(answer: TestResponse, status: int = 422) -> dict[str, str]:
    """Return the fields that a problem names, with their messages."""
    return {error["field"]: error["message"] for error in problem(answer, status)["errors"]}


def make_app_role(cluster: Cluster, clinic: Clinic) -> None:
    """Create the role of the application, as the README of an administrator says."""
    if not cluster.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", parameters=(APP_ROLE,)):
        cluster.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(APP_ROLE)))
    cluster.execute(sql.SQL("GRANT {} TO {}").format(*map(sql.Identifier, (APP_ROLE, OWNER))))
    done = psql(cluster, clinic.name, "-f", ROOT / "sql" / "roles" / "clinic_app.sql")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def api(
    cluster: Cluster, templates: Templates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Api]:
    """Return the API over the rows of the small seed, as the application's role."""
    with cloned(cluster, templates.seeded(cluster)) as clinic:
        make_app_role(cluster, clinic)
        clinic.run(_NOBODY_HAS_LEFT)
        with serving(clinic, tmp_path_factory.mktemp("clinic")) as made:
            yield made


@contextmanager
def serving(
    clinic: Clinic, folder: Path, *, driver: str = "psycopg2", lock_timeout: int = 60
) -> Iterator[Api]:
    """Yield the API of an application whose project is a folder."""
    from clinic.web import create_app
    from clinic.web.factory import clinic as shared

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGTASKS_ROOT", str(project_of(folder, clinic, driver, lock_timeout)))
        app = create_app("test", security=SECURITY)
        with app.app_context():
            services = (shared().service, shared().aside)
        for service in services:
            _ = service.engine  # made here, where the project is known
        with no_sweeps():
            yield Api(app, clinic)
        for service in services:
            service.dispose()


def project_of(folder: Path, clinic: Clinic, driver: str, lock_timeout: int = 60) -> Path:
    """Return a project whose environment `test` is a clinic's database, with a signing key."""
    place = f"host={clinic.cluster.host}&port={clinic.cluster.port}"
    lines = (
        f"url: postgresql://{OWNER}@/{clinic.name}?{place}",
        f"pool: {{driver: {driver}, role: {APP_ROLE}, patience: 1, lock_timeout: {lock_timeout}}}",
        "",
    )
    files = {"env/test.yaml": "\n".join(lines), "env/test.env": f"SECURITY_KEYS={KEY}\n"}
    return lay_out(folder, files)
