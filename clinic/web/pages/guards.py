"""Who is logged in, and what a view asks of them.

The cookie holds a random token; the row that it belongs to is looked up at each request, so that
a session that was ended, has expired or belongs to a disabled user is over at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flask import Flask, abort, flash, g, redirect, request, session, url_for
from flask_login import LoginManager, UserMixin, current_user, login_user

from clinic.web.factory import clinic
from clinic.web.identity import Identity, client
from clinic.web.security import events, limits, sessions
from clinic.web.security.sessions import Started

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

View = TypeVar("View", bound=Callable[..., Any])
_SIGNED_IN = "signed_in"  # in the cookie of a browser with a session, which may have ended
ENDED = "Your session has ended. Log in again."


class Visitor(UserMixin):  # type: ignore[misc]
    """A user as Flask-Login wants one: its ID is the token of the session."""

    def __init__(self, token: str, identity: Identity | None = None) -> None:
        self.token, self.identity = token, identity

    def get_id(self) -> str:
        """Return what goes into the cookie."""
        return self.token


def load(token: str) -> Visitor | None:
    """Return the user of a token, None where the session is over."""
    identity = clinic().service.run(
        lambda database: sessions.identity(database, token), read_only=True
    )
    if identity is None:
        return None
    sessions.seen(identity)
    return Visitor(token, identity)


def begin(started: Started, *, remember: bool) -> None:
    """Give the browser a session; what its cookie held before is dropped."""
    session.clear()
    session.permanent = remember
    session[_SIGNED_IN] = True
    login_user(Visitor(started.token))


def visitor() -> Identity | None:
    """Return who is logged in; nobody where the database cannot be asked any more."""
    if g.get("asks_nothing"):
        return None
    return current_user.identity if current_user.is_authenticated else None


def signed_in(view: View) -> View:
    """Hand a view who is logged in, and has not sent too much; lead all others to the login."""

    @wraps(view)
    def guarded(**values: Any) -> ResponseReturnValue:
        identity = visitor()
        if identity is None:
            return to_login()
        limits.hit("pages", str(identity.user_id))
        return cast("ResponseReturnValue", view(identity, **values))

    return cast("View", guarded)


def permitted(module: str, action: str) -> Callable[[View], View]:
    """Hand a view who is logged in and may do this; 403 for the others."""

    def decorated(view: View) -> View:
        @wraps(view)
        def guarded(identity: Identity, **values: Any) -> ResponseReturnValue:
            require(identity, module, action)
            return cast("ResponseReturnValue", view(identity, **values))

        return cast("View", signed_in(guarded))

    return decorated


def require(identity: Identity, module: str, action: str) -> None:
    """Answer with 403, and record it, unless a role of the user allows the action."""
    if identity.may(module, action):
        return
    events.denied(client(), identity, module=module, action=action, path=request.path)
    abort(403)


def to_login() -> ResponseReturnValue:
    """Lead to the login and, where that changes nothing, back here after it."""
    if _SIGNED_IN in session:
        session.clear()
        flash(ENDED, "warning")
    wanted = request.full_path.rstrip("?") if request.method == "GET" else ""
    return redirect(url_for("pages.login", next=None if wanted in ("", "/") else wanted))


@dataclass(frozen=True)
class Link:
    """A place in the navigation; `current` is what aria-current says of it."""

    endpoint: str
    text: str
    current: str


# who sees what: endpoint, its word, the permission that it needs
_PLACES = (
    ("pages.dashboard", "Overview", ""),
    ("pages.appointments", "Appointments", "appointments.view"),
    ("pages.users", "Users", "users.view"),
    ("pages.database", "Database", "settings.view"),
    ("pages.account", "Account", ""),
)


def navigation(identity: Identity | None) -> list[Link]:
    """Return the places that somebody may go to."""
    if identity is None:
        return []
    allowed = (place for place in _PLACES if not place[2] or place[2] in identity.permissions)
    return [Link(endpoint, word, _current(endpoint)) for endpoint, word, _ in allowed]


def _current(endpoint: str) -> str:
    here = request.path
    place = url_for(endpoint)
    if here == place:
        return "page"
    return "true" if place != "/" and here.startswith(f"{place}/") else ""


def init_app(app: Flask) -> None:
    """Let an application know who is logged in."""
    manager = LoginManager()
    manager.session_protection = None  # it would hash the address and the browser into the cookie
    manager.user_loader(load)
    manager.init_app(app, add_context_processor=False)
    app.context_processor(_shown)


def _shown() -> dict[str, Any]:
    if request.endpoint == "static":
        return {}
    identity = visitor()
    return {"visitor": identity, "navigation": navigation(identity)}


__all__ = [
    "Visitor",
    "begin",
    "init_app",
    "load",
    "navigation",
    "permitted",
    "require",
    "signed_in",
    "to_login",
    "visitor",
]
