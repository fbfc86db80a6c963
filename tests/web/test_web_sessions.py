"""Sessions of browsers: rows decide, and what ends one ends it at once."""

from __future__ import annotations

from contextlib import suppress
from uuid import uuid4

import pytest
from clinics import OWNER, Clinic
from offices import PASSWORD, Office, here, opened
from sqlalchemy import text

from clinic.web.identity import Identity
from clinic.web.security import events, logins, sessions
from pgtasks.errors import BadConfiguration
from pgtasks.service import DatabaseService

PAST = (
    "UPDATE user_sessions SET issued_at = issued_at - interval '30 days',"
    " last_seen_at = last_seen_at - %s * interval '1 second',"
    " expires_at = expires_at - %s * interval '1 second' WHERE session_id = %s"
)
EVENTS = (
    "SELECT event, username, host(ip_address), details FROM security_events"
    " WHERE username = %s ORDER BY occurred_at"
)


def who(office: Office, token: str) -> Identity | None:
    with office.shared.service.session() as session:
        return sessions.identity(session, token)


def test_a_token_names_its_user_in_the_transaction(office: Office) -> None:
    username = office.username("hospital_admin", 2)
    token = office.token(username)
    with office.shared.service.session() as session:
        identity = sessions.identity(session, token)
        assert identity is not None
        named = session.execute(
            text("SELECT current_setting('clinic.user'), current_setting('clinic.hospital')")
        ).one()
        assert named == (username, str(identity.hospital_id))
        assert session.scalar(text("SELECT count(*) FROM patients")) == 400
        assert session.scalar(text("SELECT count(DISTINCT hospital_id) FROM patients")) == 1
    with office.shared.service.session() as session:  # and no longer than that
        assert session.scalar(text("SELECT count(*) FROM patients")) == 0
    assert identity.may("users", "edit")
    assert identity.kind == "web"
    assert "hospital_admin" in identity.roles
    assert (
        office.clinic.value(
            "SELECT count(*) FROM user_sessions WHERE token_hash = %s", sessions.digest(token)
        )
        == 1
    )


@pytest.mark.parametrize("token", ["", "x", "x" * 100_000, "nul\0", "\ud800"])
def test_a_token_of_nobody_is_nobody(office: Office, token: str) -> None:
    assert who(office, token) is None


def test_a_hash_from_the_database_is_no_token(office: Office) -> None:
    token = office.token(office.username("doctor"))
    assert who(office, sessions.digest(token)) is None


@pytest.mark.parametrize("user", [OWNER, "postgres"])
def test_nobody_gets_in_where_the_application_would_see_all_hospitals(
    office_clinic: Clinic, user: str
) -> None:
    cluster = office_clinic.cluster
    url = f"postgresql://{user}@/{office_clinic.name}?host={cluster.host}&port={cluster.port}"
    with opened(office_clinic) as office:
        token = office.token(office.username("doctor"))
        owner = DatabaseService("test", url=url)
        try:
            with (
                owner.session() as session,
                pytest.raises(BadConfiguration, match=f"acts as '{user}', which sees the rows"),
            ):
                sessions.identity(session, token)
        finally:
            owner.dispose()
        assert who(office, token) is not None


def test_a_session_ends_by_being_idle_and_by_its_time(office_clinic: Clinic) -> None:
    with opened(office_clinic, session_idle=1800, session_lifetime=7200) as office:
        username = office.username("doctor")
        for idle, age, ended in ((1790, 0, False), (1801, 0, True), (0, 7201, True)):
            token = office.token(username)
            identity = who(office, token)
            assert identity is not None
            office.clinic.run(PAST, idle, age, str(identity.session_id))
            assert (who(office, token) is None) is ended
        account = logins.attempt(username, PASSWORD, here())
        started = sessions.start(account, here(), remember=True)
        office.clinic.run(PAST, 10 * 86400, 10 * 86400, str(started.session_id))
        assert who(office, started.token) is not None  # one that is to be remembered
        office.clinic.run(PAST, 0, 5 * 86400, str(started.session_id))
        assert who(office, started.token) is None


def test_a_session_in_use_is_not_idle(office: Office) -> None:
    identity = office.identity(office.username("doctor"))
    query = "SELECT last_seen_at FROM user_sessions WHERE session_id = %s"
    audited = "SELECT count(*) FROM audit_logs WHERE row_id = %s"
    session_id = str(identity.session_id)
    before = office.clinic.value(query, session_id)
    sessions.seen(identity)
    assert office.clinic.value(query, session_id) == before  # a minute has not passed
    office.clinic.run(PAST, 61, 0, session_id)
    sessions._touched.clear()
    lines = office.clinic.value(audited, session_id)
    with suppress(LookupError), office.shared.service.session():
        sessions.seen(identity)
        raise LookupError
    assert office.clinic.value(query, session_id) > before
    assert office.clinic.value(audited, session_id) == lines  # nothing that anybody did


def test_a_logout_ends_the_session_at_once(office: Office) -> None:
    username = office.username("therapist")
    token, other = office.token(username), office.token(username)
    identity = who(office, token)
    assert identity is not None
    with suppress(LookupError), office.shared.service.session():
        sessions.end(identity, here("192.0.2.5"))
        raise LookupError  # an error of the request does not undo it
    assert who(office, token) is None
    assert who(office, other) is not None
    event, name, address, details = office.clinic.run(EVENTS, username)[-1]
    assert (event, name, address) == ("logout", username, "192.0.2.5")
    assert details == {"session_id": str(identity.session_id)}
    log = office.clinic.run(
        "SELECT actor, changed FROM audit_logs WHERE row_id = %s ORDER BY logged_at",
        str(identity.session_id),
    )
    assert log == [(username, None), (username, ["revoked_at"])]


def test_users_end_their_own_sessions_and_administrators_those_of_their_hospital(
    office: Office,
) -> None:
    username = office.username("nurse", 2)
    mine = [office.token(username) for _ in range(4)]
    identity = who(office, mine[0])
    assert identity is not None
    with office.shared.service.session() as session:
        office_sessions = sessions.identity(session, mine[0])
        assert office_sessions is not None
        listed = sessions.listed(session, identity)
        assert {one.session_id for one in listed} >= {
            who(office, token).session_id for token in mine
        }  # type: ignore[union-attr]
        assert {one.user_id for one in listed} == {identity.user_id}
    second = who(office, mine[1])
    assert second is not None
    assert sessions.end_one(identity, second.session_id, here())
    assert not sessions.end_one(identity, second.session_id, here())
    assert not sessions.end_one(identity, uuid4(), here())
    assert [who(office, token) is None for token in mine] == [False, True, False, False]
    other = office.identity(office.username("nurse", 1))
    assert not sessions.end_one(other, identity.session_id, here())
    assert sessions.end_others(identity, here()) >= 2
    assert [who(office, token) is None for token in mine] == [False, True, True, True]
    # of another hospital nobody ends anything
    foreign = office.identity(office.username("receptionist", 1))
    assert sessions.end_all(foreign, identity.user_id, here()) == 0
    assert who(office, mine[0]) is not None
    admin = office.identity(office.username("hospital_admin", 2))
    assert sessions.end_all(admin, identity.user_id, here()) == 1
    assert who(office, mine[0]) is None
    assert who(office, mine[0]) is None


def test_an_event_is_written_whatever_becomes_of_the_request(office: Office) -> None:
    identity = office.identity(office.username("doctor"))
    with suppress(LookupError), office.shared.service.session():
        events.record(
            *("denied", here("192.0.2.77")),
            identity=identity,
            route="/users",
            number=3,
            odd="nul\0 \ud800 " + "x" * 5000,
            password="not for the log",
        )
        events.record("denied", here(""), username="x" * 5000)
        raise LookupError
    event, name, address, details = office.clinic.run(EVENTS, identity.username)[-1]
    assert (event, name, address) == ("denied", identity.username, "192.0.2.77")
    assert (details["route"], details["number"]) == ("/users", 3)
    assert len(details["odd"]) < 2001
    assert "password" not in details
