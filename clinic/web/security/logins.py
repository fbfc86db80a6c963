"""A user name and a password become an account, or the one error that says no more than no."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from clinic.web.identity import Client
from clinic.web.security import aside, limits, origins, passwords, throttle
from clinic.web.security.errors import LoginDelayed, LoginFailed

_LONGEST = 100  # characters of a user name
_ACCOUNT = "SELECT * FROM account_for_login(:username)"
_RECORD = text("SELECT record_login(:username, :user_id, :failure, CAST(:address AS inet), :agent)")
_SUCCEEDED = text("SELECT login_succeeded(:user_id, :verified, :renewed)")


@dataclass(frozen=True)
class Account:
    """An account whose user has just proved to be its user.

    `device` is the name of the browser, for the cookie that lets it be known (`devices.remember`);
    empty for a program. `password_hash` is what the password was compared with: while it stands, a
    session may begin.
    """

    user_id: UUID
    hospital_id: UUID
    username: str
    name: str
    staff_id: UUID | None
    patient_id: UUID | None
    password_hash: str = field(repr=False)
    device: str = ""


def attempt(username: str, password: str, client: Client, *, in_browser: bool = True) -> Account:
    """Return the account of a user name and a password, and write the attempt to login_history.

    Raises LoginFailed for an unknown user, a wrong password and an inactive account, after the same
    time; LoginDelayed after too many wrong passwords for this account from there; RateLimited after
    too many attempts from one address (the limit `login`, which is counted here). A browser that
    the user is known by has a count of its own for both; `in_browser` lets this one be known.
    """
    username = normalized(username)
    limits.hit("login", throttle.origin(username, client))
    try:
        key = throttle.reserve(username, client)
    except LoginDelayed:
        _noted(username, None, "locked", client)
        raise
    found = aside.row(_ACCOUNT, twice=True, username=username)
    is_right = passwords.verified(None if found is None else found.password_hash, password)
    if found is None or not is_right or not found.is_active:
        failure = _failure(found, is_right=is_right)
        user_id = None if found is None else found.user_id
        _noted(username, user_id, failure, client)
        raise LoginFailed
    device = (client.device or new_device()) if in_browser else ""
    return _succeeded(found, password, client, key, device)


def normalized(username: str) -> str:
    """Return a user name as the database has it: small letters, nothing around it."""
    return origins.bounded(username.strip().lower(), _LONGEST + 1)


def new_device() -> str:
    """Return a name for a browser that has none."""
    return secrets.token_urlsafe(16)


def _failure(found: Row[tuple[object, ...]] | None, *, is_right: bool) -> str:
    if found is None:
        return "unknown_user"
    return "inactive" if is_right else "wrong_password"


def _succeeded(
    found: Row[tuple[object, ...]], password: str, client: Client, key: str, device: str
) -> Account:
    verified = found.password_hash
    renewed = passwords.hashed(password) if passwords.outdated(verified) else None
    hashes = {"user_id": found.user_id, "verified": verified, "renewed": renewed}

    def note(session: Session) -> bool:
        is_current = bool(session.scalar(_SUCCEEDED, hashes))
        failure = None if is_current else "wrong_password"  # it was changed a moment ago
        _record(session, found.username, found.user_id, failure, client)
        if is_current:
            throttle.clear(session, key, found.username, device)
        return is_current

    if not aside.run(note):
        raise LoginFailed
    return Account(
        user_id=found.user_id,
        hospital_id=found.hospital_id,
        username=found.username,
        name=found.name,
        staff_id=found.staff_id,
        patient_id=found.patient_id,
        password_hash=renewed or verified,
        device=device,
    )


def _noted(username: str, user_id: UUID | None, failure: str, client: Client) -> None:
    aside.run(lambda session: _record(session, username, user_id, failure, client), twice=True)


def _record(
    session: Session, username: str, user_id: UUID | None, failure: str | None, client: Client
) -> None:
    session.execute(
        _RECORD,
        {
            "username": username,
            "user_id": user_id,
            "failure": failure,
            "address": origins.address(client),
            "agent": origins.agent(client),
        },
    )
