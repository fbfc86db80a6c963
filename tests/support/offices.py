"""The security core of the clinic's web application, over the rows of the small seed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from clinics import OWNER, Clinic, Templates, cloned, psql
from layout import lay_out
from paths import ROOT
from psycopg2 import sql
from servers import Cluster

if TYPE_CHECKING:  # each run of any test imports this file
    from clinic.web.identity import Client, Identity

PASSWORD = "clinic-demo"  # of every account of the seed
NEW = "a staple, of correct horses"
KEYS = tuple(f"key-{n}-of-the-tests-" + "0123456789abcdef" * 3 for n in (1, 2))
APP_ROLE = "clinic_app"
# no test is about how long hashing takes, or about a limit, unless it says so
CHEAP = {
    "argon2_memory": 64,
    "argon2_time": 1,
    "login_rate": 100_000,
    "registration_rate": 100_000,
}
# nor about how long somebody waits for a lock: those who are to meet at one come when they can
SETTINGS = "pool: {lock_timeout: 60, statement_timeout: 120}\n"
GRANTS = ROOT / "sql" / "roles" / "clinic_app.sql"

_LONGER = """
CREATE FUNCTION an_hour_longer() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.{column} := NEW.{column} + interval '1 hour'; RETURN NEW; END $$;
CREATE TRIGGER longer BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({when})
    EXECUTE FUNCTION an_hour_longer()
"""

_ACCOUNT = """
SELECT u.username FROM users u
JOIN hospitals h USING (hospital_id)
JOIN user_role_mapping m USING (user_id)
JOIN role_master r USING (role_id)
LEFT JOIN staff s ON s.staff_id = u.staff_id
WHERE h.code = %s AND r.code = %s AND u.is_active AND s.left_on IS NULL ORDER BY u.user_id
"""


class Office:
    """An application with nothing but the security core, over a clinic's database."""

    def __init__(self, clinic: Clinic, **security: Any) -> None:
        from flask import Flask

        from clinic.web.factory import Clinic as Shared
        from pgtasks.service import DatabaseService, get_security_settings
        from pgtasks.settings.secret import Secret

        self.clinic = clinic
        url = url_of(clinic)
        self.app = Flask("office")
        self.shared = Shared(
            DatabaseService("test", url=url),
            replace(
                get_security_settings("test"),
                **{**CHEAP, **security},
            ),
            tuple(map(Secret, KEYS)),
            aside=DatabaseService("test", url=url, pool_size=2, max_overflow=20),
        )
        self.app.extensions["clinic"] = self.shared
        self.app.extensions["pgtasks"] = self.shared.service

    def username(self, role: str, hospital: int = 1, *, number: int = 0) -> str:
        """Return the name of an account with a role."""
        return str(self.clinic.run(_ACCOUNT, f"H{hospital:04}", role)[number][0])

    def identity(self, username: str, *, client: Client | None = None) -> Identity:
        """Log in, open a session of a browser, and return who that is."""
        from clinic.web.security import sessions

        token = self.token(username, client=client)
        with self.shared.service.session() as session:
            found = sessions.identity(session, token)
        assert found is not None
        return found

    def token(self, username: str, *, client: Client | None = None) -> str:
        """Log in, open a session of a browser, and return its token."""
        from clinic.web.security import logins, sessions

        client = client or here()
        account = logins.attempt(username, PASSWORD, client)
        return sessions.start(account, client).token

    def racing(self, number: int, work: Callable[[int], Any]) -> list[Any]:
        """Call `work` in threads that begin together; return results and errors."""
        barrier = threading.Barrier(number)
        results: list[Any] = [None] * number

        def one(n: int) -> None:
            with self.app.app_context():
                barrier.wait()
                try:
                    results[n] = work(n)
                except Exception as exc:
                    results[n] = exc

        threads = [threading.Thread(target=one, args=(n,)) for n in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def dispose(self) -> None:
        """Close all connections."""
        self.shared.service.dispose()
        self.shared.aside.dispose()


def here(address: str = "192.0.2.1", device: str = "") -> Client:
    """Return a client."""
    from clinic.web.identity import Client

    return Client(address, "Firefox 140 on Linux", device)


def url_of(clinic: Clinic) -> str:
    """Return the URL of a clinic, whose owner acts as the application's role."""
    query = f"host={clinic.cluster.host}&port={clinic.cluster.port}&options=-crole%3D{APP_ROLE}"
    return f"postgresql://{OWNER}@/{clinic.name}?{query}"


def grant(clinic: Clinic) -> None:
    """Give the application's role what it may do, as the file says that it is done."""
    cluster = clinic.cluster
    if not cluster.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", parameters=(APP_ROLE,)):
        cluster.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(APP_ROLE)))
    cluster.execute(sql.SQL("GRANT {} TO {}").format(*map(sql.Identifier, (APP_ROLE, OWNER))))
    done = psql(cluster, clinic.name, "-f", GRANTS)
    assert done.returncode == 0, done.stderr


@contextmanager
def opened(clinic: Clinic, **security: Any) -> Iterator[Office]:
    """Yield an office with settings of its own, in its application context."""
    with TemporaryDirectory() as folder, no_sweeps(), pytest.MonkeyPatch.context() as set:
        set.setenv("PGTASKS_ROOT", str(lay_out(Path(folder), {"env/test.yaml": SETTINGS})))
        office = Office(clinic, **security)
        try:
            with office.app.app_context():
                yield office
        finally:
            office.dispose()


@contextmanager
def an_hour_longer(clinic: Clinic, table: str, column: str, when: str) -> Iterator[None]:
    """Let what lasts some seconds, which a loaded machine may outlast, end an hour later."""
    clinic.run(_LONGER.format(table=table, column=column, when=when))
    try:
        yield
    finally:
        clinic.run("DROP FUNCTION an_hour_longer() CASCADE")


@contextmanager
def long_waits(clinic: Clinic) -> Iterator[None]:
    """Let each wait after a wrong password last an hour longer."""
    when = "NEW.failures > OLD.failures"
    with an_hour_longer(clinic, "login_throttle", "blocked_until", when):
        yield


@contextmanager
def slow_tabs(clinic: Clinic) -> Iterator[None]:
    """Let a refresh token count as just used, which it does for ten seconds, an hour longer."""
    with an_hour_longer(clinic, "refresh_tokens", "used_at", "OLD.used_at IS NULL"):
        yield


@contextmanager
def no_sweeps() -> Iterator[None]:
    """Let no request remove what is over, as one of many does by chance."""
    from clinic.web.security import limits, throttle

    with pytest.MonkeyPatch.context() as patch:
        for module in (limits, throttle):
            patch.setattr(module, "_SWEEP", 10**18)
        yield


@pytest.fixture(scope="module")
def office_clinic(
    cluster: Cluster, templates: Templates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clinic]:
    """Return a clinic with rows and the grants of the application, for the tests of a module."""
    with cloned(cluster, templates.seeded(cluster)) as clinic, pytest.MonkeyPatch.context() as set:
        grant(clinic)
        folder = tmp_path_factory.mktemp("office")  # for other fixtures of the module
        set.setenv("PGTASKS_ROOT", str(lay_out(folder, {"env/test.yaml": SETTINGS})))
        yield clinic


@pytest.fixture
def office(office_clinic: Clinic) -> Iterator[Office]:
    """Return the security core, in its application context."""
    with opened(office_clinic) as made:
        yield made
