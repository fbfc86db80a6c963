"""Patients, appointments and invoices by the API: lists, changes, and what the database refuses."""

from __future__ import annotations

import base64
import datetime
import itertools
import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from apis import Api, Caller, fields, monday, problem, serving
from waiting import PATIENCE, meanwhile, until

from clinic.models import metadata
from clinic.web.api import violations

_HOURS = itertools.count()
_OF_A_DAY = 18  # half hours from 08:00 to 17:00
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
UUID_1 = str(uuid.UUID(int=1))


def cursor(*values: Any) -> str:
    """Return what would be the cursor of a page after a row with these values."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def free_hour() -> str:
    """Return the beginning of a half hour that no test has booked yet."""
    day, number = divmod(next(_HOURS), _OF_A_DAY)
    week, day = divmod(day, 5)
    begins = datetime.timedelta(days=7 * week + day, minutes=30 * number)
    return (monday() + begins).isoformat()


@pytest.fixture
def admin(api: Api) -> Caller:
    return api.caller("hospital_admin")


@pytest.fixture
def desk(api: Api) -> Caller:
    return api.caller("receptionist")


@pytest.fixture
def booking(admin: Caller) -> dict[str, Any]:
    """Return the body of an appointment that can be booked."""
    one = admin.get("/api/appointments", limit=1).json["items"][0]
    return {
        "staff_id": one["staff_id"],
        "patient_id": one["patient_id"],
        "starts_at": free_hour(),
        "reason": "Control\nwith two lines",
    }


@pytest.fixture
def patient(admin: Caller) -> dict[str, Any]:
    """Return the body of a patient who can be registered."""
    return {
        "branch_id": admin.get("/api/patients", limit=1).json["items"][0]["branch_id"],
        "first_name": "Zoë",
        "last_name": "O'Brien",
        "born_on": "1990-02-28",
    }


@pytest.fixture
def invoice(api: Api) -> dict[str, Any]:
    """Return the body of an invoice that can be written."""
    consultation = api.clinic.value(
        "SELECT consultation_id FROM consultations JOIN hospitals USING (hospital_id)"
        " WHERE code = 'H0001' LIMIT 1"
    )
    return {
        "consultation_id": str(consultation),
        "issued_on": "2026-11-01",
        "due_on": "2026-12-01",
        "lines": [
            {"text": "Consultation", "amount": "80.10", "code": 10},
            {"text": "X", "amount": "0.90"},
        ],
        "tax": "19.00",
    }


# --- lists


def pages(caller: Caller, path: str, **query: Any) -> Iterator[list[dict[str, Any]]]:
    answer = caller.get(path, **query)
    while True:
        assert answer.status_code == 200, answer.text
        yield answer.json["items"]
        if (path := answer.json["next"]) is None:
            return
        answer = caller.get(path)


@pytest.mark.parametrize(
    ("name", "key", "order"),
    [
        ("patients", "patient_id", ("last_name", "first_name", "patient_id")),
        ("appointments", "appointment_id", ("starts_at", "appointment_id")),
        ("invoices", "invoice_id", ("invoice_no",)),
        ("consultations", "consultation_id", ("started_at", "consultation_id")),
    ],
)
def test_pages_hold_each_row_once_and_in_order(
    api: Api, admin: Caller, name: str, key: str, order: tuple[str, ...]
) -> None:
    parts = list(pages(admin, f"/api/{name}", limit=90))
    assert {len(part) for part in parts[:-1]} == {90}
    ids = [item[key] for part in parts for item in part]
    expected = api.clinic.run(
        f"SELECT {key}::text FROM {name} JOIN hospitals USING (hospital_id)"
        f" WHERE code = 'H0001' ORDER BY {', '.join(f'{name}.{column}' for column in order)}"
    )
    assert ids == [row[0] for row in expected]


def test_rows_that_come_and_go_shift_no_page(admin: Caller, patient: dict[str, Any]) -> None:
    names = [f"Shift{letter}" for letter in "bdfh"]
    for name in names:
        assert admin.post("/api/patients", patient | {"last_name": name}).status_code == 201
    listed = pages(admin, "/api/patients", limit=2, last_name="shift")
    first = [item["last_name"] for item in next(listed)]
    assert admin.post("/api/patients", patient | {"last_name": "Shifta"}).status_code == 201
    rest = [item["last_name"] for part in listed for item in part]
    assert first + rest == names


def test_a_page_follows_its_filter(admin: Caller) -> None:
    parts = list(pages(admin, "/api/appointments", status="cancelled", limit=20))
    assert len(parts) > 2
    assert {item["status"] for part in parts for item in part} == {"cancelled"}


def test_filters(api: Api, admin: Caller) -> None:
    first = admin.get("/api/appointments", limit=1).json["items"][0]
    time = "2026-06-01T00:00:00+00:00"
    before = [*pages(admin, "/api/appointments", starts_before=time, limit=200)]
    after = [*pages(admin, "/api/appointments", starts_from=time, limit=200)]
    count = api.clinic.value(
        "SELECT count(*) FROM appointments JOIN hospitals USING (hospital_id) WHERE code = 'H0001'"
    )
    assert sum(map(len, before + after)) == count
    assert max(item["starts_at"] for part in before for item in part) < "2026-06-01"
    for name in ("staff_id", "patient_id"):
        items = admin.get("/api/appointments", **{name: first[name]}).json["items"]
        assert {item[name] for item in items} == {first[name]}
    items = admin.get("/api/patients", record_no="P000007").json["items"]
    assert [item["record_no"] for item in items] == ["P000007"]
    items = admin.get("/api/patients", last_name="sCHm", limit=200).json["items"]
    assert items
    assert all(item["last_name"].startswith("Schm") for item in items)
    assert admin.get("/api/patients", last_name="%").json["items"] == []
    unpaid = [*pages(admin, "/api/invoices", status="open", due_before="2026-03-01", limit=200)]
    assert all(item["due_on"] < "2026-03-01" for part in unpaid for item in part)
    assert admin.get("/api/patients", is_active="false").json["items"] == []


def test_a_value_that_is_refused_says_what_is_expected(admin: Caller) -> None:
    path = f"/api/appointments/{admin.get('/api/appointments').json['items'][0]['appointment_id']}"
    assert fields(admin.patch(path, {"status": "cancelled"})) == {
        "status": "expected arrived, completed or no_show; to cancel: POST .../cancel"
    }
    for time in ("2026-12-01", "tomorrow", "2026-12-01T00:00:00"):
        said = {"starts_at": "expected a time such as 2026-12-01T00:00:00Z"}
        assert fields(admin.patch(path, {"starts_at": time})) == said
    answer = admin.get("/api/invoices", status="overdue")
    assert fields(answer) == {"status": "expected open, paid or void"}


def test_what_the_lists_name_is_all_that_a_visit_and_its_invoice_need(api: Api) -> None:
    """The document alone leads from a login to a patient, a visit and an invoice."""
    desk = api.caller("receptionist")
    branch = next(one for one in desk.get("/api/branches").json["items"] if one["is_main"])
    names = {"first_name": "Ada", "last_name": "New", "born_on": "1990-02-28"}
    patient = desk.post("/api/patients", names | {"branch_id": branch["branch_id"]}).json
    staff = desk.get("/api/staff").json["items"][0]
    assert {one["job"] for one in desk.get("/api/staff").json["items"]} <= {"doctor", "therapist"}
    day = (monday() + datetime.timedelta(days=14)).date().isoformat()
    path = f"/api/staff/{staff['staff_id']}/free"
    offered = desk.get(path, day=day).json
    assert (offered["staff_id"], offered["day"]) == (staff["staff_id"], day)
    first = offered["free"][0]
    body = {"staff_id": staff["staff_id"], "patient_id": patient["patient_id"]}
    booked = desk.post("/api/appointments", body | {"starts_at": first["starts_at"]})
    assert booked.json["ends_at"] == first["ends_at"]
    assert desk.get(path, day=day).json["free"] == offered["free"][1:]
    sunday = (monday() + datetime.timedelta(days=6)).date().isoformat()
    assert desk.get(path, day=sunday).json["free"] == []
    consultation = desk.get("/api/consultations", limit=1).json["items"][0]
    written = {
        "consultation_id": consultation["consultation_id"],
        "issued_on": "2026-11-01",
        "due_on": "2026-12-01",
        "lines": [{"text": "Consultation", "amount": "80.00"}],
    }
    invoice = desk.post("/api/invoices", written)
    assert invoice.json["patient_id"] == consultation["patient_id"]


def test_free_times_are_of_those_who_see_patients_and_of_days_that_can_be_booked(api: Api) -> None:
    desk = api.caller("receptionist")
    nurse = api.clinic.value(
        "SELECT staff_id FROM staff JOIN hospitals USING (hospital_id)"
        " WHERE code = 'H0001' AND job = 'nurse' LIMIT 1"
    )
    problem(desk.get(f"/api/staff/{nurse}/free"), 404)
    path = f"/api/staff/{desk.get('/api/staff').json['items'][0]['staff_id']}/free"
    now = datetime.datetime.now(datetime.timezone.utc)
    shown = datetime.date.fromisoformat(desk.get(path).json["day"])
    assert now.date() <= shown <= datetime.datetime.now(datetime.timezone.utc).date()
    for days in (-1, 3 * 365):
        day = now.date() + datetime.timedelta(days=days)
        assert list(fields(desk.get(path, day=day.isoformat()))) == ["day"]
    begins = [one["starts_at"] for one in desk.get(path).json["free"]]
    assert all(datetime.datetime.fromisoformat(each) > now for each in begins)


def test_lists_of_staff_and_consultations_follow_their_filters(admin: Caller) -> None:
    staff = admin.get("/api/staff", limit=200).json["items"]
    branch = staff[0]["branch_id"]
    assert [one for one in staff if one["branch_id"] == branch] == admin.get(
        "/api/staff", branch_id=branch, limit=200
    ).json["items"]
    seen = admin.get("/api/consultations", limit=200).json["items"]
    middle = seen[100]["started_at"]
    found = admin.get("/api/consultations", started_from=middle, limit=5).json["items"]
    assert found[0]["started_at"] == middle
    found = [*pages(admin, "/api/consultations", started_before=middle)]
    assert max(one["started_at"] for part in found for one in part) < middle
    for name in ("staff_id", "patient_id"):
        items = admin.get("/api/consultations", **{name: seen[0][name]}).json["items"]
        assert {one[name] for one in items} == {seen[0][name]}
    assert admin.get("/api/branches", is_active="false").json["items"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=99999999999999999999999", "limit"),
        ("status=gone", "status"),
        ("staff_id=1", "staff_id"),
        ("starts_from=2026-01-01T00:00:00", "starts_from"),
        ("starts_from=yesterday", "starts_from"),
        ("starts_from=0001-01-01T00:00:00%2B10:00", "starts_from"),
        (f"after={cursor('2026-01-01T00:00:00', UUID_1)}", "after"),
        (f"after={cursor('0001-01-01T00:00:00+10:00', UUID_1)}", "after"),
        (f"after={cursor('x', UUID_1)}", "after"),
        (f"after={cursor('2026-01-01T00:00:00Z', 1)}", "after"),
        ("offset=5", "offset"),
        ("after=x", "after"),
        ("after=W10=", "after"),
        ("after=WzEsMl0=", "after"),
        ("after=" + "W" * 1996, "after"),
        ("after=" + "W" * 3000, "after"),
        ("a%00b=1", "a\ufffdb"),
    ],
)
def test_a_query_that_is_not_understood(admin: Caller, query: str, field: str) -> None:
    assert list(fields(admin.get(f"/api/appointments?{query}"))) == [field]


def test_offsets_that_postgresql_does_not_take(admin: Caller) -> None:
    for offset in ("+16:00", "-23:59"):
        query = {"starts_from": f"2026-06-01T00:00:00{offset}", "limit": 1}
        assert admin.get("/api/appointments", **query).status_code == 200
        after = cursor(f"2026-06-01T00:00:00{offset}", UUID_1)
        assert admin.get(f"/api/appointments?after={after}").status_code == 200


def test_a_query_with_a_nul_byte(admin: Caller) -> None:
    assert fields(admin.get("/api/patients?last_name=a%00")) == {"last_name": "has a NUL byte"}
    assert list(fields(admin.get(f"/api/patients?after={cursor(chr(0), 'a', UUID_1)}"))) == [
        "after"
    ]
    assert admin.get(f"/api/patients?after={cursor('a', 'b', UUID_1)}").status_code == 200


# --- patients


def test_a_patient_is_registered_read_and_changed(
    api: Api, desk: Caller, patient: dict[str, Any]
) -> None:
    whole = patient | {
        "gender": "female",
        "blood_group": "AB-",
        "email": "zoe@example.org",
        "phone": "+49 30 23125 000",
        "contact": {"city": "Köln", "kin_name": "Seán"},
        "allergies": ["pollen", "birch"],
        "notes": "Line one.\nLine two.\ttabbed",
    }
    made = desk.post("/api/patients", whole)
    assert made.status_code == 201, made.text
    path = made.headers["Location"]
    assert path == f"/api/patients/{made.json['patient_id']}"
    read = desk.get(path)
    assert read.json == made.json
    assert read.headers["ETag"] == made.headers["ETag"]
    assert {name: read.json[name] for name in whole} == whole
    assert read.json["record_no"].startswith("P")
    changed = desk.patch(path, {"phone": None, "allergies": []}, read.headers["ETag"])
    assert changed.status_code == 200
    expected = read.json | {"phone": None, "allergies": []}
    assert changed.json == expected | {"updated_at": changed.json["updated_at"]}
    assert changed.json["updated_at"] > read.json["updated_at"]
    ((created_by, updated_by),) = api.clinic.run(
        "SELECT created_by, updated_by FROM patients WHERE patient_id = %s",
        made.json["patient_id"],
    )
    assert created_by == updated_by == desk.username
    actors = api.clinic.run(
        "SELECT action, actor FROM audit_logs WHERE row_id = %s ORDER BY logged_at",
        made.json["patient_id"],
    )
    assert actors == [("INSERT", desk.username), ("UPDATE", desk.username)]


def test_a_change_of_what_somebody_else_has_changed_meanwhile(
    desk: Caller, admin: Caller, patient: dict[str, Any]
) -> None:
    made = desk.post("/api/patients", patient)
    path, read = made.headers["Location"], made.headers["ETag"]
    assert admin.patch(path, {"notes": "first"}, read).status_code == 200
    problem(desk.patch(path, {"notes": "second"}, read), 412)
    assert desk.get(path).json["notes"] == "first"
    problem(desk.patch(path, {"notes": "second"}, match=""), 428)
    problem(desk.patch(path, {"notes": "second"}, match='"abc"'), 412)
    problem(desk.patch(path, {"notes": "second"}, match="W/" + desk.get(path).headers["ETag"]), 412)
    assert desk.patch(path, {"notes": "second"}, desk.get(path).headers["ETag"]).status_code == 200


def test_of_two_changes_at_once_the_second_is_refused(
    api: Api, desk: Caller, patient: dict[str, Any]
) -> None:
    made = desk.post("/api/patients", patient)
    path, read = made.headers["Location"], made.headers["ETag"]
    answers: list[Any] = []

    def change(number: int) -> None:
        answers.append(Caller(api.app, desk.token).patch(path, {"notes": str(number)}, read))

    threads = [threading.Thread(target=change, args=(number,)) for number in range(2)]
    with closing(api.clinic.connect()) as other:
        api.clinic.run("BEGIN", session=other)
        key = made.json["patient_id"]
        lock = "SELECT FROM patients WHERE patient_id = %s FOR UPDATE"
        api.clinic.run(lock, key, session=other)
        for thread in threads:
            thread.start()
        until(lambda: api.clinic.value(WAITING) == 2, lambda: "not both wait for the row")
        api.clinic.run("COMMIT", session=other)
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    (winner,) = (answer.json["notes"] for answer in answers if answer.status_code == 200)
    assert desk.get(path).json["notes"] == winner


def test_a_record_number_that_is_taken(api: Api, desk: Caller, patient: dict[str, Any]) -> None:
    count = api.clinic.value("SELECT count(*) FROM patients")
    answer = desk.post("/api/patients", patient | {"record_no": "P000001"})
    assert fields(answer, 409) == {"record_no": "another patient has it"}
    assert api.clinic.value("SELECT count(*) FROM patients") == count


# --- appointments


def is_now(api: Api, appointment_id: str) -> None:
    """Let an appointment begin at this time."""
    api.clinic.run(
        "UPDATE appointments SET starts_at = now(), ends_at = now() + interval '30 min'"
        " WHERE appointment_id = %s",
        appointment_id,
    )


def test_nobody_has_arrived_at_a_visit_of_another_day(
    api: Api, admin: Caller, booking: dict[str, Any]
) -> None:
    made = admin.post("/api/appointments", booking)
    path = made.headers["Location"]
    day = booking["starts_at"][:10]
    for status in ("arrived", "completed"):
        said = fields(admin.patch(path, {"status": status}), 409)
        assert said == {"status": f"the visit is on {day} only"}
    said = fields(admin.patch(path, {"status": "no_show"}), 409)
    assert said == {"status": f"the visit begins at {made.json['starts_at']} only"}
    assert admin.get(path).json["status"] == "booked"
    # together with another time, that one counts
    is_now(api, made.json["appointment_id"])
    moved = {"status": "arrived", "starts_at": free_hour()}
    assert list(fields(admin.patch(path, moved), 409)) == ["status"]
    assert admin.patch(path, {"status": "no_show"}).json["status"] == "no_show"


def test_an_appointment_is_booked_moved_and_completed(
    api: Api, admin: Caller, booking: dict[str, Any]
) -> None:
    made = admin.post("/api/appointments", booking | {"channel": "referral"})
    assert made.status_code == 201, made.text
    path = made.headers["Location"]
    assert made.json["status"] == "booked"
    ends = datetime.datetime.fromisoformat(booking["starts_at"]) + datetime.timedelta(minutes=30)
    assert datetime.datetime.fromisoformat(made.json["ends_at"].replace("Z", "+00:00")) == ends
    later = free_hour()
    moved = admin.patch(path, {"starts_at": later}, made.headers["ETag"])
    assert moved.status_code == 200, moved.text
    assert moved.json["starts_at"] == later.replace("+00:00", "Z")
    # the first hour is free again
    again = admin.post("/api/appointments", booking)
    assert again.status_code == 201
    is_now(api, made.json["appointment_id"])
    for status in ("arrived", "completed"):
        assert admin.patch(path, {"status": status}).json["status"] == status
    assert fields(admin.patch(path, {"reason": "x"}), 409) == {"status": "is completed already"}
    assert list(fields(admin.post(f"{path}/cancel"), 409)) == ["status"]


def test_a_cancelled_hour_is_free_again(admin: Caller, booking: dict[str, Any]) -> None:
    made = admin.post("/api/appointments", booking)
    path = made.headers["Location"]
    problem(admin.post(f"{path}/cancel", **{"If-Match": '"1"'}), 412)
    taken = admin.post("/api/appointments", booking)
    assert fields(taken, 409) == {"starts_at": "this hour is taken"}
    cancelled = admin.post(f"{path}/cancel", **{"If-Match": made.headers["ETag"]})
    assert (cancelled.status_code, cancelled.json["status"]) == (200, "cancelled")
    assert admin.post("/api/appointments", booking).status_code == 201


def test_a_move_to_an_hour_that_is_taken(admin: Caller, booking: dict[str, Any]) -> None:
    first = admin.post("/api/appointments", booking)
    second = admin.post("/api/appointments", booking | {"starts_at": free_hour()})
    path = second.headers["Location"]
    answer = admin.patch(path, {"starts_at": first.json["starts_at"], "reason": "moved"})
    assert fields(answer, 409) == {"starts_at": "this hour is taken"}
    assert admin.get(path).json == second.json


def test_nobody_books_those_who_receive_no_patients(
    api: Api, admin: Caller, booking: dict[str, Any]
) -> None:
    (desk,) = api.clinic.run(
        "SELECT staff_id::text FROM staff JOIN hospitals USING (hospital_id)"
        " WHERE code = 'H0001' AND job = 'receptionist' LIMIT 1"
    )
    answer = admin.post("/api/appointments", booking | {"staff_id": desk[0]})
    assert fields(answer) == {"staff_id": "receives no patients"}
    assert list(fields(admin.post("/api/appointments", booking | {"patient_id": None}))) == [
        "patient_id"
    ]


def test_a_patient_is_in_one_place_at_a_time(
    api: Api, admin: Caller, booking: dict[str, Any]
) -> None:
    others = [
        row[0]
        for row in api.clinic.run(
            "SELECT staff_id::text FROM staff JOIN hospitals USING (hospital_id)"
            " WHERE code = 'H0001' AND job = 'doctor' AND staff_id <> %s",
            booking["staff_id"],
        )
    ]
    for _ in range(3):
        body = booking | {"starts_at": free_hour()}
        answers = at_once(
            lambda number, body=body: Caller(api.app, admin.token).post(
                "/api/appointments", body | {"staff_id": others[number]}
            ),
            3,
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409]
        lost = [answer for answer in answers if answer.status_code == 409]
        for answer in lost:
            assert fields(answer, 409) == {"starts_at": "the patient is elsewhere then"}
    elsewhere = admin.post("/api/appointments", booking | {"staff_id": others[0]})
    assert elsewhere.status_code == 201
    moved = admin.patch(elsewhere.headers["Location"], {"staff_id": others[1]})
    assert (moved.status_code, moved.json["staff_id"]) == (200, others[1]), "it is itself there"


def test_the_time_zone_of_the_server_is_no_matter(
    api: Api, admin: Caller, booking: dict[str, Any]
) -> None:
    afternoon = (monday() + datetime.timedelta(weeks=40, hours=8)).isoformat()
    made = admin.post("/api/appointments", booking | {"starts_at": afternoon})
    service = api.app.extensions["clinic"].service
    service.dispose()
    zone = f"ALTER DATABASE {api.clinic.name} {{}}"
    api.clinic.run(zone.format("SET timezone = 'Pacific/Kiritimati'"))  # 14 hours ahead
    try:
        path = made.headers["Location"]
        read = admin.get(path)
        assert read.json["starts_at"].endswith("+14:00")
        assert read.headers["ETag"] == made.headers["ETag"]
        moved = admin.patch(path, {"staff_id": made.json["staff_id"]}, made.headers["ETag"])
        assert moved.status_code == 200, moved.text
        following = admin.get("/api/appointments", limit=200).json["next"]
        assert admin.get(following).status_code == 200
    finally:
        api.clinic.run(zone.format("RESET timezone"))
        service.dispose()


def test_a_visit_that_meets_another_one(api: Api, admin: Caller, booking: dict[str, Any]) -> None:
    """Of a hospital whose visits took longer before, the hours do not begin together."""
    free = free_hour()
    begins = datetime.datetime.fromisoformat(free)
    made = admin.post("/api/appointments", booking)
    api.clinic.run(
        "UPDATE appointments SET starts_at = %s, ends_at = %s WHERE appointment_id = %s",
        begins - datetime.timedelta(minutes=10),
        begins + datetime.timedelta(minutes=10),
        made.json["appointment_id"],
    )
    answer = admin.post("/api/appointments", booking | {"starts_at": free})
    assert fields(answer, 409) == {"starts_at": "this hour is taken"}


@pytest.mark.parametrize("later", [{"days": 5}, {"hours": 9}, {"hours": -1}, {"minutes": 10}])
def test_nobody_is_seen_outside_of_the_hours(
    admin: Caller, booking: dict[str, Any], later: dict[str, int]
) -> None:
    time = (monday() + datetime.timedelta(**later)).isoformat()
    answer = admin.post("/api/appointments", booking | {"starts_at": time})
    assert "expected the beginning of a visit" in fields(answer)["starts_at"]


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_an_hour_that_somebody_is_about_to_take(
    api: Api, admin: Caller, booking: dict[str, Any], end: str
) -> None:
    """The look at what is taken does not show it yet: the index makes the request wait."""
    answers: list[Any] = []
    book = threading.Thread(
        target=lambda: answers.append(
            Caller(api.app, admin.token).post("/api/appointments", booking)
        )
    )
    other = api.clinic.run(
        "SELECT appointment_id, patient_id FROM appointments JOIN hospitals USING (hospital_id)"
        " WHERE code = 'H0001' AND patient_id <> %s AND status = 'booked' LIMIT 1",
        booking["patient_id"],
    )[0][0]
    with closing(api.clinic.connect()) as session:
        api.clinic.run("BEGIN", session=session)
        api.clinic.run(
            "UPDATE appointments SET staff_id = %s, starts_at = %s,"
            " ends_at = %s::timestamptz + interval '30 minutes' WHERE appointment_id = %s",
            *(booking["staff_id"], booking["starts_at"], booking["starts_at"], other),
            session=session,
        )
        book.start()
        until(lambda: api.clinic.value(WAITING) == 1, lambda: "the request does not wait")
        api.clinic.run(end, session=session)
    book.join(2 * PATIENCE)
    if end == "ROLLBACK":
        assert answers[0].status_code == 201
    else:
        assert fields(answers[0], 409) == {"starts_at": "this hour is taken"}


def at_once(send: Any, number: int) -> list[Any]:
    """Call `send` in threads that begin together, and return what they got."""
    gate, answers = threading.Barrier(number), []

    def run(one: int) -> None:
        gate.wait(PATIENCE)
        answers.append(send(one))

    threads = [threading.Thread(target=run, args=(one,)) for one in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert len(answers) == number
    return answers


def test_of_requests_that_race_for_one_hour_exactly_one_gets_it(
    api: Api, admin: Caller, booking: dict[str, Any]
) -> None:
    before = api.clinic.value("SELECT count(*) FROM appointments")
    audited = api.clinic.value("SELECT count(*) FROM audit_logs")
    for _ in range(5):
        body = booking | {"starts_at": free_hour()}
        answers = at_once(
            lambda _, body=body: Caller(api.app, admin.token).post("/api/appointments", body), 2
        )
        won = [answer for answer in answers if answer.status_code == 201]
        lost = [answer for answer in answers if answer.status_code != 201]
        assert (len(won), len(lost)) == (1, 1)
        assert fields(lost[0], 409) == {"starts_at": "this hour is taken"}
    assert api.clinic.value("SELECT count(*) FROM appointments") == before + 5
    assert api.clinic.value("SELECT count(*) FROM audit_logs") == audited + 5


# --- invoices


def test_an_invoice_is_written_paid_and_voided(
    api: Api, admin: Caller, invoice: dict[str, Any]
) -> None:
    made = admin.post("/api/invoices", invoice)
    assert made.status_code == 201, made.text
    path = made.headers["Location"]
    assert {name: made.json[name] for name in ("net", "tax", "total", "paid", "status")} == {
        "net": "81.00",
        "tax": "19.00",
        "total": "100.00",
        "paid": "0.00",
        "status": "open",
    }
    assert [line["amount"] for line in made.json["lines"]] == ["80.10", "0.90"]
    part = admin.patch(path, {"paid": 40.5}, made.headers["ETag"])
    assert (part.json["paid"], part.json["status"]) == ("40.50", "open")
    assert list(fields(admin.patch(path, {"status": "void"}), 409)) == ["status"]
    assert list(fields(admin.patch(path, {"paid": "100.01"}))) == ["paid"]
    assert list(fields(admin.patch(path, {"due_on": "2026-10-31"}))) == ["due_on"]
    paid = admin.patch(path, {"paid": "100"})
    assert (paid.json["paid"], paid.json["status"]) == ("100.00", "paid")
    assert admin.patch(path, {"paid": "0"}).json["status"] == "open"
    assert admin.patch(path, {"status": "void"}).json["status"] == "void"
    assert list(fields(admin.patch(path, {"paid": "1"}), 409)) == ["status"]


def test_an_invoice_of_another_hospital_or_of_nothing(
    api: Api, admin: Caller, invoice: dict[str, Any]
) -> None:
    other = api.clinic.value(
        "SELECT consultation_id FROM consultations JOIN hospitals USING (hospital_id)"
        " WHERE code = 'H0002' LIMIT 1"
    )
    for consultation in (str(other), str(uuid.uuid4())):
        answer = admin.post("/api/invoices", invoice | {"consultation_id": consultation})
        assert fields(answer) == {"consultation_id": "is no consultation of this hospital"}
    assert fields(admin.post("/api/invoices", invoice | {"due_on": "2026-10-01"})) == {
        "due_on": "expected a day not before issued_on"
    }


def test_amounts_stay_exact(admin: Caller, invoice: dict[str, Any]) -> None:
    lines = [{"text": "x", "amount": "0.10"}] * 3
    made = admin.post("/api/invoices", invoice | {"lines": lines, "tax": 0.2})
    assert made.json["net"] == "0.30"
    assert Decimal(made.json["total"]) == Decimal("0.50")
    full = [{"text": "x", "amount": "9999999999.99"}] * 2
    answer = admin.post("/api/invoices", invoice | {"lines": full})
    problem(answer, 422)
    assert "lines" in fields(answer)


# --- what the database refuses, and what is lost


def test_a_connection_that_is_lost_in_the_commit(
    api: Api, desk: Caller, patient: dict[str, Any]
) -> None:
    api.clinic.run(
        "CREATE FUNCTION lose_connection() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';"
        "CREATE CONSTRAINT TRIGGER lose AFTER INSERT ON patients DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION lose_connection()"
    )
    try:
        answer = desk.post("/api/patients", patient)
        assert "look whether it is done" in problem(answer, 503)["detail"]
        assert "Retry-After" not in answer.headers
    finally:
        api.clinic.run("DROP FUNCTION lose_connection() CASCADE")
    assert desk.post("/api/patients", patient).status_code == 201


def test_the_other_driver_says_the_same(api: Api, booking: dict[str, Any], tmp_path: Path) -> None:
    with serving(api.clinic, tmp_path / "clinic", driver="psycopg", lock_timeout=1) as other:
        caller = other.caller("hospital_admin")
        made = caller.post("/api/appointments", booking)
        assert made.status_code == 201, made.text
        assert caller.get(made.headers["Location"]).json == made.json
        with closing(api.clinic.connect()) as session:  # past the look of the application
            api.clinic.run("BEGIN", session=session)
            api.clinic.run("LOCK TABLE appointments IN SHARE MODE", session=session)
            late = caller.post("/api/appointments", booking | {"starts_at": free_hour()})
            problem(late, 503)
        first = caller.get("/api/patients", limit=1).json
        taken = {"record_no": first["items"][0]["record_no"]}
        body = {"branch_id": made.json["branch_id"], "first_name": "A", "last_name": "B"}
        answer = caller.post("/api/patients", body | taken | {"born_on": "1990-01-01"})
        assert list(fields(answer, 409)) == ["record_no"]
        assert caller.get(first["next"]).status_code == 200


def test_requests_go_on_while_their_connections_are_cut(
    api: Api, desk: Caller, patient: dict[str, Any]
) -> None:
    numbers, answers = itertools.count(), list[tuple[int, str, Any]]()

    def work() -> None:
        number = f"CUT{next(numbers)}"
        caller = Caller(api.app, desk.token)
        answer = caller.post("/api/patients", patient | {"record_no": number})
        read = caller.get("/api/patients", record_no=number)
        assert read.status_code == 200, read.text
        answers.append((threading.get_ident(), number, answer))

    def count() -> Counter[int]:
        return Counter(thread for thread, *_ in answers)

    def wait_for_three_more_of_each() -> None:
        # a request is repeated once: one that a cut has met must end before the next cut
        before = count()
        until(lambda: len(count() - before) == 4 and min((count() - before).values()) >= 3)

    with meanwhile(work, threads=4):
        for _ in range(3):
            wait_for_three_more_of_each()
            api.clinic.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        wait_for_three_more_of_each()
    there = Counter(
        row[0]
        for row in api.clinic.run(
            "SELECT record_no FROM patients WHERE starts_with(record_no, 'CUT')"
        )
    )
    for _, number, answer in answers:
        if answer.status_code == 503:  # lost as it committed: said, and done once or not
            assert "look whether it is done" in answer.text
            assert there[number] <= 1
        else:
            assert answer.status_code == 201, answer.text
            assert there[number] == 1


def test_a_request_that_waits_for_others_too_long(
    api: Api, desk: Caller, patient: dict[str, Any], tmp_path: Path
) -> None:
    made = desk.post("/api/patients", patient)
    with (
        closing(api.clinic.connect()) as other,
        serving(api.clinic, tmp_path / "clinic", lock_timeout=1) as hasty,
    ):
        api.clinic.run("BEGIN", session=other)
        lock = "SELECT FROM patients WHERE patient_id = %s FOR UPDATE"
        api.clinic.run(lock, made.json["patient_id"], session=other)
        answer = Caller(hasty.app, desk.token).patch(made.headers["Location"], {"notes": "x"})
    problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"
    assert desk.get(made.headers["Location"]).json == made.json


def test_each_constraint_of_the_tables_has_its_field(api: Api) -> None:
    names = {
        row[0]
        for row in api.clinic.run(
            "SELECT conname FROM pg_constraint WHERE contype <> 'n' AND conrelid = ANY"
            " ('{patients, appointments, invoices}'::regclass[])"
            " UNION SELECT indexrelid::regclass::text FROM pg_index WHERE indisunique"
            " AND indrelid = ANY ('{patients, appointments, invoices}'::regclass[])"
        )
    }
    assert names == violations.NAMES | violations.OURS
    assert metadata.tables.keys() >= {"patients", "appointments", "invoices"}
