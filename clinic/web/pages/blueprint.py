"""The blueprint of the pages, and what an application needs for it."""

from __future__ import annotations

from importlib import import_module

from flask import Blueprint, Flask, Response, current_app
from flask_wtf.csrf import CSRFProtect

pages = Blueprint("pages", __name__)
_VIEWS = (
    *("login", "registration", "dashboard", "appointments", "booking", "users", "account"),
    "database",
)


def init_app(app: Flask) -> None:
    """Add the views, the session of a browser, the tokens of forms and the pages of errors."""
    from clinic.web.pages import errors, guards, texts

    for name in _VIEWS:
        import_module(f"clinic.web.pages.{name}")
    CSRFProtect(app)
    guards.init_app(app)
    errors.init_app(app)
    texts.init_app(app)
    app.register_blueprint(pages)


@pages.get("/favicon.ico")
def favicon() -> Response:
    """Send the icon to browsers that ask before they have read a page."""
    return current_app.send_static_file("icon.svg")
