"""The routes under /api: for programs, which send a token and never a cookie.

blueprint     what all routes are added to
problems      every error as a problem document (RFC 9457)
kinds         the kinds of values that clients send
bodies        what clients send: the Structs
decoding      how a body or a query becomes one of them
answers       what they get: the Structs
operations    what a route does, checked and documented by its decorators
guards        a token that counts, a permission of its session
scope         which rows a user may see
paging        lists in pages
violations    what the database refuses, as problems that name the field
auth          log in, refresh, log out
me            who sends the request
patients      the patients of a hospital
appointments  list, book, move, cancel
booking       what a booking needs
staff         who can be booked, and when
branches      the places of a hospital
consultations what an invoice is written for
invoices      list, write, pay, void
meanings      what fields mean, for the document
openapi       the document that describes all of it, and its route
"""

from __future__ import annotations

from importlib import import_module

from flask import Flask

_ROUTES = (
    *("auth", "me", "patients", "appointments", "staff", "branches", "consultations", "invoices"),
    "openapi",
)


def init_app(app: Flask) -> None:
    """Add the routes to an application; clinic.web.pages.errors answers for what has no route."""
    from clinic.web.api.blueprint import api

    for name in _ROUTES:
        import_module(f"clinic.web.api.{name}")
    app.register_blueprint(api)
    # no cookie counts here, so no other site can use one: no request needs the token of a form
    app.extensions["csrf"].exempt(api)


__all__ = ["init_app"]
