"""Accounts: a patient registers, a user changes the password."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import date
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clinic.access import Role, User, UserRole
from clinic.organisation import Branch, Patient
from clinic.web import constraints
from clinic.web.identity import Client, Identity
from clinic.web.security import (
    aside,
    events,
    limits,
    logins,
    origins,
    passwords,
    sessions,
    throttle,
)
from clinic.web.security.errors import (
    FieldError,
    UnknownBranch,
    UsernameInvalid,
    UsernameTaken,
    WeakPassword,
    WrongPassword,
)
from clinic.web.security.logins import Account

USERNAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{2,99}")
_ROLE = "patient"
_CHECKS = "ck_patients_"
_PLACES = text("SELECT * FROM registration_places()")
_NAME = text(
    "SELECT set_config('clinic.user', :username, true),"
    " set_config('clinic.hospital', :hospital, true)"
)
_ACCOUNT = "SELECT * FROM account_for_login(:username)"


@dataclass(frozen=True)
class Place:
    """A branch where one can register."""

    hospital_id: UUID
    hospital: str
    branch_id: UUID
    branch: str
    city: str


@dataclass(frozen=True)
class Registration:
    """What a patient says of themselves; the form has checked lengths and formats."""

    branch_id: UUID
    username: str
    password: str = field(repr=False)
    first_name: str
    last_name: str
    born_on: date
    gender: str = "unknown"
    email: str | None = None
    phone: str | None = None


def places() -> list[Place]:
    """Return the branches that take registrations."""
    rows = aside.run(lambda session: session.execute(_PLACES).mappings().all(), twice=True)
    return [Place(**row) for row in rows]


def register(registration: Registration, client: Client) -> Account:
    """Create a patient with an account, whole or not at all.

    Raises UsernameTaken, UsernameInvalid, WeakPassword or UnknownBranch, all of them FieldErrors;
    RateLimited after too many registrations from one address (the limit `registration`, which is
    counted here).
    """
    username = registration.username.strip().lower()
    if not USERNAME.fullmatch(username):
        raise UsernameInvalid
    if weakness := passwords.weakness(registration.password, username=username):
        raise WeakPassword(weakness)
    _check_text(registration)
    limits.hit("registration", origins.network(client))
    place = next((one for one in places() if one.branch_id == registration.branch_id), None)
    if place is None:
        raise UnknownBranch
    password_hash = passwords.hashed(registration.password)

    device = client.device or logins.new_device()

    def insert(session: Session) -> Account:
        account = _inserted(session, registration, place, username, password_hash)
        throttle.know(session, username, device)
        return replace(account, device=device)

    try:
        account = aside.run(insert)
    except IntegrityError as exc:
        raise _refusal(exc) from None
    events.record(
        "registered",
        client,
        username=username,
        user_id=account.user_id,
        hospital_id=account.hospital_id,
    )
    return account


def change_password(identity: Identity, current: str, new: str, client: Client) -> None:
    """Change the user's password, which needs the current one.

    Raises WrongPassword or WeakPassword; LoginDelayed after too many wrong ones, which count as
    failed logins. Other sessions end in the same transaction: whoever has one of them had the old
    password.
    """
    weakness = passwords.weakness(new, username=identity.username)
    if weakness or new == current:
        raise WeakPassword(weakness or "not the password that you have")
    key = throttle.reserve(identity.username, client)
    found = aside.row(_ACCOUNT, twice=True, username=identity.username)
    if not passwords.verified(None if found is None else found.password_hash, current):
        events.record("password_change_refused", client, identity=identity)
        raise WrongPassword
    password_hash = passwords.hashed(new)

    def write(session: Session) -> int:
        session.execute(
            update(User)
            .where(User.user_id == identity.user_id)
            .values(password_hash=password_hash)
            .execution_options(synchronize_session=False)
        )
        throttle.clear(session, key, identity.username, "")  # last, as a login does
        return sessions.revoke_others(session, identity)

    ended = aside.run(write, identity=identity)
    events.record("password_changed", client, identity=identity)
    sessions.note_ended(identity, identity.user_id, ended, client)


def _check_text(registration: Registration) -> None:
    """Raise FieldError for a text that the database cannot hold: a NUL, half a character."""
    for name in ("first_name", "last_name", "email", "phone"):
        given = getattr(registration, name) or ""
        if origins.bounded(given, len(given)) != given:
            raise FieldError(name, "has a character that cannot be stored")


def _refusal(exc: IntegrityError) -> Exception:
    """Return what a constraint that was broken says to the user: whose field it is of."""
    constraint = constraints.violated(exc)
    if constraint == "uq_users_username":
        return UsernameTaken()
    if constraint.startswith(_CHECKS):
        field = re.sub("_filled$", "", constraint[len(_CHECKS) :])
        return FieldError(field, "is not valid")
    return exc


def _inserted(
    session: Session, form: Registration, place: Place, username: str, password_hash: str
) -> Account:
    hospital = {"username": username, "hospital": str(place.hospital_id)}
    session.execute(_NAME, hospital)
    if session.scalar(select(Branch.branch_id).filter_by(branch_id=place.branch_id)) is None:
        raise UnknownBranch
    patient = Patient(
        hospital_id=place.hospital_id,
        branch_id=place.branch_id,
        record_no=f"W{secrets.randbelow(10**10):010}",
        first_name=form.first_name,
        last_name=form.last_name,
        born_on=form.born_on,
        gender=form.gender,
        email=form.email,
        phone=form.phone,
    )
    session.add(patient)
    session.flush()
    # no object of the session: it would name columns that the application may not write
    user_id = session.execute(
        insert(User)
        .values(
            hospital_id=place.hospital_id,
            patient_id=patient.patient_id,
            username=username,
            password_hash=password_hash,
        )
        .returning(User.user_id)
    ).scalar_one()
    role = session.scalar(select(Role.role_id).filter_by(code=_ROLE))
    session.add(UserRole(user_id=user_id, role_id=role))
    return Account(
        user_id=user_id,
        hospital_id=place.hospital_id,
        username=username,
        name=f"{form.first_name} {form.last_name}",
        staff_id=None,
        patient_id=patient.patient_id,
        password_hash=password_hash,
    )
