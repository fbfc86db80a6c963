"""Who may use a route: a token that counts, a permission of its session.

What a token says of its user is not believed: it names a session, and the row of that decides. So
a logout, a role that was taken away or an account that was closed count from the next request on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import g, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from clinic.web.api import violations
from clinic.web.api.operations import View, noted
from clinic.web.api.problems import Rejected, unauthorized
from clinic.web.factory import clinic
from clinic.web.identity import Identity, client
from clinic.web.security import events, limits, sessions, tokens

_READS = ("GET", "HEAD")


class Denied(Rejected):
    """A user lacks a permission."""

    def __init__(self, module: str, action: str) -> None:
        super().__init__(403, f"you may not do this: {module}.{action} is missing")
        self.module, self.action = module, action


def token_required(view: View) -> View:
    """Hand the view a session and the Identity of the token.

    The session is read-only for GET, and is committed after the view; where its connection is lost
    before that, the view is called once more.
    """

    @functools.wraps(view)
    def guarded(**names: Any) -> Any:
        claims = tokens.claims(_token())
        request.get_data()  # a client that is slow to send its body holds no connection meanwhile

        def unit(session: Session) -> Any:
            identity = sessions.identity_of(session, claims.session_id)
            if identity is None or identity.user_id != claims.user_id:
                raise unauthorized("the session of this token has ended: log in again")
            g.identity = identity
            # not before: whose session was ended uses up nothing of its user's any more
            limits.hit("api", str(identity.user_id))
            return view(session, identity, **names)

        try:
            answer = clinic().service.run(unit, read_only=request.method in _READS)
        except Denied as denied:
            events.denied(
                client(), g.identity, module=denied.module, action=denied.action, path=request.path
            )
            raise
        except DBAPIError as exc:
            if (rejected := violations.rejected(exc)) is None:
                raise
            raise rejected from exc
        sessions.seen(g.identity)
        return answer

    return noted(guarded, needs_token=True, problems=(401, 413, 429))


def require_permission(module: str, action: str, *, or_: str = "") -> Callable[[View], View]:
    """Call the view only for users who may do this in a module; stands below token_required.

    `or_` is another permission that will do, for what two kinds of work need to see.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def permitted(session: Session, identity: Identity, **names: Any) -> Any:
            if not or_ or or_ not in identity.permissions:
                require(identity, module, action)
            return view(session, identity, **names)

        wanted = (f"{module}.{action}", *filter(None, [or_]))
        return noted(permitted, permissions=wanted, problems=(403,))

    return decorate


def require(identity: Identity, module: str, action: str) -> None:
    """Raise Denied (403) where a user may not do this in a module."""
    if not identity.may(module, action):
        raise Denied(module, action)


def _token() -> str:
    sent = request.authorization
    if sent is None or sent.type != "bearer" or not sent.token:
        raise unauthorized("send a token: Authorization: Bearer TOKEN", sent=False)
    return sent.token
