"""The routes under /api: for programs, which send a token and never a cookie.

problems      every error as a problem document (RFC 9457)
bodies        what clients send: the Structs, decoded strictly
answers       what they get: the Structs
operations    what a route does, checked and documented by its decorators
guards        a token that counts, a permission of its session
scope         which rows a user may see
paging        lists in pages
violations    what the database refuses, as problems that name the field
auth          log in, refresh, log out
me            who sends the request
patients      )
appointments  ) the resources
invoices      )
openapi       the document that describes all of it
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask

from clinic.web.api import appointments, auth, invoices, me, openapi, patients, problems
from clinic.web.api.operations import answers


def init_app(app: Flask) -> None:
    """Add the routes to an application."""
    api = Blueprint("api", __name__, url_prefix=problems.PREFIX)
    problems.install(api)
    for resource in (auth, me, patients, appointments, invoices):
        api.register_blueprint(resource.routes)

    @api.get("/openapi.json")
    @answers(dict[str, Any])
    def document() -> dict[str, Any]:
        """Return this document."""
        return openapi.document(app)

    app.register_blueprint(api)
    _needs_no_token_of_a_form(app)


def _needs_no_token_of_a_form(app: Flask) -> None:
    """Except the routes from CSRF tokens: no cookie counts here, so no other site can use one."""
    csrf = app.extensions["csrf"]
    for name, blueprint in app.blueprints.items():
        if name.split(".")[0] == "api":
            csrf.exempt(blueprint)
