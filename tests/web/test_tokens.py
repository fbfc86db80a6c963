"""The tokens of programs: used once, revoked at once, not to be forged."""

from __future__ import annotations

import base64
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import jwt
import pytest
from clinics import Clinic
from offices import KEYS, PASSWORD, Office, here, opened, slow_tabs

from clinic.web.identity import Identity
from clinic.web.security import logins, sessions, tokens
from clinic.web.security.errors import (
    LoginFailed,
    TokenExpired,
    TokenInvalid,
    TokenJustUsed,
    TokenReused,
)

BEFORE = """
UPDATE refresh_tokens
SET used_at = now() - interval '11 seconds', issued_at = issued_at - interval '1 minute'
WHERE used_at IS NOT NULL
"""
CLAIMS = ("iss", "aud", "sub", "sid", "jti", "typ", "iat", "exp")


@pytest.fixture(autouse=True)
def _slow_tabs(office_clinic: Clinic) -> Iterator[None]:
    with slow_tabs(office_clinic):
        yield


def issued(office: Office, role: str = "doctor", number: int = 0) -> tokens.TokenPair:
    account = logins.attempt(office.username(role, number=number), PASSWORD, here())
    return tokens.issue(account, here())


def who(office: Office, access: str) -> Identity | None:
    claims = tokens.claims(access)
    with office.shared.service.session() as session:
        return sessions.identity_of(session, claims.session_id)


def test_an_access_token_names_a_session_and_nothing_else(office: Office) -> None:
    begun = datetime.now(timezone.utc).replace(microsecond=0)
    pair = issued(office)
    claims = tokens.claims(pair.access)
    assert pair.expires_in == 600
    assert begun <= claims.expires_at - timedelta(seconds=600) <= datetime.now(timezone.utc)
    identity = who(office, pair.access)
    assert identity is not None
    assert (identity.user_id, identity.session_id) == (claims.user_id, claims.session_id)
    assert (identity.kind, identity.username) == ("api", office.username("doctor"))
    assert identity.may("appointments", "add")
    assert not identity.may("users", "view")
    assert identity.roles == {"doctor", "staff"}
    content = jwt.decode(pair.access, options={"verify_signature": False})
    assert set(content) == set(CLAIMS)
    rows = office.clinic.run(
        "SELECT to_jsonb(s)::text || to_jsonb(t)::text FROM user_sessions s"
        " JOIN refresh_tokens t USING (session_id) WHERE session_id = %s",
        str(claims.session_id),
    )
    assert len(rows) == 1
    for secret in (pair.access, pair.refresh):
        assert secret not in rows[0][0]
    log = office.clinic.run("SELECT to_jsonb(a)::text FROM audit_logs a WHERE actor <> 'seed'")
    assert sessions.digest(pair.refresh) not in repr(log)


def test_a_refresh_token_is_exchanged_once(office: Office) -> None:
    first = issued(office)
    second = tokens.refresh(first.refresh, here())
    assert tokens.claims(second.access).session_id == tokens.claims(first.access).session_id
    assert len({first.refresh, second.refresh, first.access, second.access}) == 4
    with pytest.raises(TokenJustUsed):
        tokens.refresh(first.refresh, here())
    # that was a second tab: nothing is revoked
    third = tokens.refresh(second.refresh, here())
    assert who(office, third.access) is not None


def test_a_refresh_token_that_is_used_again_ends_its_family(office: Office) -> None:
    first, other = issued(office), issued(office)
    second = tokens.refresh(first.refresh, here())
    office.clinic.run(BEFORE)
    with pytest.raises(TokenReused):
        tokens.refresh(first.refresh, here("203.0.113.66"))
    for token in (first.refresh, second.refresh):
        with pytest.raises(TokenInvalid) as invalid:
            tokens.refresh(token, here())
        assert type(invalid.value) is TokenInvalid
    assert who(office, second.access) is None
    assert who(office, other.access) is not None
    event = office.clinic.run(
        "SELECT username, host(ip_address), details ->> 'session_id', hospital_id IS NOT NULL"
        " FROM security_events WHERE event = 'refresh_reused' ORDER BY occurred_at DESC LIMIT 1"
    )
    session_id = str(tokens.claims(first.access).session_id)
    assert event == [(office.username("doctor"), "203.0.113.66", session_id, True)]


def test_of_twelve_clients_with_one_token_one_gets_the_next(office: Office) -> None:
    for _ in range(3):
        pair = issued(office)
        results = office.racing(12, lambda n, pair=pair: tokens.refresh(pair.refresh, here()))
        assert Counter(type(result) for result in results) == {
            tokens.TokenPair: 1,
            TokenJustUsed: 11,
        }
        (won,) = (result for result in results if isinstance(result, tokens.TokenPair))
        assert who(office, won.access) is not None
        assert isinstance(tokens.refresh(won.refresh, here()), tokens.TokenPair)
    count = "SELECT count(*) FROM refresh_tokens WHERE session_id = %s AND used_at IS NULL"
    assert office.clinic.value(count, str(tokens.claims(pair.access).session_id)) == 1


@pytest.mark.parametrize("token", ["", "x", "x" * 100_000, "nul\0", "\ud800", "ü" * 43])
def test_a_refresh_token_of_nobody_is_invalid(office: Office, token: str) -> None:
    with pytest.raises(TokenInvalid):
        tokens.refresh(token, here())
    tokens.end(token)


def test_an_access_token_is_no_refresh_token_and_the_other_way_round(office: Office) -> None:
    pair = issued(office)
    with pytest.raises(TokenInvalid):
        tokens.refresh(pair.access, here())
    with pytest.raises(TokenInvalid):
        tokens.claims(pair.refresh)
    # nor is either the token of a browser
    with office.shared.service.session() as session:
        assert sessions.identity(session, pair.refresh) is None
        assert sessions.identity(session, pair.access) is None


def test_a_session_ends_with_its_time_whatever_is_refreshed(office_clinic: Clinic) -> None:
    with opened(office_clinic, refresh_token=300) as office:
        pair = issued(office)
        assert 295 <= pair.expires_in <= 300  # no access token outlives its session
        again = tokens.refresh(pair.refresh, here())
        assert again.expires_in <= pair.expires_in
        office.clinic.run(
            "UPDATE user_sessions SET issued_at = issued_at - interval '1 hour',"
            " expires_at = expires_at - interval '301 seconds' WHERE session_id = %s",
            str(tokens.claims(pair.access).session_id),
        )
        assert who(office, again.access) is None
        with pytest.raises(TokenInvalid):
            tokens.refresh(again.refresh, here())


def test_what_ends_a_session_ends_its_tokens_at_once(office: Office) -> None:
    pair = issued(office, "nurse")
    identity = who(office, pair.access)
    assert identity is not None
    sessions.end(identity, here())
    assert who(office, pair.access) is None
    with pytest.raises(TokenInvalid):
        tokens.refresh(pair.refresh, here())
    # a logout by the refresh token alone
    pair = issued(office, "nurse")
    session_id = str(tokens.claims(pair.access).session_id)
    tokens.end(pair.refresh)
    assert who(office, pair.access) is None
    by = "SELECT actor FROM audit_logs WHERE row_id = %s ORDER BY logged_at"
    assert office.clinic.run(by, session_id) == [(office.username("nurse"),)] * 2
    # an account that is switched off
    pair = issued(office, "nurse")
    username = office.username("nurse")
    office.clinic.run("UPDATE users SET is_active = false WHERE username = %s", username)
    try:
        assert who(office, pair.access) is None
        with pytest.raises(TokenInvalid):
            tokens.refresh(pair.refresh, here())
    finally:
        office.clinic.run("UPDATE users SET is_active = true WHERE username = %s", username)


def test_an_account_that_was_switched_off_meanwhile_opens_no_session(office: Office) -> None:
    account = logins.attempt(office.username("nurse"), PASSWORD, here())
    switch = "UPDATE users SET is_active = %s WHERE username = %s"
    office.clinic.run(switch, False, account.username)
    try:
        with pytest.raises(LoginFailed):
            tokens.issue(account, here())
        with pytest.raises(LoginFailed):
            sessions.start(account, here())
    finally:
        office.clinic.run(switch, True, account.username)


# what is forged -----------------------------------------------------------------------------------


def forged(token: str, key: str = KEYS[0], algorithm: str = "HS256", **claims: Any) -> str:
    content = jwt.decode(token, options={"verify_signature": False}) | claims
    kept = {name: value for name, value in content.items() if value is not None}
    return jwt.encode(kept, key, algorithm)


def unsigned(token: str, algorithm: str) -> str:
    head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode())
    return f"{head.decode().rstrip('=')}.{token.split('.')[1]}."


def test_a_token_that_is_not_ours_is_refused(office: Office) -> None:
    good = issued(office).access
    assert tokens.claims(forged(good)).session_id == tokens.claims(good).session_id
    bad = [
        *(unsigned(good, name) for name in ("none", "None", "nOnE", "HS256", "RS256")),
        forged(good, "x" * 64),
        *(forged(good, algorithm=name) for name in ("HS384", "HS512")),
        *(forged(good, **{name: None}) for name in CLAIMS),
        *(forged(good, **{name: "other"}) for name in ("iss", "aud", "sub", "sid", "typ")),
        forged(good, iss="clinic/prod"),
        forged(good, aud=["elsewhere"]),
        forged(good, typ="refresh"),
        forged(good, jti=7),
        forged(good, sub=str(uuid.uuid4()).replace("-", "") * 2),
        *(forged(good, exp=value) for value in ("soon", 10**30, -1, 1e400)),
        forged(good, nbf=4_000_000_000),
        good[:-2],
        good + "A",
        good.replace(".", ".."),
        "é" * 100,
        "\ud800",
        "a.b.c",
        ".".join(["eyJ9"] * 3),
        "A" * 1_000_000,
    ]
    for token in bad:
        with pytest.raises(TokenInvalid):
            tokens.claims(token)


def test_an_expired_token_says_so(office: Office) -> None:
    good = issued(office).access
    now = int(datetime.now(timezone.utc).timestamp())
    with pytest.raises(TokenExpired):
        tokens.claims(forged(good, exp=now - 1))
    # only one that is ours: of another nothing is said
    with pytest.raises(TokenInvalid) as invalid:
        tokens.claims(forged(good, "x" * 64, exp=now - 1))
    assert type(invalid.value) is TokenInvalid
    # a server whose clock is behind
    assert tokens.claims(forged(good, iat=now + 5))


def test_two_keys_count_and_the_newest_signs(office: Office) -> None:
    good = issued(office).access
    assert jwt.decode(good, KEYS[0], algorithms=["HS256"], audience=tokens.AUDIENCE)
    assert tokens.claims(forged(good, KEYS[1])) == tokens.claims(good)


def test_a_session_of_a_browser_is_not_one_of_a_program(office: Office) -> None:
    identity = office.identity(office.username("doctor"))
    with office.shared.service.session() as session:
        assert sessions.identity_of(session, identity.session_id) is None
