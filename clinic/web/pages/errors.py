"""The pages of errors: what happened, and the way on; never what the inside looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, g, make_response, render_template
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException, ServiceUnavailable, TooManyRequests

from clinic.web.api import problems
from clinic.web.pages.texts import span
from clinic.web.security.errors import TooMany
from pgtasks.errors import PgtasksError
from pgtasks.service import CommitUnknown

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

_PAGES = {
    400: ("This request could not be read", "Go back and try again."),
    403: (
        "You may not do this",
        "Your role does not allow it. An administrator of your hospital can change your roles.",
    ),
    404: (
        "There is nothing here",
        "The address may be mistyped, or what was here is gone.",
    ),
    405: ("This page takes no such request", "Begin again at the start page."),
    413: ("That was too much", "What was sent is larger than this site accepts."),
    429: ("Too many requests", "Wait a little, then try again."),
    500: ("Something went wrong", "It was logged and will be looked at."),
    503: ("The database does not answer", "Try again in a moment."),
}
_FORM_ENDED = "This form has expired. Go back, load the page again and send it once more."
_LOST = (
    "The connection was lost",
    "What you sent may be done or not. Look before you send it again.",
)


def init_app(app: Flask) -> None:
    """Answer with a page, and below /api with a problem document."""
    # a path that no route has belongs to no blueprint: one handler serves pages and API
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(TooMany, _of_many)
    app.register_error_handler(CommitUnknown, _of_unknown_commit)


def _of_http(error: HTTPException) -> ResponseReturnValue:
    code = error.code or 500
    if error.response is not None or code < 400:  # a redirect
        return error
    if problems.is_below_api():
        return problems.response(problems.of_http(error))
    return page(error)


def _of_many(error: TooMany) -> ResponseReturnValue:
    if problems.is_below_api():
        return problems.response(problems.of_security(error))
    seconds = max(1, round(error.seconds))
    refused = TooManyRequests(f"Try again in {span(seconds)}.", retry_after=seconds)
    return page(refused)


def _of_unknown_commit(error: CommitUnknown) -> ResponseReturnValue:
    if problems.is_below_api():
        return problems.response(problems.of_unknown_commit(error))
    return page(ServiceUnavailable(), told=_LOST)


def page(error: HTTPException, *, told: tuple[str, str] | None = None) -> ResponseReturnValue:
    """Return the page of an error; `told` is its heading and text in place of those by its code."""
    code = error.code or 500
    heading, text = told or _PAGES.get(code, (error.name, "Begin again at the start page."))
    if isinstance(error, CSRFError):
        text = _FORM_ENDED
    elif code == 429 and error.description:
        text = error.description
    g.asks_nothing = code >= 500
    try:
        body = render_template("error.html", code=code, heading=heading, text=text)
    except (SQLAlchemyError, PgtasksError):
        g.asks_nothing = True
        body = render_template("error.html", code=code, heading=heading, text=text)
    response = make_response(body, code)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response
