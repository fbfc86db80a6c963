"""Sessions: rows decide, a token only names one. Of the token the row has the SHA-256.

A browser has its token in a cookie; a program has an access token with the session's ID in it. Both
are looked up with each request, so that what ends a session ends it at once.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from clinic.access import UserSession
from clinic.web.factory import clinic
from clinic.web.identity import Client, Identity
from clinic.web.security import aside, events, origins, walls
from clinic.web.security.errors import LoginFailed
from clinic.web.security.logins import Account

_START = (
    "SELECT * FROM start_session(:user_id, :verified, :kind, :token_hash, :refresh_hash,"
    " :lifetime * interval '1 second', :remembered, CAST(:address AS inet), :agent)"
)
_ACCOUNT = text(
    "SELECT * FROM session_account(:kind, :token_hash, CAST(:session_id AS uuid),"
    " :idle * interval '1 second')"
)
_TOUCH = "SELECT touch_session(:session_id, :after * interval '1 second')"
_LONGEST = 200  # characters of a token
_MINUTE = 60
_MOST_SEEN = 10_000  # sessions whose last touch a process remembers
_touched: OrderedDict[UUID, float] = OrderedDict()


@dataclass(frozen=True)
class Started:
    """A session that was opened; `token` is for its client alone, and kept nowhere."""

    token: str
    session_id: UUID
    expires_at: datetime


def start(
    account: Account,
    client: Client,
    *,
    kind: str = "web",
    remember: bool = False,
    refresh_token: str = "",
) -> Started:
    """Open a session, and record the login.

    `remember` makes it a longer one that does not end by being idle. `kind` is `web` or `api`; one
    of a program comes by `tokens.issue`, with its first refresh token. Raises LoginFailed for an
    account that was switched off, or got another password, since its user logged in.
    """
    security = clinic().security
    lifetime = security.remember_lifetime if remember else security.session_lifetime
    if kind == "api":
        lifetime = security.refresh_token
    token = secrets.token_urlsafe(32)
    made = aside.row(
        _START,
        user_id=account.user_id,
        verified=account.password_hash,
        kind=kind,
        token_hash=digest(token),
        refresh_hash=digest(refresh_token) if refresh_token else None,
        lifetime=lifetime,
        remembered=remember,
        address=origins.address(client),
        agent=origins.agent(client),
    )
    if made is None:
        raise LoginFailed
    _record("login", client, account, kind=kind, session_id=made.session_id)
    return Started(token, made.session_id, made.expires_at)


def identity(session: Session, token: str) -> Identity | None:
    """Return who a browser's token is of, and name them in the session's transaction.

    None for a token that is unknown, and where the session is revoked, expired or idle for too
    long, or the account is switched off.
    """
    if not token or len(token) > _LONGEST:
        return None
    return _identified(
        session, kind="web", token_hash=digest(token), idle=clinic().security.session_idle
    )


def identity_of(session: Session, session_id: UUID) -> Identity | None:
    """Return who the session of a verified access token is of, as `identity` does."""
    return _identified(session, kind="api", session_id=session_id)


def seen(identity: Identity) -> None:
    """Keep a session from being idle; at most once a minute, in a transaction of its own."""
    after = min(_MINUTE, clinic().security.session_idle / 4)
    now = time.monotonic()
    if now - _touched.get(identity.session_id, -_MINUTE) < after:
        return
    aside.row(_TOUCH, twice=True, session_id=identity.session_id, after=after)
    _touched[identity.session_id] = now
    if len(_touched) > _MOST_SEEN:
        _touched.popitem(last=False)


def end(identity: Identity, client: Client) -> None:
    """End the session of an identity: a logout."""
    _revoke(identity, UserSession.session_id == identity.session_id)
    events.record("logout", client, identity=identity, session_id=identity.session_id)


def end_one(identity: Identity, session_id: UUID, client: Client) -> bool:
    """End one of the user's own sessions; return whether there was such an open one."""
    mine = UserSession.user_id == identity.user_id
    ended = _revoke(identity, mine, UserSession.session_id == session_id)
    if ended:
        events.record("session_ended", client, identity=identity, session_id=session_id)
    return bool(ended)


def end_others(identity: Identity, client: Client) -> int:
    """End all other sessions of the user; return their number."""
    ended = aside.run(lambda session: revoke_others(session, identity), identity=identity)
    note_ended(identity, identity.user_id, ended, client)
    return ended


def end_all(identity: Identity, user_id: UUID, client: Client) -> int:
    """End all sessions of a user of the same hospital, by an administrator; return their number."""
    ended = aside.run(lambda session: revoke_all(session, user_id), identity=identity)
    note_ended(identity, user_id, ended, client)
    return ended


def revoke_others(session: Session, identity: Identity) -> int:
    """End all other sessions of the user, in the session's transaction; return their number."""
    mine = UserSession.user_id == identity.user_id
    return _revoked(session, mine, UserSession.session_id != identity.session_id)


def revoke_all(session: Session, user_id: UUID) -> int:
    """End all sessions of a user, in the session's transaction; return their number."""
    return _revoked(session, UserSession.user_id == user_id)


def note_ended(identity: Identity, user_id: UUID, number: int, client: Client) -> None:
    """Record that sessions of a user were ended, if there were any."""
    if number:
        events.record("sessions_ended", client, identity=identity, of_user=user_id, number=number)


def listed(session: Session, identity: Identity) -> list[UserSession]:
    """Return the open sessions of the user, the latest first."""
    return list(
        session.scalars(
            select(UserSession)
            .where(UserSession.user_id == identity.user_id, *_OPEN)
            .order_by(UserSession.issued_at.desc(), UserSession.session_id)
        )
    )


def digest(token: str) -> str:
    """Return the SHA-256 of a token: its 256 bits are random, and need no slower hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


_OPEN = (UserSession.revoked_at.is_(None), UserSession.expires_at > func.now())


def _identified(session: Session, **by: Any) -> Identity | None:
    walls.check(session)
    parameters = {"token_hash": None, "session_id": None, "idle": None, **by}
    found = session.execute(_ACCOUNT, parameters).mappings().first()
    if found is None:
        return None
    known = dict(found)
    roles, permissions = frozenset(known.pop("roles")), frozenset(known.pop("permissions"))
    return Identity(**known, roles=roles, permissions=permissions)


def _revoke(identity: Identity, *which: Any) -> int:
    return aside.run(lambda session: _revoked(session, *which), identity=identity, twice=True)


def _revoked(session: Session, *which: Any) -> int:
    statement = (
        update(UserSession)
        .where(*which, *_OPEN)
        # a session may have begun since this transaction has, and clocks are set back
        .values(revoked_at=func.greatest(func.clock_timestamp(), UserSession.issued_at))
        .returning(UserSession.session_id)
        .execution_options(synchronize_session=False)
    )
    return len(session.execute(statement).all())


def _record(event: str, client: Client, account: Account, **details: Any) -> None:
    events.record(
        event,
        client,
        username=account.username,
        user_id=account.user_id,
        hospital_id=account.hospital_id,
        **details,
    )
