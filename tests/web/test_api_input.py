"""What strangers send to the API: each a clean answer that names the field, and nothing written."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from apis import Api, Caller, fields, monday, problem

NUL = "\0"
TURN = "\u202e"
LONG = "ab" * 5000
NO_TEXT = (1, 1.5, True, ["a"], {"a": "b"})


@pytest.fixture
def desk(api: Api) -> Caller:
    return api.caller("receptionist")


@pytest.fixture
def patient(desk: Caller) -> dict[str, Any]:
    """Return the body of a patient who can be registered."""
    return {
        "branch_id": desk.get("/api/patients", limit=1).json["items"][0]["branch_id"],
        "first_name": "Ada",
        "last_name": "Lovelace",
        "born_on": "1990-02-28",
    }


@pytest.fixture(autouse=True)
def _nothing_is_written(api: Api, request: pytest.FixtureRequest) -> Iterator[None]:
    """Compare the rows before and after, of each test that does not say it writes."""
    count = (
        "SELECT (SELECT count(*) FROM patients), (SELECT count(*) FROM appointments),"
        " (SELECT count(*) FROM invoices), (SELECT max(updated_at) FROM patients)"
    )
    before = api.clinic.run(count)
    yield
    if not request.node.get_closest_marker("parametrize") or "writes" not in request.node.name:
        assert api.clinic.run(count) == before


def cases() -> Iterator[tuple[str, Any, str]]:
    """Yield fields of a patient, values that are refused, and what the message says."""
    for name in ("first_name", "last_name"):
        yield from ((name, value, "expected str") for value in (*NO_TEXT, None))
        yield name, "", "expected str of length >= 1"
        yield name, " \u2003 ", "expected a text that is not blank"
        yield name, LONG, "expected str of length <= 200"
        yield name, "x" * 201, "expected str of length <= 200"
        yield name, f"Ada{NUL}", "has a NUL byte"
        yield name, f"Ada{TURN}ecalevoL", "has a character that turns the direction of the text"
        yield name, "\u2066Ada\u2069", "has a character that turns the direction of the text"
        yield name, "Ada\nLovelace", "has a line break or a tab"
        yield name, "Ada\x1b[31m", "has a control character"
        yield name, "Ada\x7f", "has a control character"
    for value in ("1899-12-31", "0001-01-01", "2199-01-01", "9999-12-31"):
        yield "born_on", value, "expected a day from 1900-01-01 to today"
    for value in ("2026-02-30", "28.02.1990", "", "1990-02-28T00:00:00Z", "-1990-02-28"):
        yield "born_on", value, "expected a day such as 2026-12-01"
    yield "born_on", 19900228, "expected date"
    yield "branch_id", "1", "expected a UUID such as "
    yield "branch_id", None, "expected uuid"
    yield "gender", "unknown ", "expected female, male, other or unknown"
    yield "gender", ["male"], "expected str"
    yield "blood_group", "C+", "expected A+, A-, B+, B-, AB+, AB-, O+ or O-"
    yield "email", "ada", "matching regex"
    yield "email", "ada@example.org\n", "has a line break or a tab"
    yield "email", "a@" + "b" * 200, "expected str of length <= 200"
    yield "notes", "x" * 10_001, "expected str of length <= 10000"
    yield "notes", f"one\n{NUL}", "has a NUL byte"
    yield "allergies", "pollen", "expected array"
    yield "allergies[1]", ["a", 1], "expected str"
    yield "allergies[1]", ["a", f"b{NUL}"], "has a NUL byte"
    yield "allergies", ["a"] * 51, "expected array of length <= 50"
    yield "contact", [], "expected object"
    yield "contact", None, "expected object"
    yield "contact.street", {"street": 1}, "expected str"
    yield "contact.city", {"city": f"x{NUL}"}, "has a NUL byte"
    yield "contact.planet", {"planet": "Earth"}, "is unknown"
    yield "is_active", True, "is unknown"
    yield "hospital_id", "4f3a9e4e-0000-0000-0000-000000000000", "is unknown"
    yield "patient_id", "4f3a9e4e-0000-0000-0000-000000000000", "is unknown"
    yield "created_by", "somebody", "is unknown"


@pytest.mark.parametrize(("field", "value", "message"), [*cases()])
def test_a_value_that_is_refused(
    desk: Caller, patient: dict[str, Any], field: str, value: Any, message: str
) -> None:
    name = field.partition("[")[0].partition(".")[0]
    answer = desk.post("/api/patients", patient | {name: value})
    ((named, said),) = fields(answer).items()
    assert (named, message in said) == (field, True), said
    assert NUL not in answer.text


@pytest.mark.parametrize("field", ["branch_id", "first_name", "last_name", "born_on"])
def test_a_field_that_is_missing(desk: Caller, patient: dict[str, Any], field: str) -> None:
    del patient[field]
    assert fields(desk.post("/api/patients", patient)) == {field: "is missing"}


def test_all_fields_that_are_missing_or_unknown_are_named_at_once(desk: Caller) -> None:
    missing = dict.fromkeys(("branch_id", "first_name", "last_name", "born_on"), "is missing")
    assert fields(desk.post("/api/patients", {})) == missing
    body = {f"x{number}": 1 for number in range(1000)}
    named = fields(desk.post("/api/patients", body))
    assert len(named) == 24, "an answer stays small"
    assert named.items() >= missing.items()
    cut_off = b'{"x": 1, "first_name"'
    assert fields(desk.post("/api/patients", cut_off)) == {"x": "is unknown"}


def test_all_values_that_do_not_fit_are_named_at_once(
    desk: Caller, patient: dict[str, Any]
) -> None:
    del patient["last_name"]
    wrong = {"branch_id": 1, "gender": "x", "allergies": ["dust", 2], "contact": {"street": []}}
    assert fields(desk.post("/api/patients", patient | wrong | {"planet": "Earth"})) == {
        "last_name": "is missing",
        "planet": "is unknown",
        "branch_id": "expected uuid, got int",
        "gender": "expected female, male, other or unknown",
        "allergies[1]": "expected str, got int",
        "contact.street": "expected str | null, got array",
    }
    answer = desk.get("/api/patients?limit=many&colour=red&branch_id=1")
    assert set(fields(answer)) == {"limit", "branch_id", "colour"}, answer.text


def test_all_faults_that_the_types_cannot_tell_are_named_at_once(
    desk: Caller, patient: dict[str, Any]
) -> None:
    body = patient | {"first_name": f"a{NUL}", "phone": "\t1", "born_on": "1800-01-01"}
    assert list(fields(desk.post("/api/patients", body))) == ["first_name", "phone", "born_on"]


@pytest.mark.parametrize(
    "name",
    [
        "محمد الأمين",
        "שָׁלוֹם",
        "Nguyễn Văn Ánh",
        "O'Brien-Smith",
        "李小龍",
        "Zoë",
        "🦄",
        "a" * 200,
        "x\u200fy",
    ],
)
def test_a_name_of_any_script_is_kept_as_it_is_and_writes(
    desk: Caller, patient: dict[str, Any], name: str
) -> None:
    made = desk.post("/api/patients", patient | {"first_name": name, "last_name": name})
    assert made.status_code == 201, made.text
    assert desk.get(made.headers["Location"]).json["first_name"] == name


APPOINTMENT_TIMES = [
    "2026-12-01T09:00:00",
    "2026-12-01 09:00",
    "2026-12-01",
    "tomorrow",
    1_800_000_000,
    None,
    "2020-01-01T09:00:00Z",
    "2099-01-01T09:00:00Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "{monday}T09:10:00Z",
    "{monday}T09:00:00.000001Z",
    "{monday}T09:00:00+00:01",
    "{monday}T25:00:00Z",
    "{monday}T09:00:00+99:00",
]


@pytest.mark.parametrize("time", APPOINTMENT_TIMES)
def test_a_time_that_is_refused(desk: Caller, time: Any) -> None:
    one = desk.get("/api/appointments", limit=1, status="booked").json["items"][0]
    if isinstance(time, str):
        time = time.format(monday=monday().date())
    body = {"staff_id": one["staff_id"], "patient_id": one["patient_id"], "starts_at": time}
    assert list(fields(desk.post("/api/appointments", body))) == ["starts_at"]
    path = f"/api/appointments/{one['appointment_id']}"
    answer = desk.patch(path, {"starts_at": time})
    assert list(fields(answer)) == ["starts_at"]


AMOUNTS = [
    *("NaN", "sNaN", "Infinity", "-Infinity", "-0.01", "0.001", "1e10", "1e400", "1e-400", "x", ""),
    *(True, None, [], 1e300, -1, 10**30),
]


@pytest.mark.parametrize("amount", AMOUNTS)
def test_an_amount_that_is_refused(api: Api, amount: Any) -> None:
    admin = api.caller("hospital_admin")
    one = admin.get("/api/invoices", limit=1).json["items"][0]
    body = {
        "consultation_id": one["consultation_id"],
        "issued_on": "2026-11-01",
        "due_on": "2026-12-01",
        "lines": [{"text": "x", "amount": "1.00"}],
    }
    assert list(fields(admin.post("/api/invoices", body | {"tax": amount}))) == ["tax"]
    lines = [*body["lines"], {"text": "x", "amount": amount}]
    named = fields(admin.post("/api/invoices", body | {"lines": lines}))
    assert set(named) == {"lines[1].amount"}
    path = f"/api/invoices/{one['invoice_id']}"
    assert list(fields(admin.patch(path, {"paid": amount}))) == ["paid"]


@pytest.mark.parametrize("number", ["9" * 5000, "1e400", "-1", "2147483648", "1.0", "true"])
def test_a_number_that_is_refused(api: Api, number: str) -> None:
    admin = api.caller("hospital_admin")
    one = admin.get("/api/invoices", limit=1).json["items"][0]
    body = (
        f'{{"consultation_id": "{one["consultation_id"]}", "issued_on": "2026-11-01", "due_on":'
        f' "2026-12-01", "lines": [{{"text": "x", "amount": "1", "code": {number}}}]}}'
    )
    assert list(fields(admin.post("/api/invoices", body.encode()))) == ["lines[0].code"]


# --- bodies that are no JSON, or not what was asked for

MALFORMED = [
    *(b"", b"{", b'{"a"', b'{"first_name": "x",}', b"\xef\xbb\xbf{}", b"first_name=x"),
    *(b'{"first_name": "\xff"}', b'{"first_name": "\xed\xa0\x80"}', b'{"first_name": NaN}'),
    *(b'{"first_name": "\\ud800x"}', b'{"first_name": "\\x00"}', b'{"first_name": "\x00"}', b"\0"),
]


@pytest.mark.parametrize("body", MALFORMED)
def test_a_body_that_is_no_json(api: Api, desk: Caller, body: bytes) -> None:
    for caller, path in ((desk, "/api/patients"), (api.anyone, "/api/auth/login")):
        answer = caller.post(path, body)
        if answer.status_code == 422:  # it is refused before its end is read
            assert list(fields(answer)) == ["first_name"]
        else:
            assert problem(answer, 400)["detail"].startswith("the body is no JSON: ")


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"', b"[" * 100_000, b"[{}]"])
def test_a_body_that_is_no_object(api: Api, desk: Caller, body: bytes) -> None:
    for caller, path in ((desk, "/api/patients"), (api.anyone, "/api/auth/login")):
        assert list(fields(caller.post(path, body))) == ["body"]


def test_deep_nesting(desk: Caller, patient: dict[str, Any]) -> None:
    start = json.dumps(patient)[:-1]
    for name, field in (("contact", "contact"), ("notes", "notes"), ("x", "x")):
        for opening in (b"[", b'{"a":'):
            body = f'{start}, "{name}": '.encode() + opening * 150_000
            assert next(iter(fields(desk.post("/api/patients", body)))).startswith(field)


def test_a_field_twice(api: Api, desk: Caller, patient: dict[str, Any]) -> None:
    body = json.dumps(patient)[:-1] + ', "first_name": "Eve"}'
    assert fields(desk.post("/api/patients", body.encode()), 400) == {
        "first_name": "is there twice"
    }
    inner = json.dumps(patient)[:-1] + ', "contact": {"city": "a", "city": "b"}}'
    assert list(fields(desk.post("/api/patients", inner.encode()), 400)) == ["city"]
    login = b'{"username": "a", "password": "b", "username": "c"}'
    assert list(fields(api.anyone.post("/api/auth/login", login), 400)) == ["username"]


def test_a_field_with_an_odd_name(desk: Caller, patient: dict[str, Any]) -> None:
    for name in ("\0", "`x`", "a.b", "$", "x" * 5000, "\u202e", "<script>", "é"):
        answer = desk.post("/api/patients", patient | {name: 1})
        ((field, message),) = fields(answer).items()
        assert message == "is unknown"
        assert len(field) <= 103
        assert NUL not in field
        assert TURN not in field


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
        "x",
    ],
)
def test_another_content_type(api: Api, desk: Caller, patient: dict[str, Any], kind: str) -> None:
    body = json.dumps(patient).encode()
    for caller, path in ((desk, "/api/patients"), (api.anyone, "/api/auth/login")):
        answer = caller.send("POST", path, data=body, content_type=kind or None)
        assert "application/json" in problem(answer, 415)["detail"]


def test_a_content_type_with_a_charset_and_writes_nothing(desk: Caller) -> None:
    kind = "application/json; charset=utf-8"
    assert fields(desk.send("POST", "/api/patients", data=b"{}", content_type=kind))


@pytest.mark.parametrize("size", [(1 << 20) + 1, 10 * (1 << 20)])
def test_a_body_that_is_too_large(api: Api, desk: Caller, size: int) -> None:
    body = b'{"first_name": "' + b"x" * size
    for caller, path in ((desk, "/api/patients"), (api.anyone, "/api/auth/login")):
        problem(caller.post(path, body), 413)
        # without a length, as a client that streams sends it
        streamed = caller.send(
            "POST",
            path,
            input_stream=io.BytesIO(body),
            content_type="application/json",
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        )
        problem(streamed, 413)


def test_a_body_as_large_as_allowed(desk: Caller, patient: dict[str, Any]) -> None:
    body = json.dumps(patient | {"notes": "x" * ((1 << 20) - 300)}).encode()
    assert list(fields(desk.post("/api/patients", body))) == ["notes"]


# --- logins


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"username": "a"}, "password"),
        ({"password": "a"}, "username"),
        ({"username": 1, "password": "a"}, "username"),
        ({"username": ["a"], "password": "a"}, "username"),
        ({"username": {"$ne": 1}, "password": "a"}, "username"),
        ({"username": "a", "password": None}, "password"),
        ({"username": "a" * 101, "password": "a"}, "username"),
        ({"username": "a", "password": "a" * 1025}, "password"),
        ({"username": "a\0", "password": "a"}, "username"),
        ({"username": "", "password": "a"}, "username"),
        ({"username": "a", "password": "a", "remember": True}, "remember"),
    ],
)
def test_a_login_that_is_not_understood(api: Api, body: dict[str, Any], field: str) -> None:
    assert list(fields(api.anyone.post("/api/auth/login", body))) == [field]


@pytest.mark.parametrize("password", ["\0", "a\nb", TURN, "ü" * 1024, "\ud83e\udd84", " "])
def test_a_password_may_have_any_character(api: Api, password: str) -> None:
    body = {"username": "nobody.here", "password": password}
    problem(api.anyone.post("/api/auth/login", body), 401)


# --- paths and methods


@pytest.mark.parametrize(
    "path",
    [
        *("/api/nowhere", "/api/patients/", "/api/patients/1", "/api/%00"),
        *("/api/patients/..%2f..%2fetc", "/api/patients/' OR 1=1", "/api/Patients"),
        "/api/patients/4f3a9e4e-0000-0000-0000-00000000000g",
    ],
)
def test_a_path_of_nothing(api: Api, desk: Caller, path: str) -> None:
    for caller in (api.anyone, desk):
        problem(caller.get(path), 404)


def test_a_path_outside_gets_no_problem_document(api: Api) -> None:
    for path in ("/nowhere", "/apinowhere"):
        answer = api.anyone.get(path)
        assert answer.status_code == 404
        assert "problem" not in answer.content_type


def test_a_method_that_is_not_there(desk: Caller) -> None:
    for method in ("DELETE", "PUT", "TRACE", "PROPFIND", "X" * 50):
        answer = desk.send(method, "/api/patients")
        problem(answer, 405)
        assert "GET" in answer.headers["Allow"]


# --- faults of our own


def test_a_fault_of_the_server_tells_nothing_of_it(
    api: Api, desk: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: Any, **names: Any) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr("clinic.web.api.paging.urlencode", fail)
    answer = desk.get("/api/patients?limit=1")
    assert "secret" not in str(problem(answer, 500))
    assert "secret of the inside" in caplog.text


def test_a_database_that_is_away_is_a_503(api: Api, desk: Caller) -> None:
    shared = api.app.extensions["clinic"]
    shared.service.dispose()
    shared.aside.dispose()
    allow = f"ALTER DATABASE {api.clinic.name} ALLOW_CONNECTIONS"
    api.clinic.cluster.execute(f"{allow} false")
    try:
        for answer in (desk.get("/api/patients"), desk.post("/api/patients", {})):
            document = problem(answer, 503)
            assert document["detail"] == "The database does not answer."
            assert api.clinic.name not in str(document)
            assert int(answer.headers["Retry-After"]) >= 1
    finally:
        api.clinic.cluster.execute(f"{allow} true")
    assert desk.get("/api/me").status_code == 200


def test_each_answer_is_kept_by_nobody_and_sniffed_by_nobody(api: Api, desk: Caller) -> None:
    answers = (desk.get("/api/me"), desk.get("/api/nowhere"), api.anyone.get("/api/me"))
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in answer.headers
