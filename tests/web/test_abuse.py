"""What a hostile client tries: to hold what others need, to fill what others read, to come back."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from apis import Api, problem, project_of
from apis import api as api
from clinics import OWNER, Clinic
from offices import APP_ROLE, NEW, PASSWORD, Office, here, opened
from offices import office as office
from offices import office_clinic as office_clinic
from werkzeug.test import create_environ, run_wsgi_app

from clinic.web.factory import clinic
from clinic.web.security import accounts, limits, logins, origins, passwords, sessions
from clinic.web.security.errors import LoginFailed, RateLimited, SecurityError
from pgtasks.errors import BadConfiguration


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


def test_a_guesser_in_the_own_network_does_not_use_up_the_logins_of_a_known_browser(
    office_clinic: Clinic,
) -> None:
    with opened(office_clinic, login_rate=3) as office:
        username, attacker = office.username("doctor"), office.username("patient")
        device = logins.attempt(username, PASSWORD, here("198.51.100.9")).device
        stolen = logins.attempt(attacker, PASSWORD, here("198.51.100.9")).device
        for device_of_attacker in ("", stolen, "made up", stolen):
            with suppress(LoginFailed, RateLimited):
                logins.attempt(username, "wrong", here("198.51.100.9", device_of_attacker))
        with pytest.raises(RateLimited):
            logins.attempt(username, PASSWORD, here("198.51.100.9", stolen))
        for _ in range(3):
            assert logins.attempt(username, PASSWORD, here("198.51.100.9", device))
        with pytest.raises(RateLimited):  # it has no more of them than an address has
            logins.attempt(username, PASSWORD, here("198.51.100.9", device))


def test_a_program_leaves_no_browser_behind_at_each_login(api: Api) -> None:
    known = "SELECT count(*) FROM login_throttle WHERE is_known"
    before = api.clinic.value(known)
    for _ in range(3):
        api.tokens(api.username("doctor"))
    assert api.clinic.value(known) == before


def test_a_password_that_was_changed_during_a_login_stays_changed(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The login renews a hash, that of the old password, after the change was committed."""
    username = office.username("nurse", number=2)
    identity = office.identity(username)
    verified = passwords.verified

    def late(password_hash: str | None, password: str) -> bool:
        answer = verified(password_hash, password)
        monkeypatch.setattr(passwords, "verified", verified)
        accounts.change_password(identity, PASSWORD, NEW, here("192.0.2.55"))
        return answer

    monkeypatch.setattr(passwords, "outdated", lambda _: True)
    monkeypatch.setattr(passwords, "verified", late)
    with pytest.raises(LoginFailed):
        logins.attempt(username, PASSWORD, here())
    with pytest.raises(LoginFailed):
        logins.attempt(username, PASSWORD, here())
    assert logins.attempt(username, NEW, here())


def test_a_change_of_the_password_and_the_end_of_other_sessions_are_one(office: Office) -> None:
    username = office.username("nurse", number=3)
    identity, stolen = office.identity(username), office.token(username)
    blocked = "REVOKE UPDATE (revoked_at) ON user_sessions FROM " + APP_ROLE
    office.clinic.run(blocked)  # what fails after the password was written takes it back
    try:
        with pytest.raises(Exception, match="permission denied"):
            accounts.change_password(identity, PASSWORD, NEW, here())
    finally:
        office.clinic.run(f"GRANT UPDATE (revoked_at) ON user_sessions TO {APP_ROLE}")
    assert logins.attempt(username, PASSWORD, here())
    accounts.change_password(identity, PASSWORD, NEW, here())
    with office.shared.service.session() as session:
        assert sessions.identity(session, stolen) is None


def test_denials_do_not_fill_the_log(api: Api) -> None:
    who = api.another("patient")
    written = "SELECT count(*) FROM security_events WHERE event = 'denied' AND username = %s"
    before = api.clinic.value(written, who.username)
    for _ in range(limits.LIMITS["denied"].most + 5):
        problem(who.get("/api/patients"), 403)
    assert api.clinic.value(written, who.username) - before <= limits.LIMITS["denied"].most


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET hospital_id = hospital_id",
        "UPDATE users SET username = 'x' || username",
        "UPDATE users SET staff_id = NULL",
        "INSERT INTO users (hospital_id, staff_id, username, password_hash)"
        " SELECT hospital_id, staff_id, 'another', 'x' FROM staff LIMIT 1",
    ],
)
def test_the_role_gives_nobody_another_person_or_name(
    office_clinic: Clinic, statement: str
) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="permission denied"):
        as_role(office_clinic, statement)


def test_the_role_ends_a_session_and_begins_none_again(office_clinic: Clinic) -> None:
    end = "UPDATE user_sessions SET revoked_at = greatest(now(), issued_at)"
    assert as_role(office_clinic, end) > 0
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security"):
        as_role(office_clinic, "UPDATE user_sessions SET revoked_at = NULL")


def as_role(clinic: Clinic, statement: str) -> int:
    """Run a statement as the application's role for the first hospital; return its rows."""
    with closing(clinic.cluster.connect(clinic.name, user=OWNER)) as session:
        session.autocommit = False
        hospital = clinic.value("SELECT hospital_id::text FROM hospitals WHERE code = 'H0001'")
        with session.cursor() as cursor:
            cursor.execute(f"SET LOCAL ROLE {APP_ROLE}")
            cursor.execute("SELECT set_config('clinic.hospital', %s, true)", (hospital,))
            cursor.execute(statement)
            rows: int = cursor.rowcount
        session.rollback()
        return rows


@pytest.mark.parametrize(
    ("told", "origin"),
    [
        ("203.0.113.7:51234", "203.0.113.7"),
        ("[2001:db8:0:1::9]:443", "2001:db8:0:1::/64"),
        ("[2001:db8:0:1::9]", "2001:db8:0:1::/64"),
        ("2001:db8:0:1::9", "2001:db8:0:1::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:x", ""),
        ("unknown", ""),
        ("[]", ""),
    ],
)
def test_an_address_with_its_port_is_an_address(told: str, origin: str) -> None:
    assert origins.network(here(told)) == origin


def test_no_session_of_the_old_password_outlives_its_change(office: Office) -> None:
    """Somebody who knows it logs in without a pause, while its user changes it."""
    username = office.username("nurse", number=4)
    identity = office.identity(username)
    before = PASSWORD
    for n in range(8):
        after = f"{NEW} {n}"

        def one(racer: int, old: str = before, new: str = after, run: int = n) -> str:
            if racer == 0:
                accounts.change_password(identity, old, new, here("192.0.2.200"))
                return ""
            account = logins.attempt(username, old, here(f"10.0.{run}.{racer}"))
            return sessions.start(account, here()).token

        changed, *others = office.racing(6, one)
        assert changed == ""
        before = after
        for token in others:
            assert isinstance(token, (str, LoginFailed))
            with office.shared.service.session() as session:
                assert not isinstance(token, str) or sessions.identity(session, token) is None


def test_a_session_that_began_after_its_end_began_is_ended(office: Office) -> None:
    """Not refused, since its end would be before its beginning; so where a clock was set back."""
    identity = office.identity(office.username("nurse", number=5))
    later = (
        "UPDATE user_sessions SET issued_at = now() + interval '2 seconds' WHERE session_id = %s"
    )
    office.clinic.run(later, str(identity.session_id))
    assert sessions.end_all(identity, identity.user_id, here()) >= 1
    with office.shared.service.session() as session:
        assert sessions.identity_of(session, identity.session_id) is None


def test_a_login_that_was_checked_before_a_change_opens_no_session(office: Office) -> None:
    username = office.username("nurse", number=6)
    identity = office.identity(username)
    account = logins.attempt(username, PASSWORD, here())
    assert account.password_hash not in repr(account)
    accounts.change_password(identity, PASSWORD, NEW, here())
    for kind in ("web", "api"):
        with pytest.raises(LoginFailed):
            sessions.start(account, here(), kind=kind)


def test_hashes_are_made_in_few_threads_whatever_the_requests(office: Office) -> None:
    names: set[str] = set()

    class Hasher:
        def verify(self, *_: object) -> bool:
            names.add(threading.current_thread().name)
            return True

    hasher: Any = Hasher()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hashing", lambda: (hasher, ""))
        results = office.racing(40, lambda _: passwords.verified("x", "y"))
    assert results == [True] * 40
    assert 0 < len(names) <= (os.cpu_count() or 1)
    assert all(name.startswith("argon2") for name in names)


def test_a_forked_process_hashes(office: Office) -> None:
    made = passwords.hashed(NEW)
    child = os.fork()
    if child == 0:
        os._exit(0 if passwords.verified(made, NEW) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_login_and_a_change_of_the_password_from_one_address_do_not_wait_for_each_other(
    office: Office,
) -> None:
    username = office.username("nurse", number=0)
    identity = office.identity(username)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before, current = office.clinic.value(deadlocks), PASSWORD
    for n in range(10):
        following = f"{NEW} {n}"

        def one(racer: int, old: str = current, new: str = following) -> None:
            if racer == 0:
                accounts.change_password(identity, old, new, here())
            else:
                logins.attempt(username, old, here())

        changed, *others = office.racing(4, one)
        current = following if changed is None else current
        assert all(each is None or isinstance(each, SecurityError) for each in [changed, *others])
        office.clinic.run("DELETE FROM login_throttle")
    office.clinic.run("SELECT pg_stat_force_next_flush()")
    assert office.clinic.value(deadlocks) == before


def test_settings_that_drop_the_role_let_nobody_in(
    office_clinic: Clinic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinic.web import create_app

    root = project_of(tmp_path / "shop", office_clinic, "psycopg2")
    monkeypatch.setenv("PGTASKS_ROOT", str(root))
    app = create_app("test", security={"argon2_memory": 64, "argon2_time": 1})
    with app.app_context():
        username = Office(office_clinic).username("doctor")
        account = logins.attempt(username, PASSWORD, here("198.51.100.200"))
        token = sessions.start(account, here()).token
        with clinic().service.session() as session:
            assert sessions.identity(session, token) is not None
        settings = root / "env" / "test.yaml"
        settings.write_text(settings.read_text("utf-8").replace(f"role: {APP_ROLE},", ""), "utf-8")
        assert clinic().service.reload().keys == ("pool.role",)
        with (
            pytest.raises(BadConfiguration, match="sees the rows of all hospitals"),
            clinic().service.session() as session,
        ):
            sessions.identity(session, token)
        clinic().service.dispose()
        clinic().aside.dispose()


def test_a_session_that_was_ended_uses_up_nothing_of_its_user(api: Api) -> None:
    user_id = api.clinic.value(
        "SELECT user_id::text FROM users WHERE username = %s", api.username("nurse")
    )
    counted = "SELECT coalesce(max(hits), 0) FROM rate_limits WHERE key = %s"
    key = f"api:{hashlib.sha256(str(user_id).encode()).hexdigest()}"
    thief, user = api.another("nurse"), api.another("nurse")
    assert thief.post("/api/auth/logout").status_code == 204
    before = api.clinic.value(counted, key)
    for _ in range(5):
        problem(thief.get("/api/me"), 401)
    assert api.clinic.value(counted, key) == before
    assert user.get("/api/me").status_code == 200
    assert api.clinic.value(counted, key) == before + 1
