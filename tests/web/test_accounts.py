"""Accounts: registration is whole or not at all, a change of the password needs the current one."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import uuid4

import pytest
from clinics import Clinic
from offices import NEW, PASSWORD, Office, here, long_waits, opened

from clinic.web.security import accounts, logins, sessions
from clinic.web.security.errors import (
    FieldError,
    LoginDelayed,
    LoginFailed,
    RateLimited,
    UnknownBranch,
    UsernameInvalid,
    UsernameTaken,
    WeakPassword,
    WrongPassword,
)

COUNTS = """
SELECT (SELECT count(*) FROM patients), (SELECT count(*) FROM users), count(*)
FROM user_role_mapping
"""


def form(username: str = "ada.l", **changes: Any) -> accounts.Registration:
    given = {
        "branch_id": accounts.places()[0].branch_id,
        "password": NEW,
        "first_name": "Ada",
        "last_name": "Lovelace",
        "born_on": date(1990, 12, 10),
        "email": "ada@example.org",
    }
    return accounts.Registration(username=username, **{**given, **changes})


def test_a_patient_registers_and_logs_in(office: Office) -> None:
    account = accounts.register(form(" Ada.L ", last_name="מלכה ‮ O'Hara"), here())
    assert (account.username, account.staff_id) == ("ada.l", None)
    assert logins.attempt("ada.l", NEW, here()).patient_id == account.patient_id
    identity = office_identity(office, account)
    assert identity.roles == {"patient"}
    assert identity.hospital_id == accounts.places()[0].hospital_id
    row = office.clinic.run(
        "SELECT last_name, record_no, created_by FROM patients WHERE patient_id = %s",
        str(account.patient_id),
    )[0]
    assert (row[0], row[1][0], row[2]) == ("מלכה ‮ O'Hara", "W", "ada.l")
    events = "SELECT event FROM security_events WHERE username = 'ada.l' ORDER BY occurred_at"
    assert office.clinic.run(events)[0] == ("registered",)
    assert NEW not in repr(form())


def office_identity(office: Office, account: logins.Account):  # type: ignore[no-untyped-def]
    token = sessions.start(account, here()).token
    with office.shared.service.session() as session:
        found = sessions.identity(session, token)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"username": "x"}, UsernameInvalid, "username"),
        ({"username": "ada lovelace"}, UsernameInvalid, "username"),
        ({"username": "ada\0"}, UsernameInvalid, "username"),
        ({"username": "ADA "}, UsernameTaken, "username"),
        ({"username": "x" * 101}, UsernameInvalid, "username"),
        ({"password": "short"}, WeakPassword, "password"),
        ({"username": "lovelace.ada", "password": "lovelace.ada"}, WeakPassword, "password"),
        ({"branch_id": uuid4()}, UnknownBranch, "branch_id"),
        ({"first_name": "Ada\0"}, FieldError, "first_name"),
        ({"last_name": "half \ud800"}, FieldError, "last_name"),
        ({"last_name": "   "}, FieldError, "last_name"),
        ({"first_name": "x" * 201}, FieldError, "first_name"),
        ({"email": "nowhere"}, FieldError, "email"),
        ({"born_on": date(1066, 1, 1)}, FieldError, "born_on"),
        ({"gender": "robot"}, FieldError, "gender"),
    ],
)
def test_what_is_refused_names_its_field_and_leaves_nothing(
    office: Office, changes: dict[str, Any], error: type[FieldError], field: str
) -> None:
    with suppress(UsernameTaken):
        accounts.register(form("ada"), here())
    before = office.clinic.run(COUNTS)
    with pytest.raises(error) as refused:
        accounts.register(form(**changes), here())
    assert refused.value.field == field
    assert office.clinic.run(COUNTS) == before


def test_of_two_that_race_for_a_name_one_gets_it(office: Office) -> None:
    before = office.clinic.run(COUNTS)[0]
    registration = form("racing")
    results = office.racing(6, lambda n: accounts.register(registration, here()))
    assert Counter(type(result) for result in results) == {logins.Account: 1, UsernameTaken: 5}
    assert office.clinic.run(COUNTS)[0] == tuple(count + 1 for count in before)


def test_a_branch_that_is_closed_takes_nobody(office: Office) -> None:
    place = accounts.places()[-1]
    office.clinic.run(
        "UPDATE branches SET is_active = false WHERE branch_id = %s", str(place.branch_id)
    )
    assert place not in accounts.places()
    with pytest.raises(UnknownBranch):
        accounts.register(form("late", branch_id=place.branch_id), here())


def test_too_many_registrations_from_one_address_are_refused(office_clinic: Clinic) -> None:
    with opened(office_clinic, registration_rate=2):
        there = here("203.0.113.80")
        for n in range(2):
            accounts.register(form(f"many.{n}"), there)
        with pytest.raises(RateLimited):
            accounts.register(form("many.2"), there)


def test_a_change_needs_the_current_password(office: Office) -> None:
    username = office.username("receptionist")
    identity, other = office.identity(username), office.token(username)
    with pytest.raises(WrongPassword) as refused:
        accounts.change_password(identity, "wrong", NEW, here())
    assert refused.value.field == "current"
    for weak in ("short", username + "1", PASSWORD):
        with pytest.raises(WeakPassword):
            accounts.change_password(identity, PASSWORD, weak, here())
    assert logins.attempt(username, PASSWORD, here())
    accounts.change_password(identity, PASSWORD, NEW, here("192.0.2.8"))
    with pytest.raises(LoginFailed):
        logins.attempt(username, PASSWORD, here())
    assert logins.attempt(username, NEW, here())
    said = office.clinic.run(
        "SELECT event, host(ip_address) FROM security_events WHERE username = %s"
        " AND event LIKE 'password%%' ORDER BY occurred_at",
        username,
    )
    assert said == [("password_change_refused", "192.0.2.1"), ("password_changed", "192.0.2.8")]
    by = office.clinic.run(
        "SELECT actor, changed FROM audit_logs WHERE table_name = 'users' AND action = 'UPDATE'"
        " AND 'password_hash' = ANY (changed) ORDER BY logged_at DESC LIMIT 1"
    )
    assert by[0][0] == username
    assert sessions.end_others(identity, here()) == 0  # the change did that
    with office.shared.service.session() as session:
        assert sessions.identity(session, other) is None


def test_no_password_is_in_the_log_of_the_server(office_clinic: Clinic) -> None:
    """Not even where it logs each statement with its values, and each that fails."""
    cluster, database = office_clinic.cluster, office_clinic.name
    secrets = [f"{NEW} number {n}" for n in range(3)]
    cluster.execute(f"ALTER DATABASE {database} SET log_statement = 'all'")
    try:
        with opened(office_clinic) as office:
            account = accounts.register(form("logged", password=secrets[0]), here())
            with pytest.raises(UsernameTaken):
                accounts.register(form("logged", password=secrets[1]), here())
            identity = office_identity(office, account)
            accounts.change_password(identity, secrets[0], secrets[2], here())
            with pytest.raises(LoginFailed):
                logins.attempt("logged", secrets[1], here())
            token = sessions.start(logins.attempt("logged", secrets[2], here()), here()).token
    finally:
        cluster.execute(f"ALTER DATABASE {database} RESET log_statement")
    log = (cluster.folder / "log").read_text("utf-8", errors="replace")
    assert "record_login('logged'" in log
    for secret in (*secrets, token):
        assert secret not in log


def test_a_stolen_session_does_not_guess_the_password(office_clinic: Clinic) -> None:
    with opened(office_clinic, login_attempts=2) as office, long_waits(office_clinic):
        identity = office.identity(office.username("accountant"))
        for _ in range(3):
            with pytest.raises(WrongPassword):
                accounts.change_password(identity, "wrong", NEW, here())
        with pytest.raises(LoginDelayed):
            accounts.change_password(identity, PASSWORD, NEW, here())


def test_nobody_changes_the_password_of_another_hospital(office: Office) -> None:
    """The row-level security of the database decides, not the statement."""
    victim = office.identity(office.username("doctor", 1))
    attacker = office.identity(office.username("doctor", 2))
    mixed = replace(attacker, user_id=victim.user_id)
    query = "SELECT password_hash FROM users WHERE user_id = %s"
    before = office.clinic.value(query, str(victim.user_id))
    accounts.change_password(mixed, PASSWORD, NEW, here())
    assert office.clinic.value(query, str(victim.user_id)) == before
