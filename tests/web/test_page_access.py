"""Who may open which page: no login, another role, another hospital, a cookie of yesterday."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from clinics import content
from offices import NEW, long_waits
from visitors import PASSWORD, Site, Visitor, opened_site

OPEN = {"pages.login", "pages.register", "pages.favicon"}
# the pages that a login alone opens, and the permission that the others ask for
ANY_USER = {"pages.dashboard", "pages.logout", "pages.account", "pages.end_other_sessions"}
PERMISSIONS = {
    "pages.appointments": "appointments.view",
    "pages.cancel_appointment": "appointments.view",
    "pages.book_appointment": "appointments.add",
    "pages.users": "users.view",
    "pages.user": "users.view",
    "pages.disable_user": "users.edit",
    "pages.enable_user": "users.edit",
    "pages.end_sessions": "users.edit",
    "pages.database": "settings.view",
}
# a role that lacks the permission
LACKS = {
    "appointments.view": "accountant",
    "appointments.add": "nurse",
    "users.view": "doctor",
    "users.edit": "receptionist",
    "settings.view": "patient",
}
APPOINTMENT = """
SELECT appointment_id, patient_id FROM appointments a JOIN hospitals h USING (hospital_id)
WHERE h.code = %s AND a.status = 'booked' ORDER BY appointment_id LIMIT 1
"""
STATUS = "SELECT status FROM appointments WHERE appointment_id = %s"
DENIED = "SELECT count(*) FROM security_events WHERE event = 'denied' AND username = %s"
OURS = ("user_sessions", "login_history", "security_events", "rate_limits", "login_throttle")


def routes(site: Site) -> list[tuple[str, str, str]]:
    """Return method, path and name of each page; the IDs in the paths are of nobody."""
    found = []
    for rule in site.app.url_map.iter_rules():
        if rule.endpoint.startswith("pages."):
            path = re.sub(r"<[^>]+>", str(uuid4()), rule.rule)
            methods = (rule.methods or set()) - {"HEAD", "OPTIONS"}
            found += [(method, path, rule.endpoint) for method in sorted(methods)]
    return found


def send(visitor: Visitor, method: str, path: str) -> tuple[int, str]:
    answer = visitor.get(path) if method == "GET" else visitor.post(path)
    return answer.status_code, answer.location or ""


def test_each_page_is_in_a_list_above(site: Site) -> None:
    assert {name for _, _, name in routes(site)} == OPEN | ANY_USER | PERMISSIONS.keys()


def test_without_a_login_every_other_page_leads_to_it(site: Site) -> None:
    for method, path, name in routes(site):
        status, location = send(site.anyone(), method, path)
        if name in OPEN:
            assert status == (200 if method == "GET" else 422)
        else:
            assert (status, location.partition("?")[0]) == (302, "/login"), path
            back = f"next={path}" if method == "GET" and path != "/" else ""
            assert location.partition("?")[2].replace("%2F", "/") == back


def test_another_role_is_refused_and_that_is_recorded(site: Site) -> None:
    for method, path, name in routes(site):
        if permission := PERMISSIONS.get(name):
            visitor = site.visitor(LACKS[permission])
            before = site.clinic.value(DENIED, visitor.username)
            assert send(visitor, method, path)[0] == 403, (method, path)
            assert site.clinic.value(DENIED, visitor.username) == before + 1


def test_a_form_without_its_token_is_refused_login_and_logout_too(site: Site) -> None:
    admin = site.visitor("hospital_admin", 2)
    other = site.anyone()
    other.get("/login")
    for method, path, _ in routes(site):
        if method == "POST":
            for token in ("", "x", other.token()):  # the last is of another session
                answer = admin.client.post(path, data={"csrf_token": token})
                assert answer.status_code == 400, path
                assert "This form has expired" in answer.text
    assert admin.get("/account").status_code == 200  # nobody was logged out
    assert site.anyone().client.post("/login", data={"username": "x"}).status_code == 400


def test_what_is_of_another_hospital_is_not_there(site: Site) -> None:
    admin = site.visitor("hospital_admin", 2)
    stranger = site.user_id(site.username("doctor", 1))
    for user_id in (stranger, str(uuid4())):
        assert admin.get(f"/users/{user_id}").status_code == 404
        for what in ("", "/disable", "/enable", "/sessions/end"):
            assert admin.post(f"/users/{user_id}{what}", {"roles": "staff"}).status_code == 404
    appointment = site.clinic.value(APPOINTMENT, "H0001")
    for appointment_id in (appointment, uuid4()):
        assert admin.post(f"/appointments/{appointment_id}/cancel").status_code == 404
    assert site.clinic.value(STATUS, appointment) == "booked"
    assert admin.get("/users?name=" + site.username("doctor", 1)).text.count("<tbody>") == 0
    for path in ("/users/1", "/users/", "/appointments/%00/cancel", "/users/..%2f..%2fetc"):
        assert admin.get(path).status_code == 404


def test_a_patient_sees_and_cancels_own_appointments_alone(site: Site) -> None:
    appointment, patient_id = site.clinic.run(APPOINTMENT, "H0001")[0]
    patient = site.visitor("patient")
    own = site.clinic.value("SELECT patient_id FROM users WHERE username = %s", patient.username)
    assert own != patient_id
    assert patient.post(f"/appointments/{appointment}/cancel").status_code == 404
    assert site.clinic.value(STATUS, appointment) == "booked"
    number = site.clinic.value("SELECT count(*) FROM appointments WHERE patient_id = %s", own)
    shown = patient.get("/appointments?period=all").text
    assert shown.count('<th scope="row"') == number
    assert f"{number} appointment" in shown or number == 0
    # nor those of a past day, which staff may
    site.clinic.run(
        "UPDATE appointments SET patient_id = %s WHERE appointment_id = %s", own, appointment
    )
    answer = patient.post(f"/appointments/{appointment}/cancel", follow_redirects=True)
    assert "cannot be cancelled any more" in answer.text
    assert site.clinic.value(STATUS, appointment) == "booked"
    desk = site.visitor("receptionist")
    answer = desk.post(f"/appointments/{appointment}/cancel", follow_redirects=True)
    assert "is cancelled" in answer.text
    assert site.clinic.value(STATUS, appointment) == "cancelled"
    actor = "SELECT updated_by FROM appointments WHERE appointment_id = %s"
    assert site.clinic.value(actor, appointment) == desk.username


def test_a_read_changes_nothing(site: Site) -> None:
    admin = site.visitor("hospital_admin", 2)
    user_id = site.user_id(admin.username)
    paths = ["/", "/appointments?period=all", "/users", f"/users/{user_id}", "/account"]
    paths += ["/admin/database", "/appointments/new", "/login", "/register", "/logout"]
    paths += [f"/users/{user_id}/disable", f"/appointments/{uuid4()}/cancel"]

    def rows() -> dict[str, object]:
        found = content(site.clinic.cluster, site.clinic.name)
        return {name: value for name, value in found.items() if name not in OURS}

    before = rows()
    for path in paths:
        assert admin.get(path).status_code in (200, 302, 405)
    assert rows() == before
    assert admin.get("/account").status_code == 200


ELSEWHERE = [
    *("//evil.example", "/\\evil.example", "https://evil.example", "https:evil.example"),
    *("javascript:alert(1)", "/\t/evil.example", "/\r\nSet-Cookie:a=b", "\\\\evil", "evil"),
]


@pytest.mark.parametrize("target", [*ELSEWHERE, "/%0d%0aSet-Cookie:a=b", "/users?a=b"])
def test_a_login_leads_to_no_other_site(site: Site, target: str) -> None:
    visitor = site.anyone()
    shown = visitor.get("/login", query_string={"next": target}).text
    assert "evil" not in shown
    answer = visitor.log_in(site.username("doctor"), next=target)
    assert answer.status_code == 302
    assert answer.location == (target if target not in ELSEWHERE else "/")
    assert len(answer.headers.getlist("Set-Cookie")) == 2  # the session, the browser
    assert "a=b" not in "".join(answer.headers.getlist("Set-Cookie"))


def test_the_session_of_a_login_is_a_new_one(site: Site) -> None:
    visitor = site.anyone()
    token = visitor.token()
    before = visitor.cookie()
    assert before
    visitor.log_in(site.username("nurse"))
    first = visitor.cookie()
    assert first != before
    # what the browser held before the login counts for nothing after it
    assert visitor.client.post("/logout", data={"csrf_token": token}).status_code == 400
    visitor.get("/")
    token = visitor.token()
    assert visitor.post("/logout").location == "/login"
    sent = {"csrf_token": token, "username": visitor.username, "password": PASSWORD}
    assert visitor.client.post("/login", data=sent).status_code == 400  # nor after the logout
    visitor.page = None
    visitor.log_in(site.username("nurse"))
    assert visitor.cookie() not in (before, first)
    assert visitor.with_cookie(before).get("/account").status_code == 302


def test_an_old_cookie_is_of_nobody(site: Site) -> None:
    username = site.username("doctor", 2)
    visitor = site.another(username)
    copy = visitor.with_cookie(visitor.cookie())
    assert copy.get("/account").status_code == 200
    visitor.post("/logout")
    answer = copy.get("/account")
    assert (answer.status_code, answer.location) == (302, "/login?next=/account")
    assert "Your session has ended" in copy.get("/login").text


def test_a_disabled_user_is_out_at_once_and_may_come_back(site: Site) -> None:
    username = site.username("nurse", 2)
    admin, nurse = site.visitor("hospital_admin", 2), site.another(username)
    copy = nurse.with_cookie(nurse.cookie())
    user_id = site.user_id(username)
    answer = admin.post(f"/users/{user_id}/disable", follow_redirects=True)
    assert "is disabled, and all sessions have ended" in answer.text
    assert nurse.get("/account").status_code == 302
    assert nurse.log_in().status_code == 401
    assert "User name or password is wrong" in nurse.page.text  # type: ignore[union-attr]
    admin.post(f"/users/{user_id}/enable")
    assert copy.get("/account").status_code == 302  # the old session stays ended
    assert nurse.log_in().status_code == 302


def test_an_administrator_ends_the_sessions_of_a_user(site: Site) -> None:
    username = site.username("receptionist", 2)
    admin, user = site.visitor("hospital_admin", 2), site.another(username)
    path = f"/users/{site.user_id(username)}"
    assert "End all sessions" in admin.get(path).text
    admin.post(f"{path}/sessions/end")
    assert user.get("/account").status_code == 302
    assert user.log_in().status_code == 302


def test_a_new_password_ends_the_other_sessions(site: Site) -> None:
    username = site.username("patient", 2)
    here, there = site.another(username), site.another(username)
    wrong = {"current": PASSWORD + "x", "new": NEW, "again": NEW}
    assert here.post("/account", wrong).status_code == 422
    assert "not your current password" in here.page.text  # type: ignore[union-attr]
    assert NEW not in here.page.text  # type: ignore[union-attr]
    weak = {"current": PASSWORD, "new": "short", "again": "short"}
    assert "at least 12 characters" in here.post("/account", weak).text
    differ = {"current": PASSWORD, "new": NEW, "again": NEW + "x"}
    assert "The two passwords differ" in here.post("/account", differ).text
    assert there.get("/account").status_code == 200
    answer = here.post("/account", {"current": PASSWORD, "new": NEW, "again": NEW})
    assert (answer.status_code, answer.location) == (302, "/account")
    assert "Your password is changed" in here.get("/account").text
    assert there.get("/account").status_code == 302
    assert site.anyone().log_in(username).status_code == 401
    assert site.anyone().log_in(username, NEW).status_code == 302


def test_a_user_ends_own_sessions_elsewhere(site: Site) -> None:
    username = site.username("therapist")
    here, there = site.another(username), site.another(username)
    assert "Log out elsewhere" in here.get("/account").text
    here.post("/account/sessions/end")
    assert there.get("/account").status_code == 302
    shown = here.get("/account").text
    assert "Log out elsewhere" not in shown
    assert "this one" in shown


def test_nobody_rises_by_giving_roles(site: Site) -> None:
    admin = site.visitor("hospital_admin", 2)
    own, doctor = site.user_id(admin.username), site.user_id(site.username("doctor", 2))
    patient = site.user_id(site.username("patient", 2, number=3))
    roles = (
        "SELECT r.code FROM user_role_mapping JOIN role_master r USING (role_id) WHERE user_id = %s"
    )

    def of(user_id: str) -> set[str]:
        return {code for (code,) in site.clinic.run(roles, user_id)}

    for user_id, wanted in (
        (own, ["hospital_admin", "system_admin"]),
        (own, ["staff"]),
        (doctor, ["system_admin"]),
        (doctor, ["doctor", "patient"]),
        (doctor, ["nonsense"]),
        (patient, ["patient", "hospital_admin"]),
        (patient, []),
    ):
        before = of(user_id)
        assert admin.post(f"/users/{user_id}", {"roles": wanted}).status_code == 403, wanted
        assert of(user_id) == before
    for what in ("disable", "sessions/end"):
        assert admin.post(f"/users/{own}/{what}").status_code == 403
    assert admin.post(f"/users/{doctor}", {"roles": ["doctor", "nurse"]}).status_code == 302
    assert of(doctor) == {"doctor", "nurse"}
    assert admin.post(f"/users/{doctor}", {"roles": ["doctor", "staff"]}).status_code == 302
    assert of(doctor) == {"doctor", "staff"}
    # nobody of a hospital touches who stands above it
    site.clinic.run(
        "INSERT INTO user_role_mapping (user_id, role_id)"
        " SELECT %s, role_id FROM role_master WHERE code = 'system_admin'",
        doctor,
    )
    for what in ("/disable", "/sessions/end", ""):
        assert admin.post(f"/users/{doctor}{what}", {"roles": "staff"}).status_code == 403
    site.clinic.run(
        "DELETE FROM user_role_mapping USING role_master r WHERE r.role_id ="
        " user_role_mapping.role_id AND r.code = 'system_admin'"
    )


SEEN = "UPDATE user_sessions SET {} WHERE user_id = %s AND revoked_at IS NULL"


def test_a_session_ends_idle_and_by_its_age(site: Site) -> None:
    username = site.username("patient", 1, number=5)
    user_id = site.user_id(username)
    for change in (
        "last_seen_at = now() - interval '31 minutes'",
        "issued_at = now() - interval '13 hours', expires_at = now() - interval '1 second'",
    ):
        visitor = site.another(username)
        site.clinic.run(SEEN.format(change), user_id)
        answer = visitor.get("/appointments?period=all")
        assert answer.location == "/login?next=/appointments?period%3Dall"
        assert "Your session has ended" in visitor.get(answer.location).text
        answer = visitor.log_in(next="/appointments?period=all")
        assert answer.location == "/appointments?period=all"


def test_a_remembered_login_outlives_the_browser(site: Site) -> None:
    visitor = site.anyone()
    short = visitor.log_in(site.username("accountant"))
    assert "Expires" not in short.headers.getlist("Set-Cookie")[-1]
    visitor.post("/logout")
    long = visitor.log_in(remember="y")
    assert "Expires" in long.headers.getlist("Set-Cookie")[-1]
    kept = (
        "SELECT remembered, expires_at > now() + interval '13 days' FROM user_sessions s"
        " JOIN users USING (user_id) WHERE username = %s AND revoked_at IS NULL"
    )
    assert (True, True) in site.clinic.run(kept, visitor.username)


def test_cookies_and_headers_keep_pages_private(site: Site) -> None:
    answer = site.anyone().log_in(site.username("doctor"))
    for cookie in answer.headers.getlist("Set-Cookie"):
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
    page = site.visitor("doctor").get("/")
    assert page.headers["Cache-Control"] == "no-store"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=", page.text)


def test_over_tls_the_cookie_is_of_this_host_and_forms_come_from_here(site: Site) -> None:
    here = {"base_url": "https://clinic.example"}
    with opened_site(site.clinic, cookie_secure=True, hsts=3600) as secure:
        visitor = secure.anyone()
        assert "max-age=3600" in visitor.get("/login", **here).headers["Strict-Transport-Security"]
        sent = {"username": site.username("doctor"), "password": PASSWORD}
        for referrer in ("", "https://evil.example/login", "http://clinic.example/login"):
            answer = visitor.post("/login", sent, headers={"Referer": referrer}, **here)
            assert answer.status_code == 400
            visitor.get("/login", **here)
        from_here = {"Referer": "https://clinic.example/login"}
        answer = visitor.post("/login", sent, headers=from_here, **here)
        assert answer.status_code == 302
        session = answer.headers.getlist("Set-Cookie")[-1]
        assert session.startswith("__Host-clinic=")
        for part in ("Secure", "HttpOnly", "Path=/", "SameSite=Lax"):
            assert f"; {part}" in session
        assert visitor.get("/account", **here).status_code == 200


def test_too_many_logins_of_one_address_are_told_to_wait(site: Site) -> None:
    with opened_site(site.clinic, login_rate=2) as strict:
        visitor = strict.anyone(address="192.0.2.7")
        statuses = [visitor.log_in("nobody").status_code for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert visitor.page is not None
        assert "Too many requests" in visitor.page.text
        assert 1 <= int(visitor.page.headers["Retry-After"]) <= 60


def test_wrong_passwords_cost_a_wait(site: Site) -> None:
    username = site.username("patient", 1, number=7)
    with opened_site(site.clinic, login_attempts=2) as strict, long_waits(site.clinic):
        visitor = strict.anyone()
        assert [visitor.log_in(username, "x").status_code for _ in range(3)] == [401, 401, 401]
        answer = visitor.log_in(username, PASSWORD)  # the right one waits too
        assert answer.status_code == 429
        assert "Too many attempts. Try again in" in answer.text
        assert int(answer.headers["Retry-After"]) >= 1
        assert f'value="{username}"' in answer.text


def test_unknown_user_wrong_password_and_inactive_account_look_the_same(site: Site) -> None:
    disabled = site.clinic.value("SELECT username FROM users WHERE NOT is_active LIMIT 1")
    pages = set()
    for username, password in (
        ("no.such.user", PASSWORD),
        (site.username("nurse"), "wrong password"),
        (disabled, PASSWORD),
    ):
        visitor = site.anyone()
        answer = visitor.log_in(username, password)
        assert answer.status_code == 401
        text = answer.text.replace(username, "NAME").replace(visitor.token(), "TOKEN")
        pages.add(text)
    assert len(pages) == 1
