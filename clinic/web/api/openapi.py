"""The OpenAPI document of the API, written from what its routes have noted.

The schemas are those of the Structs that decode and encode, the statuses and the parameters those
that the decorators handle: the document cannot say something else than the code does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, current_app, url_for
from werkzeug.routing import Rule

from clinic.web.api import meanings
from clinic.web.api.answers import Start
from clinic.web.api.blueprint import api
from clinic.web.api.operations import Operation, answers, operation
from clinic.web.api.problems import CONTENT_TYPE, PREFIX, Problem
from pgtasks.report.version import __version__

_KEY = "openapi"
_JSON = "application/json"
_REFERENCE = "#/components/schemas/{name}"
_PLACE = re.compile(r"<(?:(?P<converter>\w+):)?(?P<name>\w+)>")
_METHODS = ("GET", "POST", "PATCH", "PUT", "DELETE")
_ABOUT = (
    "Log in for a token and send it as `Authorization: Bearer TOKEN`. Each user sees the rows of "
    "one hospital; a patient only the own ones. Lists come in pages: follow `next`. To change a "
    "row, send the ETag that was read as `If-Match`. Errors are problem documents (RFC 9457)."
)

Document = dict[str, Any]


@api.get("/", strict_slashes=False)
@answers(Start)
def start() -> Start:
    """Say where the API is described."""
    return Start(openapi=url_for("api.describe"))


@api.get("/openapi.json")
@answers(dict[str, Any])
def describe() -> Document:
    """Return this document."""
    known: Document | None = current_app.extensions.get(_KEY)
    if known is None:  # the routes of an application do not change, and it takes a while
        known = current_app.extensions[_KEY] = document(current_app)
    return known


def document(app: Flask) -> Document:
    """Return the document of an application's routes below /api."""
    routes = list(_routes(app))
    kinds = [*dict.fromkeys(kind for _, noted, _ in routes for kind in _kinds(noted)), Problem]
    references, schemas = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    _explain(schemas)
    known = dict(zip(kinds, references, strict=True))
    paths: Document = {}
    for rule, noted, about in routes:
        path = paths.setdefault(_PLACE.sub(r"{\g<name>}", rule.rule), {})
        method = next(method for method in _METHODS if method in (rule.methods or ()))
        path[method.lower()] = _described(rule, noted, about, known, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "The clinic", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _explain(schemas: Document) -> None:
    """Say of fields what they mean, where their names do not."""
    for name, schema in schemas.items():
        for field, described in schema.get("properties", {}).items():
            if meaning := meanings.of(name, field):
                described["description"] = meaning


def _routes(app: Flask) -> Iterator[tuple[Rule, Operation, str]]:
    """Yield each route with what its view has noted, and the view's docstring."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith(f"{PREFIX}/"):
            view = app.view_functions[rule.endpoint]
            yield rule, operation(view), " ".join((view.__doc__ or "").split())


def _kinds(noted: Operation) -> Iterator[Any]:
    yield from (kind for kind in (noted.answer, noted.body, noted.query) if kind is not None)


def _described(
    rule: Rule, noted: Operation, about: str, known: dict[Any, Document], schemas: Document
) -> Document:
    described: Document = {
        "operationId": rule.endpoint.removeprefix("api."),
        "summary": about,
        "tags": [rule.rule.split("/")[2] or "openapi.json"],
        "parameters": [*_places(rule), *_query(noted, schemas), *_match(noted)],
        "responses": {str(noted.status): _answer(noted, known)},
        "security": [{"token": []}] if noted.needs_token else [],
    }
    if noted.permissions:
        described["x-permission"] = " or ".join(noted.permissions)
    if noted.body is not None:
        content = {_JSON: {"schema": known[noted.body]}}
        described["requestBody"] = {"required": True, "content": content}
    for status in sorted(noted.problems):
        described["responses"][str(status)] = _problem(status, known)
    return described


def _places(rule: Rule) -> Iterator[Document]:
    """Yield the parameters in the path."""
    for place in _PLACE.finditer(rule.rule):
        schema = {"type": "string"}
        if place["converter"] == "uuid":
            schema["format"] = "uuid"
        yield {"name": place["name"], "in": "path", "required": True, "schema": schema}


def _query(noted: Operation, schemas: Document) -> Iterator[Document]:
    """Yield the parameters in the query, which are the fields of its Struct."""
    if noted.query is None:
        return
    struct = schemas[noted.query.__name__]
    for name, schema in struct["properties"].items():
        plain = _without_null(schema)
        about = plain.pop("description", "")
        yield {
            "name": name,
            "in": "query",
            "required": name in struct["required"],
            **({"description": about} if about else {}),
            "schema": plain,
        }


def _without_null(schema: Document) -> Document:
    """Return a schema without null, which a query cannot say: it leaves the parameter out."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    if "enum" in rest:
        rest["enum"] = [value for value in rest["enum"] if value is not None]
    if len(choices) == 1:
        return {**rest, **choices[0]}
    return dict(schema) if not choices and schema.get("default", 0) is not None else rest


def _match(noted: Operation) -> Iterator[Document]:
    if noted.may_match:
        yield {
            "name": "If-Match",
            "in": "header",
            "required": noted.needs_match,
            "description": "the ETag of what was read",
            "schema": {"type": "string"},
        }


def _answer(noted: Operation, known: dict[Any, Document]) -> Document:
    answer: Document = {"description": HTTPStatus(noted.status).phrase}
    if noted.answer is not None:
        answer["content"] = {_JSON: {"schema": known[noted.answer]}}
    headers = {"Location": noted.status == 201, "ETag": "updated_at" in _fields(noted.answer)}
    if any(headers.values()):
        answer["headers"] = {name: _text() for name, sent in headers.items() if sent}
    return answer


def _fields(kind: Any) -> tuple[str, ...]:
    fields: tuple[str, ...] = getattr(kind, "__struct_fields__", ())
    return fields


def _problem(status: int, known: dict[Any, Document]) -> Document:
    problem: Document = {
        "description": HTTPStatus(status).phrase,
        "content": {CONTENT_TYPE: {"schema": known[Problem]}},
    }
    name = {401: "WWW-Authenticate", 429: "Retry-After"}.get(status)
    if name is not None:
        problem["headers"] = {name: _text()}
    return problem


def _text() -> Document:
    return {"schema": {"type": "string"}}
