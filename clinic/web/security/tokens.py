"""The tokens of programs: an access token for minutes, and a refresh token that is used once.

The access token is a JWT, signed and not encrypted: it has IDs and times. Whether its session is
still open is looked up with each request. The refresh token is random, and its row decides.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import jwt

from clinic.web.factory import clinic
from clinic.web.identity import Client
from clinic.web.security import aside, events, sessions
from clinic.web.security.errors import TokenExpired, TokenInvalid, TokenJustUsed, TokenReused
from clinic.web.security.logins import Account

AUDIENCE = "clinic-api"
_ALGORITHM = "HS256"  # the only one: what a token's header says is not asked
_TYPE = "access"
_REQUIRED = ["iss", "aud", "sub", "sid", "jti", "typ", "iat", "exp"]
_LONGEST = 2000  # characters of a token
_ROTATE = "SELECT * FROM rotate_refresh_token(:token_hash, :next_hash)"
_END = "SELECT end_session_of_refresh_token(:token_hash)"


@dataclass(frozen=True)
class TokenPair:
    """What a program gets after a login and a refresh; `expires_in` is in seconds, of `access`."""

    access: str
    refresh: str
    expires_in: int


@dataclass(frozen=True)
class Claims:
    """What a verified access token says; of its session the row decides (`identity_of`)."""

    user_id: UUID
    session_id: UUID
    jti: str
    expires_at: datetime


def issue(account: Account, client: Client) -> TokenPair:
    """Open a session of a program and return its first tokens."""
    refresh_token = secrets.token_urlsafe(32)
    started = sessions.start(account, client, kind="api", refresh_token=refresh_token)
    return _pair(account.user_id, started.session_id, refresh_token, started.expires_at)


def refresh(refresh_token: str, client: Client) -> TokenPair:
    """Exchange a refresh token for the next one, with a new access token.

    Raises TokenJustUsed where it was used less than 10 seconds ago, TokenReused where before that:
    the session is then revoked with all its tokens. Raises TokenInvalid for an unknown one, and
    where the session has ended. The session ends `refresh_token` seconds after the login.
    """
    following = secrets.token_urlsafe(32)
    if len(refresh_token) > _LONGEST:
        raise TokenInvalid
    done = aside.row(
        _ROTATE,
        token_hash=sessions.digest(refresh_token),
        next_hash=sessions.digest(following),
    )
    if done is None or done.outcome == "invalid":
        raise TokenInvalid
    if done.outcome == "just_used":
        raise TokenJustUsed
    if done.outcome == "reused":
        events.record(
            "refresh_reused",
            client,
            username=done.username,
            user_id=done.user_id,
            hospital_id=done.hospital_id,
            session_id=done.session_id,
        )
        raise TokenReused
    return _pair(done.user_id, done.session_id, following, done.expires_at)


def end(refresh_token: str) -> None:
    """End the session of a refresh token: a logout without a valid access token."""
    if len(refresh_token) <= _LONGEST:
        aside.row(_END, twice=True, token_hash=sessions.digest(refresh_token))


def claims(access: str) -> Claims:
    """Return what an access token says, raising TokenExpired or TokenInvalid.

    Signature, algorithm, issuer, audience, type and time are checked; it may be signed with any of
    the environment's keys.
    """
    if len(access) > _LONGEST:
        raise TokenInvalid
    content = _decoded(access)
    try:
        if content["typ"] != _TYPE or not isinstance(content["jti"], str):
            raise TokenInvalid
        return Claims(
            user_id=UUID(content["sub"]),
            session_id=UUID(content["sid"]),
            jti=content["jti"],
            expires_at=datetime.fromtimestamp(content["exp"], timezone.utc),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, OSError):
        raise TokenInvalid from None


def _decoded(access: str) -> dict[str, Any]:
    for key in clinic().keys:
        try:
            content: dict[str, Any] = jwt.decode(
                access,
                key.reveal(),
                algorithms=[_ALGORITHM],
                audience=AUDIENCE,
                issuer=_issuer(),
                # a server whose clock is a second behind another's must not refuse its tokens
                options={"require": _REQUIRED, "verify_iat": False},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except (jwt.PyJWTError, ValueError, OverflowError):  # not ASCII; a time of infinity
            raise TokenInvalid from None
        return content
    raise TokenInvalid


def _issuer() -> str:
    return f"clinic/{clinic().environment}"


def _pair(user_id: UUID, session_id: UUID, refresh_token: str, ends: datetime) -> TokenPair:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    expires = min(now + timedelta(seconds=clinic().security.access_token), ends)
    content = {
        "iss": _issuer(),
        "aud": AUDIENCE,
        "sub": str(user_id),
        "sid": str(session_id),
        "jti": str(uuid.uuid4()),
        "typ": _TYPE,
        "iat": now,
        "exp": expires,
    }
    access = jwt.encode(content, clinic().keys[0].reveal(), algorithm=_ALGORITHM)
    return TokenPair(access, refresh_token, int((expires - now).total_seconds()))
