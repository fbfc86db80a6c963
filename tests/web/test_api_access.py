"""Who gets in at the API: each route with no token, a bad one, another role, another hospital."""

from __future__ import annotations

import base64
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jwt
import pytest
from apis import KEY, OTHER_KEY, PASSWORD, Api, Caller, fields, monday, problem
from offices import long_waits, slow_tabs

from clinic.web.api.operations import operation
from pgtasks.settings.secret import Secret

ROLES = (
    *("hospital_admin", "doctor", "nurse", "therapist", "receptionist", "accountant"),
    *("patient",),
)
PUBLIC = {
    f"/api/{name}" for name in ("", "auth/login", "auth/refresh", "auth/revoke", "openapi.json")
}
TABLES = {
    "patient_id": "patients",
    "appointment_id": "appointments",
    "invoice_id": "invoices",
    "staff_id": "staff",
}
Routes = list[tuple[str, str, str]]


def routes(api: Api) -> Routes:
    """Return each route that needs a token: its method, its rule, its endpoint."""
    return [
        (method, rule.rule, rule.endpoint)
        for rule in api.app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if rule.rule.startswith("/api/") and rule.rule not in PUBLIC
    ]


def filled(api: Api, rule: str, hospital: int = 1) -> str:
    """Return the path of a rule, with the ID of a row of a hospital."""

    def row(place: re.Match[str]) -> str:
        column = place[1]
        found = api.clinic.value(
            f"SELECT {column} FROM {TABLES[column]} JOIN hospitals USING (hospital_id)"
            f" WHERE code = %s ORDER BY 1 LIMIT 1",
            f"H{hospital:04}",
        )
        return str(found)

    return re.sub(r"<uuid:(\w+)>", row, rule)


def forged(token: str, key: str = KEY, algorithm: str = "HS256", **claims: Any) -> str:
    """Return a token like another one, with other claims, or of another key; None removes one."""
    payload = jwt.decode(token, options={"verify_signature": False}) | claims
    kept = {name: value for name, value in payload.items() if value is not None}
    return jwt.encode(kept, key, algorithm)


def unsigned(token: str) -> str:
    """Return a token that says of itself that it needs no signature."""
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode())
    return f"{header.decode().rstrip('=')}.{token.split('.')[1]}."


def cut(token: str) -> str:
    """Return a token whose signature lacks its end."""
    return token[:-6]


def other_payload(token: str) -> str:
    """Return a token whose claims are another user's, under the signature of this one."""
    head, _, signature = token.split(".")
    other = forged(token, sub=str(uuid.uuid4())).split(".")[1]
    return f"{head}.{other}.{signature}"


BAD: dict[str, Callable[[str], str]] = {
    "expired": lambda token: forged(token, exp=1_700_000_000, iat=1_699_999_000),
    "other key": lambda token: forged(token, "x" * 48),
    "alg none": unsigned,
    "HS512, other key": lambda token: forged(token, "x" * 64, "HS512"),
    "HS512, right key": lambda token: forged(token, algorithm="HS512"),
    "other audience": lambda token: forged(token, aud="elsewhere"),
    "other issuer": lambda token: forged(token, iss="elsewhere"),
    "no expiry": lambda token: forged(token, exp=None),
    "no audience": lambda token: forged(token, aud=None),
    "other kind": lambda token: forged(token, typ="refresh"),
    "no session": lambda token: forged(token, sid=None),
    "session of nobody": lambda token: forged(token, sid=str(uuid.uuid4())),
    "user of another session": lambda token: forged(token, sub=str(uuid.uuid4())),
    "subject is no ID": lambda token: forged(token, sub="1 OR 1=1"),
    "subject is a number": lambda token: forged(token, sub=1),
    "session is no ID": lambda token: forged(token, sid={"$ne": 1}),
    "from tomorrow on": lambda token: forged(token, iat=4_000_000_000, nbf=4_000_000_000),
    "cut": cut,
    "other payload": other_payload,
    "no token at all": lambda token: "x",
    "not ASCII": lambda token: "é.ü.ß",
    "very long": lambda token: token + "A" * 50_000,
}


def test_the_token_that_the_bad_ones_are_made_of_counts(api: Api) -> None:
    caller = api.caller("doctor")
    for token in (caller.token, forged(caller.token)):
        assert Caller(api.app, token).get("/api/auth/validate").status_code == 200


def test_each_route_refuses_a_request_without_a_token(api: Api) -> None:
    for method, rule, _ in routes(api):
        answer = api.anyone.send(method, filled(api, rule))
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="clinic"'


@pytest.mark.parametrize("kind", BAD)
def test_each_route_refuses_a_bad_token(api: Api, kind: str) -> None:
    caller = Caller(api.app, BAD[kind](api.caller("hospital_admin").token))
    for method, rule, _ in routes(api):
        answer = caller.send(method, filled(api, rule))
        problem(answer, 401)
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_each_route_refuses_the_refresh_token_and_other_schemes(api: Api) -> None:
    tokens = api.tokens(api.username("hospital_admin"))
    basic = base64.b64encode(f"{api.username('doctor')}:{PASSWORD}".encode()).decode()
    schemes = [
        f"Bearer {tokens['refresh_token']}",
        f"Basic {basic}",
        "Bearer",
        "Bearer ",
        tokens["access_token"],
        f"Token {tokens['access_token']}",
    ]
    for method, rule, _ in routes(api):
        for header in schemes:
            path = filled(api, rule)
            problem(api.anyone.send(method, path, headers={"Authorization": header}), 401)


def test_a_cookie_is_no_token(api: Api) -> None:
    token = api.caller("doctor").token
    for name in ("token", "session", "clinic", "access_token", "__Host-clinic"):
        problem(api.anyone.get("/api/me"), 401)
        answer = api.anyone.send("GET", "/api/me", headers={"Cookie": f"{name}={token}"})
        problem(answer, 401)


def test_a_role_may_do_what_its_permissions_say_and_no_more(api: Api) -> None:
    for role in ROLES:
        caller = api.caller(role)
        permissions = set(caller.get("/api/me").json["permissions"])
        for method, rule, endpoint in routes(api):
            if not (wanted := operation(api.app.view_functions[endpoint]).permissions):
                continue
            # an ID of no row: a request that gets through changes nothing
            path = re.sub(r"<uuid:\w+>", str(uuid.UUID(int=1)), rule)
            status = caller.send(method, path).status_code
            allowed = not permissions.isdisjoint(wanted)
            assert (status != 403) == allowed, (role, method, rule, status)


def test_a_denial_is_recorded_with_its_user_and_address(api: Api) -> None:
    caller = api.another("nurse")
    before = api.clinic.value("SELECT count(*) FROM security_events")
    answer = caller.get("/api/invoices")
    assert "invoices.view" in problem(answer, 403)["detail"]
    ((event, username, address, details),) = api.clinic.run(
        "SELECT event, username, host(ip_address), details FROM security_events"
        " ORDER BY occurred_at OFFSET %s",
        before,
    )
    assert (event, username, address) == ("denied", caller.username, "127.0.0.1")
    assert details["permission"] == "invoices.view"
    assert details["path"] == "/api/invoices"


def test_rows_of_another_hospital_are_not_there(api: Api) -> None:
    caller = api.caller("hospital_admin")
    tried = 0
    for method, rule, _ in routes(api):
        if "<uuid:" not in rule:
            continue
        for path in (filled(api, rule, 2), re.sub(r"<uuid:\w+>", str(uuid.uuid4()), rule)):
            send = {"GET": caller.get, "POST": caller.post}.get(method)
            answer = send(path) if send else caller.patch(path, {})
            assert problem(answer, 404)["errors"] == []
            tried += 1
    assert tried >= 14


def test_lists_hold_rows_of_the_own_hospital_alone(api: Api) -> None:
    for name in ("patients", "appointments", "invoices", "consultations"):
        seen = []
        for hospital in (1, 2):
            caller = api.caller("hospital_admin", hospital)
            items = caller.get(f"/api/{name}", limit=200).json["items"]
            ids = {item[f"{name.removesuffix('s')}_id"] for item in items}
            ((count,),) = api.clinic.run(
                f"SELECT count(DISTINCT code) FROM {name} JOIN hospitals USING (hospital_id)"
                f" WHERE {name.removesuffix('s')}_id = ANY (%s::uuid[]) AND code = %s",
                list(ids),
                f"H{hospital:04}",
            )
            assert count == 1
            seen.append(ids)
        assert seen[0].isdisjoint(seen[1])
        assert len(seen[0]) == 200


def test_a_filter_for_another_hospital_finds_nothing(api: Api) -> None:
    caller = api.caller("hospital_admin")
    other = api.caller("hospital_admin", 2).get("/api/appointments", limit=1).json["items"][0]
    for name in ("staff_id", "patient_id"):
        assert caller.get("/api/appointments", **{name: other[name]}).json["items"] == []


def test_a_cursor_of_another_hospital_shows_nothing_of_it(api: Api) -> None:
    following = api.caller("hospital_admin", 2).get("/api/patients", limit=1).json["next"]
    own = {item["patient_id"] for item in pages(api.caller("hospital_admin"), "/api/patients")}
    shown = api.caller("hospital_admin").get(following).json["items"]
    assert {item["patient_id"] for item in shown} <= own


def test_rows_of_another_hospital_are_no_values(api: Api) -> None:
    doctor = api.caller("hospital_admin")
    own = doctor.get("/api/appointments", limit=1).json["items"][0]
    other = api.caller("hospital_admin", 2).get("/api/appointments", limit=1).json["items"][0]
    good = {
        "patient_id": own["patient_id"],
        "staff_id": own["staff_id"],
        "branch_id": own["branch_id"],
        "starts_at": monday().isoformat(),
    }
    before = api.clinic.value("SELECT count(*) FROM appointments")
    for name in ("patient_id", "staff_id", "branch_id"):
        answer = doctor.post("/api/appointments", good | {name: other[name]})
        assert list(fields(answer)) == [name]
        absent = doctor.post("/api/appointments", good | {name: str(uuid.uuid4())})
        assert absent.data == answer.data, "the answer must not tell whether it is there"
    assert api.clinic.value("SELECT count(*) FROM appointments") == before


def pages(caller: Caller, path: str) -> Iterator[dict[str, Any]]:
    """Yield the items of all pages."""
    while path:
        page = caller.get(path).json
        yield from page["items"]
        path = page["next"]


# --- a patient's own rows


def test_a_patient_sees_the_own_rows_alone(api: Api) -> None:
    caller = api.caller("patient")
    me = caller.get("/api/me").json
    for name in ("appointments", "invoices"):
        items = list(pages(caller, f"/api/{name}"))
        assert {item["patient_id"] for item in items} <= {me["patient_id"]}
        count = api.clinic.value(
            f"SELECT count(*) FROM {name} WHERE patient_id = %s", me["patient_id"]
        )
        assert len(items) == count
        key = f"{name.removesuffix('s')}_id"
        (others,) = api.clinic.run(
            f"SELECT {key} FROM {name} WHERE hospital_id = %s AND patient_id <> %s LIMIT 1",
            me["hospital_id"],
            me["patient_id"],
        )
        problem(caller.get(f"/api/{name}/{others[0]}"), 404)


def test_branches_and_staff_are_those_of_the_own_hospital(api: Api) -> None:
    for name, key in (("branches", "branch_id"), ("staff", "staff_id")):
        listed = [
            {one[key] for one in pages(api.caller("hospital_admin", number), f"/api/{name}")}
            for number in (1, 2)
        ]
        for number, ids in enumerate(listed, 1):
            own = api.clinic.run(
                f"SELECT {key}::text FROM {name} JOIN hospitals USING (hospital_id)"
                " WHERE code = %s",
                f"H{number:04}",
            )
            assert ids
            assert ids <= {row[0] for row in own}


def test_a_patient_sees_the_own_consultations_alone_and_nothing_of_what_was_said(api: Api) -> None:
    patient = api.clinic.value(
        "SELECT username FROM users JOIN consultations USING (patient_id)"
        " WHERE users.is_active ORDER BY 1 LIMIT 1"
    )
    caller = Caller(api.app, api.tokens(patient)["access_token"])
    own = caller.get("/api/me").json["patient_id"]
    items = list(pages(caller, "/api/consultations"))
    assert {one["patient_id"] for one in items} == {own}
    count = "SELECT count(*) FROM consultations WHERE patient_id = %s"
    assert len(items) == api.clinic.value(count, own)
    other = api.clinic.value(
        "SELECT patient_id::text FROM consultations WHERE patient_id <> %s LIMIT 1", own
    )
    assert caller.get("/api/consultations", patient_id=other).json["items"] == []
    for item in pages(api.caller("accountant"), "/api/consultations?limit=200"):
        assert set(item) == {
            *("consultation_id", "appointment_id", "patient_id", "staff_id", "started_at"),
        }


def test_a_patient_books_and_cancels_for_himself_alone(api: Api) -> None:
    caller, desk = api.caller("patient"), api.caller("receptionist")
    me = caller.get("/api/me").json
    others = desk.get("/api/appointments", status="booked", limit=200).json["items"]
    other = next(one for one in others if one["patient_id"] != me["patient_id"])
    slot = {"staff_id": other["staff_id"], "starts_at": monday().isoformat()}
    answer = caller.post("/api/appointments", slot | {"patient_id": other["patient_id"]})
    assert fields(answer) == {"patient_id": "is not you"}
    booked = caller.post("/api/appointments", slot | {"channel": "phone"})
    assert booked.status_code == 201
    assert booked.json["patient_id"] == me["patient_id"]
    assert booked.json["channel"] == "web"
    problem(caller.post(f"/api/appointments/{other['appointment_id']}/cancel"), 404)
    path = f"/api/appointments/{booked.json['appointment_id']}"
    problem(caller.patch(path, {"reason": "x"}), 403)
    assert caller.post(f"{path}/cancel").json["status"] == "cancelled"
    assert list(fields(caller.post(f"{path}/cancel"), 409)) == ["status"]


# --- logins, refresh, logout


def test_unknown_user_wrong_password_and_closed_account_say_the_same(api: Api) -> None:
    closed = api.clinic.value("SELECT username FROM users WHERE NOT is_active LIMIT 1")
    pairs = [
        ("nobody.at.all", PASSWORD),
        (api.username("doctor"), "not the password"),
        (closed, PASSWORD),
        ("' OR 1=1 --", PASSWORD),
    ]
    answers = [
        api.anyone.post("/api/auth/login", {"username": name, "password": password})
        for name, password in pairs
    ]
    for answer in answers:
        problem(answer, 401)
        assert "WWW-Authenticate" in answer.headers
    assert len({answer.data for answer in answers}) == 1


def test_a_login_gives_tokens_whose_hashes_alone_are_kept(api: Api) -> None:
    tokens = api.tokens(api.username("doctor"))
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 600
    ((dump,),) = api.clinic.run(
        "SELECT string_agg(t::text, ' ') FROM"
        " (SELECT row(s.*)::text FROM user_sessions s UNION ALL"
        "  SELECT row(r.*)::text FROM refresh_tokens r) AS r (t)"
    )
    assert tokens["refresh_token"] not in dump
    assert tokens["access_token"].split(".")[2] not in dump
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    assert {"exp", "iat", "iss", "aud", "sub", "jti"} <= set(claims)
    assert claims["exp"] - claims["iat"] == 600


def test_no_password_and_no_token_is_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    username = api.username("doctor")
    service = api.app.extensions["clinic"].service
    service.statements.turn(True)
    try:
        tokens = api.tokens(username)
        wrong = {"username": username, "password": "correct horse battery"}
        api.anyone.post("/api/auth/login", wrong)
        following = refreshed(api, tokens).json
        caller = Caller(api.app, following["access_token"])
        assert caller.get("/api/me").status_code == 200
        caller.get("/api/users")
        refreshed(api, tokens)
        caller.post("/api/auth/logout")
    finally:
        service.statements.turn(False)
    assert "session_account" in caplog.text, "the statements are logged"
    for secret in (
        *(PASSWORD, "correct horse battery", KEY),
        *(each[name] for each in (tokens, following) for name in ("access_token", "refresh_token")),
    ):
        assert secret not in caplog.text


def test_a_refresh_token_is_good_for_one_refresh(api: Api) -> None:
    tokens = api.tokens(api.username("nurse"))
    with slow_tabs(api.clinic):
        answer = refreshed(api, tokens)
    assert answer.status_code == 200
    following = answer.json
    assert following["refresh_token"] != tokens["refresh_token"]
    for one in (tokens, following):
        assert Caller(api.app, one["access_token"]).get("/api/me").status_code == 200
    # at once, by a second tab or a repeated request: nothing is lost
    problem(refreshed(api, tokens), 409)
    assert refreshed(api, following).status_code == 200


def test_a_refresh_token_that_is_used_again_later_ends_the_whole_family(api: Api) -> None:
    tokens = api.tokens(api.username("nurse"))
    following = refreshed(api, tokens).json
    (session,) = sessions_of(following)
    api.clinic.run(
        "UPDATE refresh_tokens SET issued_at = issued_at - interval '1 minute',"
        " used_at = used_at - interval '11 seconds' WHERE session_id = %s",
        session,
    )
    answer = refreshed(api, tokens)
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    problem(answer, 401)
    problem(refreshed(api, following), 401)
    for one in (tokens, following):
        problem(Caller(api.app, one["access_token"]).get("/api/me"), 401)
    events = api.clinic.run(
        "SELECT event FROM security_events WHERE username = %s AND event LIKE %s",
        api.username("nurse"),
        "%reuse%",
    )
    assert events, "somebody has a copy of a token: that is worth a line in the log"


def sessions_of(tokens: dict[str, Any]) -> list[str]:
    claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    return [claims["sid"]]


def refreshed(api: Api, tokens: dict[str, Any]) -> Any:
    return api.anyone.post("/api/auth/refresh", {"refresh_token": tokens["refresh_token"]})


@pytest.mark.parametrize("token", ["x", "é" * 40, "a" * 43])
def test_a_refresh_token_of_nobody_is_refused(api: Api, token: str) -> None:
    problem(refreshed(api, {"refresh_token": token}), 401)


def test_an_access_token_refreshes_nothing(api: Api) -> None:
    token = api.caller("doctor").token
    answer = refreshed(api, {"refresh_token": token})
    assert answer.status_code in (401, 422)


def test_a_logout_counts_at_once_and_for_this_session_alone(api: Api) -> None:
    username = api.username("therapist")
    tokens, others = api.tokens(username), api.tokens(username)
    caller, other = (Caller(api.app, each["access_token"]) for each in (tokens, others))
    answer = caller.post("/api/auth/logout")
    assert (answer.status_code, answer.data) == (204, b"")
    for method, rule, _ in routes(api):
        problem(caller.send(method, filled(api, rule)), 401)
    problem(refreshed(api, tokens), 401)
    assert other.get("/api/me").status_code == 200
    assert refreshed(api, others).status_code == 200


def test_what_is_taken_from_a_user_counts_from_the_next_request_on(api: Api) -> None:
    caller = api.another("accountant")
    assert caller.get("/api/invoices", limit=1).status_code == 200
    (user,) = (caller.get("/api/me").json["user_id"],)
    change = "UPDATE user_role_mapping SET is_active = {} WHERE user_id = %s"
    api.clinic.run(change.format("false"), user)
    problem(caller.get("/api/invoices"), 403)
    api.clinic.run(change.format("true"), user)
    assert caller.get("/api/invoices", limit=1).status_code == 200
    api.clinic.run("UPDATE users SET is_active = false WHERE user_id = %s", user)
    problem(caller.get("/api/invoices"), 401)
    api.clinic.run("UPDATE users SET is_active = true WHERE user_id = %s", user)


def test_a_refresh_token_ends_its_session_too(api: Api) -> None:
    tokens = api.tokens(api.username("doctor"))
    body = {"refresh_token": tokens["refresh_token"]}
    for _ in range(2):
        assert api.anyone.post("/api/auth/revoke", body).status_code == 204
    problem(Caller(api.app, tokens["access_token"]).get("/api/me"), 401)
    problem(refreshed(api, tokens), 401)


# --- keys and limits


@contextmanager
def changed(api: Api, **changes: Any) -> Iterator[None]:
    """Run with other keys, or other settings of security."""
    before = api.app.extensions["clinic"]
    api.app.extensions["clinic"] = replace(before, **changes)
    try:
        yield
    finally:
        api.app.extensions["clinic"] = before


def test_two_keys_count_while_one_takes_the_place_of_the_other(api: Api) -> None:
    old = api.another("doctor")
    rotated = (Secret(OTHER_KEY), Secret(KEY))
    with changed(api, keys=rotated):
        new = api.another("doctor")
        assert old.get("/api/me").status_code == 200, "signed with the key before"
        assert new.get("/api/me").status_code == 200
        jwt.decode(new.token, OTHER_KEY, ["HS256"], options={"verify_aud": False})
    with changed(api, keys=rotated[:1]):
        problem(old.get("/api/me"), 401)
        assert new.get("/api/me").status_code == 200


def test_a_user_who_sends_too_much_has_to_wait(api: Api) -> None:
    caller, other = api.another("doctor"), api.another("nurse")
    security = replace(api.app.extensions["clinic"].security, api_rate=3)
    api.clinic.run("TRUNCATE rate_limits")
    with changed(api, security=security):
        statuses = [caller.get("/api/me").status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        answer = caller.get("/api/me")
        problem(answer, 429)
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert other.get("/api/me").status_code == 200
    api.clinic.run("TRUNCATE rate_limits")


def test_an_address_that_logs_in_too_often_has_to_wait(api: Api) -> None:
    security = replace(api.app.extensions["clinic"].security, login_rate=2)
    body = {"username": "nobody", "password": "x"}
    api.clinic.run("TRUNCATE rate_limits")
    with changed(api, security=security):
        for _ in range(2):
            problem(api.anyone.post("/api/auth/login", body), 401)
        answer = api.anyone.post("/api/auth/login", body)
        problem(answer, 429)
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
    api.clinic.run("TRUNCATE rate_limits")


def test_wrong_passwords_cost_a_wait(api: Api) -> None:
    username = api.username("receptionist", 2)
    wrong = {"username": username, "password": "not the password"}
    with long_waits(api.clinic):
        statuses = [api.anyone.post("/api/auth/login", wrong).status_code for _ in range(8)]
        assert statuses[:4] == [401] * 4
        assert statuses[-1] == 429
        answer = api.anyone.post("/api/auth/login", wrong | {"password": PASSWORD})
    problem(answer, 429)
    assert int(answer.headers["Retry-After"]) >= 1
    api.clinic.run("DELETE FROM login_throttle")
    assert api.tokens(username)
