"""The pages, for people with a browser: no script, forms that survive a mistake.

blueprint     the blueprint `pages`, and what an application needs for it
guards        who is logged in, and what a view asks of them
fields        fields of forms, and what they refuse
forms         the forms
paths         paths of this application that a request names
login         log in, log out
registration  a new patient with an account
dashboard     the first page, by role
appointments  list, cancel
booking       book an appointment
users         the accounts of a hospital, for its administrators
account       the own password, the own sessions
database      the life of the data, for administrators
listing       a list in pages
texts         how days, times and sizes are written
errors        the pages of errors
"""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the pages to an application."""
    from clinic.web.pages import blueprint

    blueprint.init_app(app)


__all__ = ["init_app"]
