"""Log in, refresh, log out, and ask whether a token counts."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clinic.web.api.answers import Tokens, Validity
from clinic.web.api.blueprint import api
from clinic.web.api.bodies import Credentials, Refresh
from clinic.web.api.guards import token_required
from clinic.web.api.operations import answers, takes
from clinic.web.identity import Identity, client
from clinic.web.security import limits, logins, origins, sessions, tokens
from clinic.web.security.tokens import TokenPair


@api.post("/auth/login")
@answers(Tokens, problems=(401, 429))
@takes(Credentials)
def login(body: Credentials) -> Tokens:
    """Exchange a user name and its password for tokens; this begins a session."""
    account = logins.attempt(body.username, body.password, client(), in_browser=False)
    return _shown(tokens.issue(account, client()))


@api.post("/auth/refresh")
@answers(Tokens, problems=(401, 409, 429))
@takes(Refresh)
def refresh(body: Refresh) -> Tokens:
    """Exchange a refresh token for new tokens. One that is used twice ends its session."""
    limits.hit("api", origins.network(client()))  # whose it is, is not known yet
    return _shown(tokens.refresh(body.refresh_token, client()))


@api.post("/auth/logout")
@answers(status=204)
@token_required
def logout(session: Session, identity: Identity) -> None:
    """End the session of the token: all its tokens stop to count at once."""
    sessions.end(identity, client())


@api.post("/auth/revoke")
@answers(status=204, problems=(429,))
@takes(Refresh)
def revoke(body: Refresh) -> None:
    """End the session of a refresh token: a logout for whose access token it is too late."""
    limits.hit("api", origins.network(client()))
    tokens.end(body.refresh_token)


@api.get("/auth/validate")
@answers(Validity)
@token_required
def validate(session: Session, identity: Identity) -> Validity:
    """Say what the token is good for, and how long its session lasts."""
    return Validity(
        user_id=identity.user_id,
        session_id=identity.session_id,
        expires_at=identity.expires_at,
        permissions=sorted(identity.permissions),
    )


def _shown(pair: TokenPair) -> Tokens:
    return Tokens(access_token=pair.access, refresh_token=pair.refresh, expires_in=pair.expires_in)
