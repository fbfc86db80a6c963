"""What people enter: mistakes come back with their fields, races have one winner."""

from __future__ import annotations

import html
import re
from datetime import date, datetime, timedelta, timezone
from functools import partial
from typing import Any
from urllib.parse import urlencode

import html5lib
import pytest
from offices import NEW
from visitors import Site, Visitor, opened_site

from clinic.web.pages.booking import BUSY, MANY, TAKEN, UNKNOWN, WHO

DOCTOR = """
SELECT s.staff_id FROM staff s JOIN hospitals h USING (hospital_id)
WHERE h.code = %s AND s.job = 'doctor' AND s.left_on IS NULL ORDER BY s.staff_id OFFSET %s LIMIT 1
"""
PLACE = "SELECT branch_id FROM branches WHERE is_active ORDER BY branch_id LIMIT 1"
COUNTS = "SELECT (SELECT count(*) FROM patients), (SELECT count(*) FROM users)"
BOOKED = "SELECT count(*) FROM appointments WHERE staff_id = %s AND starts_at::date = %s"


def registration(site: Site, **changed: Any) -> dict[str, Any]:
    return {
        "place": str(site.clinic.value(PLACE)),
        "first_name": "Ada",
        "last_name": "King",
        "born_on": "1985-12-10",
        "email": "ada@example.org",
        "username": "ada.king",
        "password": NEW,
        "again": NEW,
        **changed,
    }


def text(visitor: Visitor) -> str:
    assert visitor.page is not None
    return html.unescape(visitor.page.text)


def today() -> date:
    return datetime.now(timezone.utc).date()


def workday(after: int) -> date:
    """Return a day with free times, some weeks ahead."""
    day = today() + timedelta(weeks=after)
    return day + timedelta(days=(7 - day.weekday()) % 7)  # a Monday


def booking(site: Site, day: date, *, doctor: int = 0, hospital: str = "H0001") -> str:
    staff_id = site.clinic.value(DOCTOR, hospital, doctor)
    return f"/appointments/new?doctor={staff_id}&day={day}"


def test_a_patient_registers_and_is_logged_in(site: Site) -> None:
    visitor = site.anyone()
    name = {"first_name": " דוד ", "last_name": "محمد O'Brien <b>&", "username": " Da.Vid "}
    answer = visitor.post("/register", registration(site, **name))
    assert (answer.status_code, answer.location) == (302, "/")
    visitor.get("/")
    assert "Welcome. You can now book appointments." in text(visitor)
    assert "<bdi>דוד محمد O&#39;Brien &lt;b&gt;&amp;</bdi>" in visitor.page.text  # type: ignore[union-attr]
    row = site.clinic.run(
        "SELECT p.first_name, p.born_on::text, u.created_by, r.code FROM users u"
        " JOIN patients p USING (patient_id) JOIN user_role_mapping USING (user_id)"
        " JOIN role_master r USING (role_id) WHERE username = 'da.vid'"
    )
    assert row == [("דוד", "1985-12-10", "da.vid", "patient")]
    assert visitor.get("/users").status_code == 403


TOMORROW = "tomorrow"  # of the day on which the test runs


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("place", "", "Choose a hospital."),
        ("place", "00000000-0000-0000-0000-000000000000", "Choose a hospital from the list."),
        ("place", "x' OR true --", "Choose a hospital from the list."),
        ("first_name", "   ", "Enter your first name."),
        ("first_name", "A\0da", "It has a character that cannot be stored."),
        ("first_name", "Ada\u202e", "It has a character that cannot be stored."),
        ("first_name", "Ada\nBcc: x", "It has a character that cannot be stored."),
        ("last_name", "x" * 201, "It may have at most 200 characters."),
        ("born_on", "", "Enter your date of birth."),
        ("born_on", "10.12.1985", "Enter a day as year-month-day"),
        ("born_on", "2023-02-29", "Enter a day as year-month-day"),
        ("born_on", "99999-01-01", "Enter a day as year-month-day"),
        ("born_on", "1899-12-31", "Enter a day from 1 January 1900 to"),
        ("born_on", "0001-01-01", "Enter a day from 1 January 1900 to"),
        ("born_on", TOMORROW, "Enter a day from 1 January 1900 to"),
        ("email", "ada", "Enter an address such as ada@example.org."),
        ("email", "a da@example.org", "Enter an address such as ada@example.org."),
        ("email", "a@" + "x" * 300, "It may have at most 254 characters."),
        ("username", "ab", "Use 3 to 100 of the letters"),
        ("username", "ada king", "Use 3 to 100 of the letters"),
        ("username", "аda.king", "Use 3 to 100 of the letters"),  # a Cyrillic a
        ("username", "a" * 101, "Use 3 to 100 of the letters"),
        ("username", "ada\0king", "It has a character that cannot be stored."),
        ("password", "short", "at least 12 characters"),
        ("password", "x" * 2000, "It may have at most 1024 characters."),
        ("password", "ada.king1234", "not your user name"),
        ("again", "another one, quite", "The two passwords differ."),
    ],
)
def test_a_mistake_is_shown_at_its_field_and_nothing_is_written(
    site: Site, field: str, value: str, message: str
) -> None:
    before = site.clinic.run(COUNTS)
    visitor = site.anyone()
    if value == TOMORROW:
        value = str(today() + timedelta(days=1))
    sent = registration(site, **{field: value})
    if field == "password":
        sent["again"] = value
    assert visitor.post("/register", sent).status_code == 422
    page = text(visitor)
    assert visitor.page is not None
    html5lib.HTMLParser(strict=True).parse(visitor.page.text)
    assert f'id="{field}-fault">{message}' in page
    assert f'aria-describedby="{field}' in page
    assert f'<a href="#{field}">' in page  # the list of faults leads to the field
    assert "<title>Error: Register" in page
    for name in {"first_name", "email", "username"} - {field}:
        assert f'value="{sent[name]}"' in page
    assert NEW not in page
    assert site.clinic.run(COUNTS) == before


def test_a_user_name_is_taken_once(site: Site) -> None:
    visitor = site.anyone()
    taken = site.username("doctor").upper()
    assert visitor.post("/register", registration(site, username=taken)).status_code == 409
    assert 'id="username-fault">this user name is taken' in text(visitor)
    before = site.clinic.run(COUNTS)[0]
    racers = [site.anyone() for _ in range(3)]
    for racer in racers:
        racer.token()
    works = [
        partial(racer.post, "/register", registration(site, username="racer")) for racer in racers
    ]
    answers = site.together("users", works, waiting="INSERT INTO users%")
    assert sorted(answer.status_code for answer in answers) == [302, 409, 409]
    for answer in answers:
        assert answer.status_code == 302 or "this user name is taken" in answer.text
    assert site.clinic.run(COUNTS)[0] == (before[0] + 1, before[1] + 1)


def test_too_many_registrations_are_told_to_wait(site: Site) -> None:
    with opened_site(site.clinic, registration_rate=1) as strict:
        first, second = (strict.anyone(address="192.0.2.9") for _ in range(2))
        sent = registration(site, username="first.one")
        assert first.post("/register", sent).status_code == 302
        answer = second.post("/register", {**sent, "username": "second.one"})
        assert answer.status_code == 429
        assert "Try again in" in answer.text
        assert int(answer.headers["Retry-After"]) > 60


def test_a_patient_books_cancels_and_the_time_is_free_again(site: Site) -> None:
    patient, day = site.visitor("patient"), workday(3)
    path = booking(site, day)
    assert patient.get(path).status_code == 200
    assert 'value="09:30"' in text(patient)
    sent = {"time": "09:30", "reason": "Knee, since Friday\r\n\tboth"}
    answer = patient.post(path, sent)
    assert (answer.status_code, answer.location) == (302, "/appointments")
    patient.get("/appointments")
    assert "09:30 is booked." in text(patient)
    assert "Knee, since Friday" in text(patient)
    patient.get(path)
    assert 'value="09:30"' not in text(patient)
    assert 'value="10:00"' in text(patient)
    patient.get("/")
    assert f"{day.day} " in text(patient)
    row = site.clinic.run(
        "SELECT appointment_id, channel, created_by FROM appointments WHERE reason LIKE 'Knee, %%'"
    )[0]
    assert row[1:] == ("web", patient.username)
    answer = patient.post(f"/appointments/{row[0]}/cancel", follow_redirects=True)
    assert "09:30 is cancelled." in text(patient)
    patient.post(f"/appointments/{row[0]}/cancel", follow_redirects=True)
    assert "cannot be cancelled any more" in text(patient)
    patient.get(path)
    assert 'value="09:30"' in text(patient)


def test_one_of_two_who_race_for_a_time_gets_it(site: Site) -> None:
    path = booking(site, workday(4))
    racers = [site.another(site.username("patient", number=n)) for n in (10, 11)]
    for racer in racers:
        racer.get(path)
    works = [
        partial(racer.post, path, {"time": "11:00", "reason": f"R{n}"})
        for n, racer in enumerate(racers)
    ]
    answers = site.together("appointments", works, waiting="INSERT INTO appointments%")
    assert sorted(answer.status_code for answer in answers) == [302, 409]
    loser = racers[0] if answers[0].status_code == 409 else racers[1]
    assert f'id="time-fault">{TAKEN}' in text(loser)
    assert 'value="11:00"' not in text(loser)
    assert 'value="11:30"' in text(loser)
    assert ">R" in text(loser)  # the reason is still there
    assert loser.post(path, {"time": "11:00"}).status_code == 422  # it is not offered any more
    assert loser.post(path, {"time": "11:30"}).status_code == 302


def test_nobody_is_with_two_doctors_at_once(site: Site) -> None:
    patient, day = site.another(site.username("patient", number=12)), workday(5)
    assert patient.post(booking(site, day), {"time": "08:00"}).status_code == 302
    answer = patient.post(booking(site, day, doctor=1), {"time": "08:00"})
    assert answer.status_code == 409
    assert BUSY in text(patient)
    # in two windows at the same moment
    works = [
        partial(patient.client.post, booking(site, day, doctor=n), data=sent)
        for n, sent in enumerate([{"csrf_token": patient.token(), "time": "09:00"}] * 2)
    ]
    answers = site.together("appointments", works, waiting="%")
    assert sorted(answer.status_code for answer in answers) == [302, 409]


def test_staff_books_for_a_patient_of_the_hospital(site: Site) -> None:
    desk, path = site.visitor("receptionist"), booking(site, workday(6))
    assert desk.post(path, {"time": "08:00"}).status_code == 422
    assert "Enter the patient's record number or name." in text(desk)
    assert desk.post(path, {"time": "08:00", "record_no": "P999999"}).status_code == 422
    assert f'id="record_no-fault">{UNKNOWN}' in text(desk)
    assert desk.post(path, {"time": "08:00", "record_no": "P\0"}).status_code == 422
    assert desk.post(path, {"time": "08:00", "record_no": "P000012"}).status_code == 302
    desk.get("/appointments?status=booked&name=P000012")
    assert "1 appointment" in text(desk)
    assert re.search(r"<bdi>[^<]+</bdi> <span[^>]*>P000012</span>", text(desk))


def test_staff_finds_a_patient_by_name(site: Site) -> None:
    desk, path = site.visitor("receptionist"), booking(site, workday(14))
    ((first, last, number),) = site.clinic.run(
        "SELECT first_name, last_name, record_no FROM patients JOIN hospitals USING (hospital_id)"
        " WHERE code = 'H0001' AND record_no = 'P000014'"
    )
    asked = {"time": "08:00", "record_no": f"{first} {last}".upper()}
    assert desk.post(path, asked).status_code == 422
    assert WHO in text(desk)
    assert f'name="match" value="{number}"' in text(desk)
    other = site.clinic.value(
        "SELECT min(record_no) FROM patients JOIN hospitals USING (hospital_id)"
        " WHERE code = 'H0001' AND last_name <> %s",
        last,
    )
    for match in (other, "P\0", "", "x" * 500):  # nobody of those who are offered
        assert desk.post(path, {**asked, "match": match}).status_code == 422
    assert desk.post(path, {**asked, "match": number}).status_code == 302
    desk.get(f"/appointments?status=booked&name={number}")
    assert f"{first} {last}</bdi>" in text(desk)


def test_a_name_finds_no_patient_of_another_hospital_and_not_all_of_one(site: Site) -> None:
    desk, path = site.visitor("receptionist"), booking(site, workday(14))
    foreign = site.clinic.value(
        "SELECT first_name || ' ' || last_name FROM patients JOIN hospitals USING (hospital_id)"
        " WHERE code = 'H0002' AND NOT EXISTS (SELECT FROM patients p JOIN hospitals h"
        "  USING (hospital_id) WHERE h.code = 'H0001' AND p.last_name = patients.last_name"
        "  AND p.first_name = patients.first_name) LIMIT 1"
    )
    for name in (foreign, "%", "_ _"):
        assert desk.post(path, {"time": "09:00", "record_no": name}).status_code == 422
        assert UNKNOWN in text(desk)
        assert 'name="match"' not in text(desk)
    assert desk.post(path, {"time": "09:00", "record_no": "a"}).status_code == 422
    assert MANY in text(desk)
    assert 'name="match"' not in text(desk)


def test_a_name_finds_nobody_for_those_who_may_see_no_patients(site: Site) -> None:
    desk, path = site.visitor("receptionist"), booking(site, workday(14))
    name = site.clinic.value("SELECT last_name FROM patients WHERE record_no = 'P000014' LIMIT 1")
    rights = (
        "UPDATE role_module_access a SET (can_view, can_add, can_edit) = (v, v, v)"
        " FROM role_master r, module_master m, (VALUES (%s)) AS allowed (v)"
        " WHERE r.role_id = a.role_id AND m.module_id = a.module_id"
        " AND (r.code, m.code) = ('receptionist', 'patients')"
    )
    site.clinic.run(rights, False)
    try:
        assert desk.post(path, {"time": "09:00", "record_no": name}).status_code == 422
    finally:
        site.clinic.run(rights, True)
    assert UNKNOWN in text(desk)


def test_a_patient_reads_the_own_record_number(site: Site) -> None:
    patient = site.visitor("patient")
    number = site.clinic.value(
        "SELECT record_no FROM patients JOIN users USING (patient_id) WHERE username = %s",
        patient.username,
    )
    patient.get("/account")
    assert f"record number {number}<" in text(patient)
    site.visitor("receptionist").get("/account")
    assert "record number" not in text(site.visitor("receptionist"))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("day=2026-02-30", "Enter a day as year-month-day"),
        ("day=2020-01-01", "Enter a day from"),
        ("day=9999-12-31", "Enter a day from"),
        ("day=", "Choose a day."),
        ("day=%00", "Choose a day."),
        ("doctor=", "Choose a doctor or therapist."),
        ("doctor=%00", "Choose a doctor or therapist."),
        ("doctor=' OR 1=1", "Choose a doctor or therapist."),
    ],
)
def test_nothing_is_offered_for_what_cannot_be(site: Site, query: str, message: str) -> None:
    patient = site.visitor("patient")
    name, _, value = query.partition("=")
    good = booking(site, workday(2))
    path = "/appointments/new?" + "&".join(
        f"{name}={value}" if part.startswith(name) else part
        for part in good.partition("?")[2].split("&")
    )
    for answer in (patient.get(path), patient.post(path, {"time": "08:00"})):
        assert answer.status_code == 422
        html5lib.HTMLParser(strict=True).parse(answer.text)
        assert message in html.unescape(answer.text)


def test_a_time_that_is_not_offered_is_refused(site: Site) -> None:
    patient, day = site.visitor("patient"), workday(7)
    path = booking(site, day)
    staff_id = site.clinic.value(DOCTOR, "H0001", 0)
    assert patient.post("/appointments/new", {"time": "08:00"}).status_code == 422
    assert "Choose a doctor or therapist." in text(patient)
    for sent in ({}, {"time": "08:10"}, {"time": "03:00"}, {"time": "\0"}, {"time": "08:00" * 99}):
        assert patient.post(path, sent).status_code == 422
        assert 'id="time-fault">' in text(patient)
    assert patient.post(path, {"time": "08:00", "reason": "x" * 501}).status_code == 422
    assert patient.post(path, {"time": "08:00", "reason": "a\0b"}).status_code == 422
    assert 'id="reason-fault">It has a character that cannot be stored.' in text(patient)
    assert 'value="08:00" required checked' in text(patient)
    sunday = booking(site, day - timedelta(days=1))
    assert "No time is free" in patient.get(sunday).text
    assert patient.post(sunday, {"time": "08:00"}).status_code == 422
    elsewhere = booking(site, day, hospital="H0002")
    assert patient.post(elsewhere, {"time": "08:00"}).status_code == 422
    assert site.clinic.value(BOOKED, staff_id, day) == 0


@pytest.mark.parametrize(
    "query",
    ["period=never", "status=%00", "name=%00", "name=" + "x" * 101, "name=%E2%80%AEx", "status=x"],
)
def test_a_filter_says_what_it_does_not_know(site: Site, query: str) -> None:
    desk = site.visitor("receptionist")
    answer = desk.get(f"/appointments?{query}")
    assert answer.status_code == 422
    assert f'id="{query.partition("=")[0]}-fault"' in answer.text


@pytest.mark.parametrize("page", ["0", "-1", "x", "1.5", "99999", "1e3", "%00", "٣", "9" * 50])
def test_a_page_that_is_none_is_not_found(site: Site, page: str) -> None:
    assert site.visitor("receptionist").get(f"/appointments?page={page}").status_code == 404
    assert site.visitor("hospital_admin", 2).get(f"/users?page={page}").status_code == 404


def test_lists_come_in_pages_and_each_row_once(site: Site) -> None:
    admin = site.visitor("hospital_admin", 2)
    number = site.clinic.value(
        "SELECT count(*) FROM users JOIN hospitals USING (hospital_id) WHERE code = 'H0002'"
    )
    seen: list[str] = []
    path: str | None = "/users"
    while path:
        shown = html.unescape(admin.get(path).text)
        seen += [part.partition('"')[0] for part in shown.split('href="/users/')[1:]]
        rest = shown.partition('rel="next" href="')[2]
        path = rest.partition('"')[0] or None
    assert len(seen) == len(set(seen)) == number
    percent = html.unescape(admin.get("/users?name=%25").text)  # no wildcard
    assert "There are no such users" in percent


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("a\0b", "x"),
        ("x" * 100_000, "x"),
        ("\u202e", "x"),
        ("", ""),
        ("ada", "\0" * 10),
        ("x", "y" * 99_999),
    ],
)
def test_a_login_takes_any_text_for_a_wrong_one(site: Site, username: str, password: str) -> None:
    visitor = site.anyone()
    assert visitor.log_in(username or " ", password, next="\0/").status_code in (401, 422)
    assert visitor.page is not None
    html5lib.HTMLParser(strict=True).parse(visitor.page.text)


def test_a_body_that_is_too_large_is_not_read(site: Site) -> None:
    visitor = site.anyone()
    token = visitor.token()
    answer = visitor.client.post(
        "/register",
        data=urlencode({"csrf_token": token, "x": "y" * (2 << 20)}).encode(),
        content_type="application/x-www-form-urlencoded",
    )
    assert answer.status_code == 413
    assert "That was too much" in answer.text
    many = {f"f{n}": "x" for n in range(300)}
    answer = visitor.client.post(
        "/register", data={"csrf_token": token, **many}, content_type="multipart/form-data"
    )
    assert answer.status_code == 413
