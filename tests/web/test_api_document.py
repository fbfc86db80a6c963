"""The OpenAPI document: valid, complete, and true of what the routes do."""

from __future__ import annotations

import datetime
import itertools
import re
from typing import Any

import pytest
from apis import PASSWORD, Api, Caller, monday, problem
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator

from clinic.web.api.meanings import MEANINGS

IDS = {
    "patient_id": "patients",
    "appointment_id": "appointments",
    "invoice_id": "invoices",
    "branch_id": "branches",
    "staff_id": "staff",
    "consultation_id": "consultations",
}


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    answer = api.anyone.get("/api/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json)


def test_the_root_of_the_api_leads_to_the_document(api: Api) -> None:
    for path in ("/api", "/api/"):
        answer = api.anyone.get(path)
        assert (answer.status_code, answer.json) == (200, {"openapi": "/api/openapi.json"})
    assert api.anyone.get(answer.json["openapi"]).json["openapi"].startswith("3.1")
    problem(api.anyone.get("/api/nothing"), 404)


def operations(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(path, method) for path, item in document["paths"].items() for method in item}


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert [*OpenAPIV31SpecValidator(document).iter_errors()] == []
    ids = [item[method]["operationId"] for item in document["paths"].values() for method in item]
    assert len(ids) == len(set(ids))


def test_each_route_is_in_the_document(api: Api, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    }
    assert operations(document) == routes
    assert len(routes) >= 18


def test_each_operation_says_what_it_is_and_who_may(document: dict[str, Any]) -> None:
    public = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], (path, method)
            if not operation["security"]:
                public.add(path)
                continue
            assert {"401", "429"} <= set(operation["responses"]), (path, method)
            assert ("x-permission" in operation) == ("403" in operation["responses"])
    assert public == {
        *(f"/api/auth/{name}" for name in ("login", "refresh", "revoke")),
        *("/api/", "/api/openapi.json"),
    }


def test_the_schema_of_a_body_is_what_decodes_it(document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"]["NewPatient"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["branch_id", "first_name", "last_name", "born_on"]
    assert schema["properties"]["first_name"] == {
        "type": "string",
        "minLength": 1,
        "maxLength": 200,
        "pattern": schema["properties"]["last_name"]["pattern"],
    }
    (limit,) = (
        one
        for one in document["paths"]["/api/patients"]["get"]["parameters"]
        if one["name"] == "limit"
    )
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}


def test_what_a_name_does_not_say_is_said(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert "session ends" in schemas["Validity"]["properties"]["expires_at"]["description"]
    named = {
        "Page" if name.startswith("Page_") else name: set(schema.get("properties", ()))
        for name, schema in schemas.items()
    }
    named["Paged"] = named["StaffFilter"]
    for key in MEANINGS:
        name, field = key.split(".")
        assert field in named[name], key
    (after,) = (
        one
        for one in document["paths"]["/api/staff"]["get"]["parameters"]
        if one["name"] == "after"
    )
    assert "`next`" in after["description"]
    assert "description" not in after["schema"]


def test_each_time_is_a_date_time(document: dict[str, Any]) -> None:
    times = {
        (name, field): schema
        for name, struct in document["components"]["schemas"].items()
        for field, schema in struct.get("properties", {}).items()
        if field.endswith(("_at", "_from")) or field in ("starts_before", "started_before")
    }
    assert len(times) >= 15
    for where, schema in times.items():
        choices = schema.get("anyOf", [schema])
        assert {"type": "string", "format": "date-time"}.items() <= choices[0].items(), where


def test_what_is_made_up_from_the_document_gets_what_it_says(
    api: Api, document: dict[str, Any]
) -> None:
    """Send requests that fit the document, and others, and hold each answer against it."""
    import schemathesis
    from schemathesis import GenerationMode, checks

    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", api.app)
    held = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    known, statuses = Known(api), dict[str, set[int]]()

    def send(case: Any, caller: Caller) -> int:
        answer = case.call(headers={"Authorization": f"Bearer {caller.token}"})
        case.validate_response(answer, checks=held)
        return int(answer.status_code)

    def make_up(operation: Any, mode: GenerationMode, caller: Caller) -> None:
        @settings(
            max_examples=7,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],  # a fault is found as fast, and shown less short
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), is_known=st.booleans())
        def each(case: Any, is_known: bool) -> None:
            if is_known:  # what is made up knows no row that is there
                known.put(case)
            statuses.setdefault(operation.label, set()).add(send(case, caller))

        each()

    good = good_bodies(api)
    for found in schema.get_all_operations():
        operation = found.ok()
        caller = api.another("hospital_admin")  # a logout ends no more than its session
        for mode in GenerationMode:
            if operation.label == "GET /api/" and mode is GenerationMode.NEGATIVE:
                continue  # it takes nothing, so nothing of it can be wrong
            make_up(operation, mode, caller)
        body = {"body": good[operation.label]} if operation.label in good else {}
        case = operation.Case(media_type="application/json" if body else None, **body)
        case.path_parameters = {one.name: "" for one in operation.path_parameters}
        case.headers = {"If-Match": "*"} if operation.label.startswith("PATCH") else {}
        Known(api, first=400 + len(statuses)).put(case)  # rows that no other request has changed
        assert send(case, api.another("hospital_admin")) // 100 == 2, operation.label
    own = {f"{method.upper()} {path}" for path, method in operations(document)}
    assert own - set(statuses) <= {"GET /api/openapi.json"}
    assert set().union(*statuses.values()) >= {200, 204, 401, 404, 422}


def good_bodies(api: Api) -> dict[str, dict[str, Any]]:
    """Return a body for each operation that needs one; `Known` replaces its IDs and times."""
    tokens = [api.tokens(api.username("nurse"))["refresh_token"] for _ in range(2)]
    an_id = "4f3a9e4e-0000-0000-0000-000000000000"
    names = {"first_name": "Ada", "last_name": "L"}
    line, days = {"text": "x", "amount": "1.00"}, {"issued_on": "", "due_on": ""}
    return {
        "POST /api/auth/login": {"username": api.username("nurse"), "password": PASSWORD},
        "POST /api/auth/refresh": {"refresh_token": tokens[0]},
        "POST /api/auth/revoke": {"refresh_token": tokens[1]},
        "POST /api/patients": {"branch_id": an_id, **names, "born_on": "1990-01-01"},
        "PATCH /api/patients/{patient_id}": {"notes": "x"},
        "POST /api/appointments": {"staff_id": an_id, "patient_id": an_id, "starts_at": ""},
        "PATCH /api/appointments/{appointment_id}": {"reason": "x"},
        "POST /api/invoices": {"consultation_id": an_id, **days, "lines": [line]},
        "PATCH /api/invoices/{invoice_id}": {"due_on": ""},
    }


class Known:
    """What a request needs to get further: rows that are there, hours that are free."""

    def __init__(self, api: Api, *, first: int = 0) -> None:
        self._rows = {name: own_ids(api, name, table) for name, table in IDS.items()}
        self._turn = itertools.count(first)

    def put(self, case: Any) -> None:
        """Put known values in the place of some that are made up."""
        turn = next(self._turn)
        values = {name: rows[turn % len(rows)] for name, rows in self._rows.items()}
        hour = monday() + datetime.timedelta(days=7 * (turn // 9), hours=turn % 9)
        values |= {"starts_at": hour.isoformat(), "born_on": "1990-01-01"}
        values |= {"issued_on": "2026-11-01", "due_on": "2026-12-01", "record_no": f"X{turn}"}
        for part in (case.path_parameters, case.body):
            if isinstance(part, dict):
                part.update({name: values[name] for name in set(part) & set(values)})
        if case.headers and "If-Match" in case.headers:
            case.headers["If-Match"] = "*"


def own_ids(api: Api, name: str, table: str) -> list[str]:
    """Return IDs of rows that are there, of appointments those that are open."""
    which = "code = 'H0001'"
    if table == "appointments":
        which += " AND status = 'booked'"
    elif table == "invoices":
        which += " AND status = 'open'"
    elif table == "staff":
        which += " AND job = 'doctor'"
    rows = api.clinic.run(
        f"SELECT {name}::text FROM {table} JOIN hospitals USING (hospital_id)"
        f" WHERE {which} LIMIT 30"
    )
    return [row[0] for row in rows]
