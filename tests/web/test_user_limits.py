"""What somebody who is logged in may do: so many requests, and so many bookings ahead."""

from __future__ import annotations

import datetime
import html
from functools import partial
from typing import Any

import pytest
from apis import Caller, monday
from offices import PASSWORD
from visitors import Site, Visitor, opened_site

from clinic.web import calendar

FAR = "2 years"
_DOCTORS = """
SELECT staff_id FROM staff s JOIN hospitals h USING (hospital_id)
WHERE h.code = 'H0002' AND job IN ('doctor', 'therapist') AND left_on IS NULL ORDER BY staff_id
"""
_AHEAD = "SELECT count(*) FROM appointments WHERE created_by = %s AND status = 'booked'"


def test_pages_of_one_user_are_limited_and_nobody_elses(site: Site) -> None:
    with opened_site(site.clinic, api_rate=5) as strict:
        visitor, other = (strict.another(strict.username("nurse", number=n)) for n in (0, 1))
        token = visitor.token()  # on a page: the first one
        answers = [visitor.get(path) for path in ("/", "/appointments", "/account", "/")]
        assert [answer.status_code for answer in answers] == [200] * 4
        refused = visitor.get("/appointments")
        assert refused.status_code == 429
        assert "Too many requests" in refused.text
        assert "Try again in" in refused.text
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert "Log out" in refused.text  # the page knows who it is
        # whatever it is, also what one has no permission for; and nothing is done
        assert visitor.get("/users").status_code == 429
        form = {"current": PASSWORD, "new": "x" * 20, "again": "x" * 20, "csrf_token": token}
        assert visitor.client.post("/account", data=form).status_code == 429
        assert other.get("/appointments").status_code == 200
        assert caller(strict, visitor.username).get("/api/me").status_code == 200
        site.clinic.run("UPDATE rate_limits SET expires_at = now()")
        assert visitor.get("/appointments").status_code == 200
        site.clinic.run("UPDATE rate_limits SET hits = 100")
        assert visitor.client.post("/logout", data={"csrf_token": token}).status_code == 302


def test_pages_for_everybody_are_not_counted(site: Site) -> None:
    with opened_site(site.clinic, api_rate=1) as strict:
        visitor = strict.anyone()
        assert {visitor.get("/login").status_code for _ in range(4)} == {200}
        assert {visitor.get("/").status_code for _ in range(4)} == {302}
        visitor = strict.another(strict.username("nurse", number=2))
        assert {visitor.get("/static/clinic.css").status_code for _ in range(4)} == {200}
        assert visitor.get("/").status_code == 200


def caller(site: Site, username: str) -> Caller:
    credentials = {"username": username, "password": PASSWORD}
    answer = site.app.test_client().post("/api/auth/login", json=credentials)
    return Caller(site.app, answer.get_json()["access_token"], username)


class Diary:
    """The hours of a doctor of the second hospital, each for one use."""

    def __init__(self, site: Site, number: int) -> None:
        self.doctor = str(site.clinic.run(_DOCTORS)[number][0])
        self._starts = iter(
            monday() + datetime.timedelta(days=day, minutes=30 * half)
            for day in range(4)
            for half in range(18)
        )

    def body(self, **more: Any) -> dict[str, Any]:
        return {"staff_id": self.doctor, "starts_at": next(self._starts).isoformat(), **more}

    def form(self) -> tuple[str, dict[str, str]]:
        start = next(self._starts)
        path = f"/appointments/new?doctor={self.doctor}&day={start.date()}"
        return path, {"time": f"{start:%H:%M}"}


def booked(patient: Caller, diary: Diary, number: int) -> list[str]:
    """Book visits and return their IDs."""
    answers = [patient.post("/api/appointments", diary.body()) for _ in range(number)]
    assert [answer.status_code for answer in answers] == [201] * number, answers[-1].text
    return [answer.json["appointment_id"] for answer in answers]  # type: ignore[index]


def test_a_patient_books_ten_visits_ahead_and_no_more(site: Site) -> None:
    username, diary = site.username("patient", 2, number=11), Diary(site, 0)
    patient, browser = caller(site, username), site.another(username)
    first, second, *_ = booked(patient, diary, calendar.MOST_AHEAD)
    refused = patient.post("/api/appointments", diary.body())
    assert (refused.status_code, refused.content_type) == (409, "application/problem+json")
    assert refused.json is not None
    assert refused.json["detail"] == (
        "10 visits that you have booked lie ahead: cancel one, or ask the hospital"
    )
    path, form = diary.form()
    answer = browser.post(path, form)
    assert answer.status_code == 409
    told = "10 visits that you have booked lie ahead. Cancel one, or call the hospital."
    assert html.unescape(answer.text).count(told) == 2  # at the field, and in the summary
    assert f'value="{form["time"]}" required checked' in answer.text  # it is still free
    assert site.clinic.value(_AHEAD, username) == 10

    # what the hospital books counts for nobody
    desk = caller(site, site.username("receptionist", 2))
    me = patient.get("/api/me").json["patient_id"]  # type: ignore[index]
    assert desk.post("/api/appointments", diary.body(patient_id=me)).status_code == 201
    assert patient.post("/api/appointments", diary.body()).status_code == 409

    # nor what is cancelled or over
    assert patient.post(f"/api/appointments/{first}/cancel").status_code == 200
    assert browser.post(path, form).status_code == 302
    assert patient.post("/api/appointments", diary.body()).status_code == 409
    site.clinic.run(
        f"UPDATE appointments SET starts_at = starts_at - interval '{FAR}',"
        f" ends_at = ends_at - interval '{FAR}' WHERE appointment_id = %s",
        second,
    )
    assert patient.post("/api/appointments", diary.body()).status_code == 201


@pytest.mark.parametrize("kinds", ["api api", "page page", "api page"])
def test_of_bookings_that_race_for_the_tenth_one_is_made(site: Site, kinds: str) -> None:
    number = 12 + ["api api", "page page", "api page"].index(kinds)
    username, diary = site.username("patient", 2, number=number), Diary(site, number - 11)
    patient = caller(site, username)
    booked(patient, diary, calendar.MOST_AHEAD - 1)
    works = []
    for kind in kinds.split():
        if kind == "api":
            works.append(partial(patient.post, "/api/appointments", diary.body()))
        else:
            works.append(partial(from_page(site, username).post, *diary.form()))
    answers = site.together("appointments", works, waiting="%")
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses in ([201, 409], [302, 409]), [answer.text for answer in answers]
    assert site.clinic.value(_AHEAD, username) == calendar.MOST_AHEAD


def from_page(site: Site, username: str) -> Visitor:
    visitor = site.another(username)
    visitor.token()
    return visitor
