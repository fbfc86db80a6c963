"""Every error below /api as a problem document (RFC 9457).

What a program may act on is in `status` and in `errors`, which names the fields; the texts are for
people. Nothing of the inside is shown: what went wrong there is in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from flask import Response, request
from werkzeug.exceptions import HTTPException

from clinic.web.security.errors import (
    LoginFailed,
    SecurityError,
    TokenInvalid,
    TokenJustUsed,
    TooMany,
)
from pgtasks.service import CommitUnknown

CONTENT_TYPE = "application/problem+json"
PREFIX = "/api"
_BEARER = 'Bearer realm="clinic"'
_INVALID_TOKEN = f'{_BEARER}, error="invalid_token"'
_OWN_TEXT = {
    404: "there is nothing here, or nothing that you may see",
    405: "this resource has no such method",
    413: "the body is larger than this server reads",
    500: "something went wrong; it was logged",
}
_BODY_HEADERS = ("content-type", "content-length")


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one field of the request; a field of the query has its name too."""

    field: str
    message: str


class Problem(msgspec.Struct, kw_only=True):
    """An error, as RFC 9457 lays it out."""

    type: str = "about:blank"  # the title is that of the status
    title: str
    status: int
    detail: str
    errors: list[Fault] = []


class Rejected(Exception):
    """Answer the request with a problem; work of its unit is rolled back."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.errors, self.headers = tuple(errors), dict(headers or {})


def invalid(*errors: Fault) -> Rejected:
    """Return the problem of fields that are understood, and not acceptable."""
    named = ", ".join(dict.fromkeys(error.field for error in errors))
    return Rejected(422, f"not acceptable: {named}", errors=errors)


def wrong(field: str, message: str) -> Rejected:
    """Return the problem of one field."""
    return invalid(Fault(field, message))


def conflict(field: str, message: str) -> Rejected:
    """Return the problem of a field whose value is taken, or no longer possible."""
    return Rejected(409, f"in conflict: {field}", errors=(Fault(field, message),))


def unauthorized(detail: str, *, sent: bool = True) -> Rejected:
    """Return the problem of a request without a token that counts; `sent`: there was one."""
    challenge = _INVALID_TOKEN if sent else _BEARER
    return Rejected(401, detail, headers={"WWW-Authenticate": challenge})


def missing() -> Rejected:
    """Return the problem of what is not there, or is not for this user: the same for both."""
    return Rejected(404, _OWN_TEXT[404])


def of_security(error: SecurityError) -> Rejected:
    """Return the problem of an error of clinic.web.security."""
    if isinstance(error, TooMany):
        return Rejected(429, str(error), headers={"Retry-After": str(error.seconds)})
    if isinstance(error, TokenJustUsed):
        return Rejected(409, str(error))
    if isinstance(error, LoginFailed):
        return unauthorized(str(error), sent=False)
    if isinstance(error, TokenInvalid):
        return unauthorized(str(error))
    return Rejected(403, str(error))


def of_http(error: HTTPException) -> Rejected:
    """Return the problem of an error that Flask or Werkzeug raised; no redirect is one."""
    status = error.code or 500
    detail = _OWN_TEXT.get(status) or error.description
    headers = {
        name: value for name, value in error.get_headers() if name.lower() not in _BODY_HEADERS
    }
    return Rejected(status, detail or HTTPStatus(status).phrase.lower(), headers=headers)


def response(rejected: Rejected) -> Response:
    """Return the document of a problem."""
    document = Problem(
        title=HTTPStatus(rejected.status).phrase,
        status=rejected.status,
        detail=rejected.detail,
        errors=list(rejected.errors),
    )
    answer = Response(msgspec.json.encode(document), rejected.status, content_type=CONTENT_TYPE)
    answer.headers.update(rejected.headers)
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer


def is_below_api() -> bool:
    """Return whether this request asked for something below /api, there or not."""
    return request.path == PREFIX or request.path.startswith(f"{PREFIX}/")


def of_unknown_commit(_: CommitUnknown) -> Rejected:
    """Return the problem of a change of which nobody knows whether it was made."""
    return Rejected(
        503, "the database was lost as it committed: look whether it is done before you repeat it"
    )
