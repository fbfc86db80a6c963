"""What a route of the API does, said once: decorators that check it and document it.

    @api.post("/patients")
    @answers(PatientSeen, status=201, problems=(409,))
    @token_required
    @require_permission("patients", "add")
    @takes(NewPatient)
    def register_patient(session, identity, body): ...

Each decorator notes what it does in `view.operation`, from which openapi.py writes the document.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from flask import Response, request

from clinic.web.api import decoding
from clinic.web.api.bodies import Sent
from clinic.web.api.problems import Rejected

View = Callable[..., Any]
_NOTE = "operation"


@dataclass(frozen=True)
class Operation:
    """What is known of a route: what it takes, what it answers, who may use it."""

    answer: Any = None  # a Struct, None where there is no body
    status: int = 200
    body: type[Sent] | None = None
    query: type[Sent] | None = None
    problems: frozenset[int] = frozenset()
    needs_token: bool = False
    permissions: tuple[str, ...] = ()  # any of them will do
    may_match: bool = False
    needs_match: bool = False


def operation(view: View) -> Operation:
    """Return what is known of a view."""
    noted: Operation = getattr(view, _NOTE, Operation())
    return noted


def noted(wrapper: View, *, problems: tuple[int, ...] = (), **changes: Any) -> View:
    """Note what a wrapper adds to a view, whose own note it has by functools.wraps."""
    before = operation(wrapper)
    setattr(wrapper, _NOTE, replace(before, problems=before.problems | set(problems), **changes))
    return wrapper


def answers(
    kind: Any = None, *, status: int = 200, problems: tuple[int, ...] = ()
) -> Callable[[View], View]:
    """Answer with what the view returns: a value of this kind, or that and headers."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def answered(*args: Any, **names: Any) -> Response:
            given = view(*args, **names)
            value, headers = given if isinstance(given, tuple) else (given, {})
            return response(value, status, headers)

        return noted(answered, answer=kind, status=status, problems=(*problems, 503))

    return decorate


def response(value: Any, status: int, headers: Mapping[str, str]) -> Response:
    """Return an answer; one that has the time of its last change has an ETag too."""
    answer = Response("" if value is None else msgspec.json.encode(value), status)
    answer.content_type = "application/json"
    if value is None:
        del answer.headers["Content-Type"]
    answer.headers.update(headers)
    answer.headers["Cache-Control"] = "no-store"
    if hasattr(value, "updated_at"):
        answer.set_etag(version(value))
    return answer


def takes(kind: type[Sent]) -> Callable[[View], View]:
    """Hand the view the body of the request, decoded and checked, as `body`."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def taking(*args: Any, **names: Any) -> Any:
            return view(*args, **names, body=decoding.body(kind))

        return noted(taking, body=kind, problems=(400, 413, 415, 422))

    return decorate


def asks(kind: type[Sent]) -> Callable[[View], View]:
    """Hand the view the query of the request, decoded and checked, as `query`."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def asking(*args: Any, **names: Any) -> Any:
            return view(*args, **names, query=decoding.query(kind))

        return noted(asking, query=kind, problems=(422,))

    return decorate


def matches(*, required: bool) -> Callable[[View], View]:
    """Let a client say which state of a row it has seen (`If-Match`), or demand it."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def matching(*args: Any, **names: Any) -> Any:
            if required and not request.if_match:
                raise Rejected(428, "send If-Match with the ETag of what you read, or If-Match: *")
            return view(*args, **names)

        problems = (412, 428) if required else (412,)
        return noted(matching, may_match=True, needs_match=required, problems=problems)

    return decorate


def unchanged(row: Any) -> None:
    """Raise Rejected (412) if a row, which is locked, is not as the client has read it."""
    if request.if_match and version(row) not in request.if_match:
        raise Rejected(412, "it was changed meanwhile: read it again")


def created(value: Any, key: object) -> tuple[Any, dict[str, str]]:
    """Return a new row with the address it has from now on."""
    return value, {"Location": f"{request.script_root}{request.path}/{key}"}


def version(row: Any) -> str:
    """Return the ETag of a row: the time of its last change, which its trigger keeps."""
    return f"{row.updated_at.timestamp():.6f}"
