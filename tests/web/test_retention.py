"""Sessions, tokens, logins and events go when they are over for long, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from clinics import Clinic, Templates, cloned
from offices import APP_ROLE, Office, grant, opened
from psycopg2 import errors
from servers import Cluster

from clinic.web.security import limits, retention, sessions

_SESSIONS = """
INSERT INTO user_sessions (user_id, token_hash, user_agent, issued_at, expires_at, revoked_at)
SELECT u.user_id, encode(sha256(n.agent::bytea), 'hex'), n.agent, now() - n.issued,
    now() - n.expired, now() - n.revoked
FROM (VALUES ('old', interval '401 days', interval '400 days', NULL::interval),
    ('old and revoked', '401 days', '400 days', '400 days 5 hours'),
    ('old with a token that counts', '401 days', '400 days', NULL),
    ('a year less a day', '365 days', '364 days', NULL),
    ('open', '400 days', '-1 day', NULL),
    ('revoked', '400 days', '-1 day', '399 days'))
    AS n (agent, issued, expired, revoked),
    (SELECT user_id FROM users ORDER BY hospital_id {order} LIMIT 1) u
"""
_TOKENS = """
INSERT INTO refresh_tokens (token_hash, session_id, issued_at, expires_at, used_at)
SELECT encode(sha256((s.user_agent || ': ' || n.name)::bytea), 'hex'), s.session_id,
    now() - interval '400 days', now() - n.expired, now() - n.used
FROM (VALUES ('old', 'long ago', interval '399 days', interval '399 days'),
    ('old with a token that counts', 'counts', '-1 hour', NULL),
    ('open', 'used and in its time', '-1 day', '399 days'),
    ('open', 'counts', '-1 day', NULL),
    ('open', 'over for hours', '23 hours', NULL),
    ('open', 'over for days', '25 hours', NULL)) AS n (agent, name, expired, used)
JOIN user_sessions s ON s.user_agent = n.agent
"""
_LOGS = """
INSERT INTO login_history (username, attempted_at, failure)
SELECT age, now() - age::interval, 'unknown_user' FROM unnest(%(ages)s) age;
INSERT INTO security_events (event, occurred_at, username, hospital_id)
SELECT 'test', now() - age::interval, age, h.hospital_id
FROM unnest(%(ages)s) age, (SELECT hospital_id FROM hospitals ORDER BY code LIMIT 1) h
"""
AGES = ["1 day", "29 days", "31 days", "364 days", "366 days", "4000 days"]
LOGINS = "SELECT username FROM login_history WHERE failure = 'unknown_user' ORDER BY attempted_at"
EVENTS = "SELECT username FROM security_events WHERE event = 'test' ORDER BY occurred_at"
AGENTS = "SELECT user_agent FROM user_sessions WHERE user_agent !~ 'Firefox' ORDER BY 1"
TOKENS = "SELECT token_hash FROM refresh_tokens"


@pytest.fixture
def rows(cluster: Cluster, templates: Templates) -> Iterator[Clinic]:
    """A clinic with nothing but these rows in the tables that grow."""
    with cloned(cluster, templates.seeded(cluster)) as clinic:
        grant(clinic)
        clinic.run("TRUNCATE user_sessions, refresh_tokens, login_history, security_events")
        clinic.run(_SESSIONS.format(order="ASC"))
        clinic.run(_TOKENS)
        with closing(clinic.connect()) as session, session.cursor() as cursor:
            cursor.execute(_LOGS, {"ages": AGES})
        yield clinic


def kept(clinic: Clinic, query: str) -> list[Any]:
    return [value for (value,) in clinic.run(query)]


def test_what_is_over_for_long_goes_and_what_counts_stays(rows: Clinic) -> None:
    audited = rows.value("SELECT count(*) FROM audit_logs")
    with opened(rows):
        retention.forget()
    assert kept(rows, AGENTS) == [
        *("a year less a day", "old with a token that counts", "open", "revoked"),
    ]
    assert set(kept(rows, TOKENS)) == {
        sessions.digest(name)
        for name in (
            *("old with a token that counts: counts", "open: used and in its time"),
            *("open: counts", "open: over for hours"),
        )
    }
    assert kept(rows, LOGINS) == ["364 days", "31 days", "29 days", "1 day"]
    assert kept(rows, EVENTS) == kept(rows, LOGINS)
    assert rows.value("SELECT count(*) FROM audit_logs") == audited  # it would keep what goes


def test_the_setting_says_how_long(rows: Clinic) -> None:
    with opened(rows, keep_history=30 * 86400):
        retention.forget()
    assert kept(rows, LOGINS) == kept(rows, EVENTS) == ["29 days", "1 day"]
    assert kept(rows, AGENTS) == ["old with a token that counts", "open", "revoked"]
    with opened(rows, keep_history=36500 * 86400):
        retention.forget()
    assert kept(rows, LOGINS) == ["29 days", "1 day"]


def test_nobody_can_ask_for_less_than_thirty_days(rows: Clinic) -> None:
    with closing(rows.connect()) as session:
        rows.run(f"SET ROLE {APP_ROLE}", session=session)
        rows.run("SET clinic.hospital = '00000000-0000-0000-0000-000000000000'", session=session)
        assert rows.value("SELECT forget_history('-1 year')", session=session) > 0
        assert rows.value("SELECT forget_history('0')", session=session) == 0
        assert rows.value("SELECT forget_history(NULL)", session=session) is None
        # row-level security shows it none of these rows
        assert rows.value("SELECT count(*) FROM security_events", session=session) == 0
        for table in ("user_sessions", "refresh_tokens", "login_history", "security_events"):
            with pytest.raises(errors.InsufficientPrivilege):
                rows.run(f"DELETE FROM {table}", session=session)
    assert kept(rows, LOGINS) == kept(rows, EVENTS) == ["29 days", "1 day"]


def test_no_other_role_can_call_it(rows: Clinic) -> None:
    rows.cluster.execute("CREATE ROLE nobodys_role LOGIN")
    try:
        with (
            closing(rows.connect("nobodys_role")) as session,
            pytest.raises(errors.InsufficientPrivilege),
        ):
            rows.run("SELECT forget_history('1 year')", session=session)
    finally:
        rows.cluster.execute("DROP ROLE nobodys_role")


def test_a_call_takes_a_part_and_waits_for_nobody(rows: Clinic) -> None:
    rows.run(
        "INSERT INTO login_history (username, attempted_at)"
        " SELECT 'many', now() - interval '2 years' FROM generate_series(1, 4500)"
    )
    many = "SELECT count(*) FROM login_history WHERE username = 'many'"
    with closing(rows.connect()) as other, opened(rows):
        rows.run("BEGIN", session=other)
        taken = (
            "DELETE FROM login_history WHERE login_id IN (SELECT login_id FROM login_history"
            " WHERE username = 'many' LIMIT 10)"
        )
        rows.run(taken, session=other)
        left = []
        for _ in range(3):
            retention.forget()
            left.append(rows.value(many))
        rows.run("COMMIT", session=other)
    # one more of those that went first is older
    assert left == [2501, 501, 10]
    assert rows.value(many) == 0


def test_it_is_done_now_and_then_and_no_request_fails_by_it(
    rows: Clinic, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(rows):
        monkeypatch.setattr(limits, "_SWEEP", 10**18)
        limits.hit("api", "somebody")
        assert len(kept(rows, LOGINS)) == len(AGES)
        monkeypatch.setattr(limits, "_SWEEP", 1)
        limits.hit("api", "somebody")
        assert len(kept(rows, LOGINS)) == 4
        rows.run("ALTER FUNCTION forget_history RENAME TO forgotten")
        limits.hit("api", "somebody")
    assert "old rows of sessions and logs were not removed" in caplog.text


def test_a_session_goes_on_after_it(office: Office) -> None:
    token = office.token(office.username("doctor"))
    retention.forget()
    with office.shared.service.session() as session:
        assert sessions.identity(session, token) is not None
