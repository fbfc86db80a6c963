"""Requests of the clinic whose connection is cut: before a COMMIT, and while it is under way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from apis import monday
from offices import PASSWORD
from visitors import Site, Visitor
from waiting import until

from clinic.web.security import sessions

_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def cut(site: Site, table: str, work: Callable[[], Any]) -> Any:
    """Call `work`, and cut its connection when it asks for a table."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    with site.clinic.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        thread.start()
        until(lambda: site.clinic.value(_CUT))
        cursor.execute("ROLLBACK")
    connection.close()
    thread.join()
    return results[0]


@pytest.fixture
def patient(site: Site) -> Visitor:
    return site.visitor("patient")


def booking(site: Site) -> str:
    doctor = site.clinic.value(
        "SELECT staff_id FROM staff JOIN users USING (staff_id) WHERE job = 'doctor'"
        " AND username = %s",
        site.username("doctor"),
    )
    return f"/appointments/new?doctor={doctor}&day={monday().date()}"


def test_a_page_that_was_counted_is_read_once_more(site: Site, patient: Visitor) -> None:
    sessions._touched.clear()
    site.clinic.run("UPDATE user_sessions SET last_seen_at = now() - interval '2 minutes'")
    assert cut(site, "appointments", lambda: patient.get("/appointments")).status_code == 200


@pytest.mark.parametrize("table", ["user_sessions", "staff", "patients", "appointments"])
def test_a_form_that_was_cut_before_its_commit_is_done_once(
    site: Site, patient: Visitor, table: str
) -> None:
    path, reason = booking(site), f"cut at {table}"
    hour = f"{8 + ['user_sessions', 'staff', 'patients', 'appointments'].index(table):02}:00"
    form = {"csrf_token": patient.token(), "time": hour, "reason": reason}
    answer = cut(site, table, lambda: patient.client.post(path, data=form))
    assert (answer.status_code, answer.location) == (302, "/appointments"), answer.text
    assert site.clinic.value("SELECT count(*) FROM appointments WHERE reason = %s", reason) == 1


def test_a_form_whose_commit_was_cut_says_that_nobody_knows(site: Site, patient: Visitor) -> None:
    with site.ending("appointments"):
        answer = patient.post(booking(site), {"time": "16:00", "reason": "cut at its commit"})
        assert answer.status_code == 503
        assert "What you sent may be done or not." in answer.text
        assert "Retry-After" not in answer.headers
        assert site.clinic.value("SELECT nextval('ended')") == 2  # it was not sent again


@pytest.mark.parametrize("table", ["rate_limits", "login_throttle", "login_history"])
def test_a_count_whose_commit_was_cut_is_counted_again(site: Site, table: str) -> None:
    visitor = site.anyone()
    visitor.token()
    with site.ending(table):
        form = {"username": site.username("nurse"), "password": "wrong"}
        assert visitor.post("/login", form).status_code == 401


def test_a_read_of_the_api_whose_count_was_cut_at_its_commit_is_answered(site: Site) -> None:
    client = site.app.test_client()
    credentials = {"username": site.username("patient"), "password": PASSWORD}
    tokens = client.post("/api/auth/login", json=credentials).get_json()
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    with site.ending("rate_limits"):
        assert client.get("/api/appointments", headers=headers).status_code == 200
